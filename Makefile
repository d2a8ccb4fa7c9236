PYTHON ?= python3
VENV ?= .venv
PIP := $(VENV)/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt
# The pins depend on the version of Python, so an environment that another version made is refused.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
STAMP := $(VENV)/python$(VERSION)

.PHONY: demo test docs golden readme pages clean

# Distil on the embedded digits: no data to fetch, a minute on two cores.
demo: $(STAMP)-run
	$(VENV)/bin/python launch/main.py --config=configs/digits_lenet.py --workdir=runs/demo
	@echo "Open runs/demo/report.html, or read runs/demo/report.md."

# Files start in the order of their names: ordered by their number of tests, a file with one long test would start last.
# A worker that dies ends the tests: after a restart, pytest-xdist can wait for ever.
test: $(STAMP)-test
	$(VENV)/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder --max-worker-restart=0

# The site, in build/docs; a warning is an error. The build runs the tour.
docs: $(STAMP)-docs
	$(VENV)/bin/python -m sphinx -W --keep-going -c docs -d build/doctrees . build/docs
	@echo "Open build/docs/index.html."

# Only after a change that is meant to change numbers.
golden: $(STAMP)-test
	$(VENV)/bin/python tests/golden.py

# The tables of the documentation that the code determines.
readme: $(STAMP)-test
	$(VENV)/bin/python tests/tables.py

# Every command of the documentation at small size, with the data that TFDS prepared in DATA.
pages: $(STAMP)-test
	$(VENV)/bin/python tests/run_pages.py --data_dir=$(DATA)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is not Python 3.11 or newer; name another: make PYTHON=python3.12"; exit 2; }
	@made=$$($(VENV)/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo $(VERSION)); \
	  test "$$made" = "$(VERSION)" || { echo "error: $(VENV) was made by Python $$made and not $(VERSION);" \
	  "delete it, or name another: make PYTHON=$(PYTHON) VENV=$(VENV)-$(VERSION)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(STAMP)-run: $(STAMP) setup.py constraints.txt
	$(PIP) --editable .
	touch $@

$(STAMP)-test: $(STAMP) setup.py constraints.txt
	$(PIP) --editable '.[test]'
	touch $@ $(STAMP)-run

$(STAMP)-docs: $(STAMP) setup.py constraints.txt
	$(PIP) --editable '.[docs]'
	touch $@ $(STAMP)-run

clean:
	rm -rf $(VENV) runs build *.egg-info

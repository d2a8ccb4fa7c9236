PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test golden clean

# Distil on the embedded digits: no data to fetch, a minute on two cores.
demo: $(VENV)/installed
	$(VENV)/bin/python launch/main.py --config=configs/digits_lenet.py --workdir=runs/demo
	@echo "Open runs/demo/report.md, or look at the pictures in runs/demo/figures."

# In the order of names: sorted by their number of tests, a file of one long test is begun last and waited for alone.
test: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

# Only after a change that is meant to change numbers.
golden: $(VENV)/installed-test
	$(VENV)/bin/python tests/golden.py

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; name another: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: $(VENV)/python setup.py constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/python setup.py constraints.txt
	$(PIP) --editable '.[test]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) runs *.egg-info

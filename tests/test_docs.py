"""The site builds without warnings, which runs the tour; the sixty lines run; the commands of all pages parse."""

import json
import re
import subprocess
import sys

import pytest
from tables import ROOT
from test_readme import PAGES, commands

from cckd_jax import __main__ as command_line, cli, comparison
from cckd_jax.benchmark import command as benchmark
from cckd_jax.cli import compare
from cckd_jax.errors import InputError
from cckd_jax.export import command as export, predict
from cckd_jax.studies import command as studies
from cckd_jax.studies.reproduction import command as reproduction

PAGES = [*PAGES, ROOT / 'benchmarks' / 'README.md', ROOT / 'examples' / 'tour.md']
OWN_FILES = ('my_', 'package.module')  # files that the reader writes


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The built site: a warning, such as a page outside the table of contents or a dead link, is an error."""
    folder = tmp_path_factory.mktemp('site')
    words = ['-m', 'sphinx', '-W', '--keep-going', '-q', '-c', 'docs', '-d', folder / 'doctrees', '.', folder / 'html']
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / 'html'


@pytest.mark.timeout(300)
def test_the_site_has_a_front_page_formulas_and_a_tour_that_ran(site):
    assert 'url=docs/index.html' in (site / 'index.html').read_text()
    tour = (site / 'examples' / 'tour.html').read_text()
    (accuracy, *_) = re.findall(r'student: ([\d.]+)% test accuracy\n', tour)
    assert float(accuracy) > 90
    assert 'student.safetensors' in tour  # printed by the last cell
    losses = (site / 'docs' / 'api' / 'losses.html').read_text()
    assert '<msub><mi>L</mi><mi>b</mi></msub>' in re.sub(r'\s+(?=<)', '', losses)  # a formula, as MathML
    assert 'id="cckd_jax.losses.cckd_t"' in losses


def test_sixty_lines_distil(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'examples')
    import minimal  # from the folder of examples

    monkeypatch.setattr(minimal.cpu, 'tune', lambda: None)  # JAX has computed already
    assert len((ROOT / 'examples' / 'minimal.py').read_text().splitlines()) <= 60
    accuracy, share = minimal.main(epochs=(3, 8))
    assert accuracy > 0.9
    assert 0.02 < share < 0.5


def check_study(words):
    (name,) = (word.removeprefix('--study=') for word in words if word.startswith('--study='))
    if '--help' not in words and ':' not in name:
        studies._parse(studies.find_study(name), ['', *(word for word in words if not word.startswith('--study='))])


def check_reproduce(words):
    if words != ['--check']:
        cli.parse(reproduction._define_flags(), ['', *words])


def check_distil(words):
    if not any(own in word for word in words for own in OWN_FILES):
        cli.parse_run(['', *words])


def check_compare(words):
    with pytest.raises(InputError, match='not loaded'):
        compare._compare('compare', *words)


def check_list(name):
    return lambda words: command_line.main([name, *words]) == 0 or pytest.fail(f'{name} {words}')


CHECKS = {
    'distil': check_distil,
    'main': check_distil,
    'study': check_study,
    'reproduce': check_reproduce,
    'benchmark': lambda words: benchmark._parser('').parse_args(words),
    'export': lambda words: export._parser('').parse_args(words),
    'predict': lambda words: predict._parser('').parse_args(words),
    'compare': check_compare,
    'list': check_list('list'),
    'describe': check_list('describe'),
}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_command_has_flags_that_exist(page, monkeypatch):
    def refuse(paths):
        raise InputError('not loaded')

    monkeypatch.setattr(comparison, 'load', refuse)
    for program, name, *words in commands(page.read_text()):
        name = re.sub(r'launch/(\w+)\.py', r'\1', name)
        if program == 'python':
            assert (ROOT / 'launch' / f'{name}.py').exists()
        if not {'KIND', 'CONFIG'} & set(words):
            CHECKS[name](words)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_targets_extras_and_scripts_exist(page):
    lines = '\n'.join(re.findall(r'^    ((?:make|pip|python|\.venv).*)', page.read_text(), re.MULTILINE))
    for target in re.findall(r'^make (\w+)', lines, re.MULTILINE):
        assert re.search(rf'^{target}:', (ROOT / 'Makefile').read_text(), re.MULTILINE), target
    for extra in re.findall(r"\.\[(\w+)\]'", lines):
        assert (
            f"'{extra}': [" in (ROOT / 'setup.py').read_text()
            or f"'{extra}': EXPORT" in (ROOT / 'setup.py').read_text()
        )
    for path in re.findall(r'[\w/]+\.py\b', lines):
        assert (ROOT / path).exists() or path.startswith('my_'), path


def test_the_tour_opens_as_a_notebook():
    words = ['-m', 'jupytext', '--to', 'ipynb', '--output', '-', 'examples/tour.md']
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    cells = json.loads(done.stdout)['cells']
    assert sum(cell['cell_type'] == 'code' for cell in cells) > 8

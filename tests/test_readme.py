"""Code and commands of the documentation run, and its tables agree with the code."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from tables import ROOT, TABLES, between, first_column

from cckd_jax import cli, config as settings
from cckd_jax.cli import config_flags
from cckd_jax.methods import METHODS

README = (ROOT / 'README.md').read_text()
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'CHANGELOG.md', *sorted((ROOT / 'docs').glob('*.md'))]
OWN_FILE = 'my_methods.py'
NETWORKS = ('teacher', 'student')


def python_blocks(text):
    return re.findall(r'```python\n(.*?)```', text, re.DOTALL)


def commands(text):
    """The arguments of every command that an indented line shows."""
    lines = re.sub(r'\\\n *', '', text).splitlines()
    shown = [line.strip() for line in lines if re.match(r'    (cckd-jax|python launch)', line)]
    return [shlex.split(re.split(r' {3,}| &&', line)[0]) for line in shown]


def examples():
    return [block for block in python_blocks(README) if block.startswith(f'# {OWN_FILE}\n')]


# docs/significance.md reads files of a run, and test_studies_engine.py runs the study of docs/studies.md.
@pytest.mark.parametrize('page', ['README.md', 'docs/methods.md', 'docs/data.md', 'docs/evaluation.md'])
def test_python_blocks_run(page):
    blocks = python_blocks((ROOT / page).read_text())
    assert blocks
    for block in blocks:
        exec(compile(block, page, 'exec'), {'__name__': 'block'})


@pytest.fixture(scope='module')
def own_run(tmp_path_factory):
    """The run directory of the command that the README shows for its examples, with smaller networks."""
    folder = tmp_path_factory.mktemp('own')
    (folder / OWN_FILE).write_text('\n\n'.join(examples()))
    (command,) = (command for command in commands(README) if '--config.method=my_methods:DKD' in command)
    arguments = [word.replace('--config=digits_lenet', '--config=digits_lenet:smoke') for word in command[1:]]
    small = [f'--config.{name}.{setting}' for name in NETWORKS for setting in ('model=helpers:Flat', 'epochs=1')]
    less = ['--config.separate.enabled=false', '--config.evaluate.calibration=false', '--config.dataset.examples=128']
    values = ['--config.level=0.8', '--config.target_weight=0.5']
    done = subprocess.run(
        [sys.executable, '-m', 'cckd_jax', *arguments, *values, *small, *less],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests"}', 'JAX_NUM_CPU_DEVICES': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / 'runs' / 'dkd'


def test_the_examples_are_short():
    assert [len(block.splitlines()) < 30 for block in examples()] == [True] * 3


def test_method_and_gate_of_the_readme_run_with_their_hyperparameters(own_run):
    results = json.loads((own_run / 'results.json').read_text())
    expected = {'temperature': 4.0, 'target_weight': 0.5, 'beta': 4.0, 'level': 0.8}
    assert expected.items() <= results['hyperparameters'].items()


def test_the_evaluator_of_the_readme_adds_numbers_a_table_and_a_figure(own_run):
    section = json.loads((own_run / 'results.json').read_text())['SPREAD']
    assert section.keys() == {'teacher', 'student'}
    report = (own_run / 'report.md').read_text()
    assert f'| student | {section["student"]:.3f} |' in report
    assert '(figures/spread.png)' in report
    assert (own_run / 'figures' / 'spread.png').read_bytes().startswith(b'\x89PNG')


def test_a_trained_network_is_loaded_as_the_page_on_settings_shows(own_run):
    (block,) = python_blocks((ROOT / 'docs' / 'settings.md').read_text())
    namespace = {}
    exec(block.replace('runs/digits', str(own_run)), namespace)
    assert namespace['logits'].shape == (360, 10)


@pytest.mark.parametrize(('page', 'name'), [(page, name) for page, tables in TABLES.items() for name in tables])
def test_a_table_is_what_the_code_says(page, name):
    written = between((ROOT / page).read_text(), name)
    assert written == TABLES[page][name](), 'make readme writes the table'


def test_the_table_of_methods_names_every_method_and_says_which_samples_train():
    table = between(README, 'methods')
    assert first_column(table) == list(METHODS)
    for name, method in METHODS.items():
        samples = [*(['significant'] if method.weighting else []), *(['gate'] if method.gate else [])]
        (row,) = re.findall(rf'^\| `{name}` \|.*', table, re.MULTILINE)
        assert row.endswith(f'| {", ".join(samples) or "all"} |')


def test_the_map_names_every_package():
    packages = {f'cckd_jax/{path.parent.name}/' for path in ROOT.glob('cckd_jax/*/__init__.py')}
    assert packages | {'cckd_jax/selection.py'} == set(first_column(between(README, 'map')))


def test_readme_stays_short():
    text = re.sub(r'```.*?```|<!--.*?-->', '', README, flags=re.DOTALL)
    text = re.sub(r'^(    |\|).*$', '', text, flags=re.MULTILINE)
    assert len(text.split()) <= 900


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
    for target, anchor in re.findall(r'\]\((?!http)([^)#]*)#?([^)]*)\)', text):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r'^#+ (.*)$', path.read_text(), re.MULTILINE)
            assert anchor in [slug(heading) for heading in headings], f'{target}#{anchor}'


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_setting_exists(page):
    known = set(config_flags.names(settings.default()))
    own = {'NAME', 'beta', 'level'}  # the last two are the examples'
    for name in re.findall(r'--config\.([\w.]+)=', page.read_text()):
        assert re.sub(r'^(teacher|student)s\.\d\.', r'\1.', name) in known | own


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_the_configs_of_commands_take_their_settings(page):
    for command in commands(page.read_text()):
        config = ''.join(word.removeprefix('--config=') for word in command if word.startswith('--config='))
        changes = [word for word in command if word.startswith('--config.')]
        # Files that the reader writes are not there.
        if config and config != 'my_config.py' and not any('my_' in change for change in changes):
            cli.configured(str(ROOT / config) if config.endswith('.py') else config, changes)

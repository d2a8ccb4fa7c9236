"""The source code: ruff, mypy, and imports that point from the upper packages to the lower ones."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'cckd_jax'

# What each module or package of `cckd_jax` may import, from the lowest to the highest.
BELOW: dict[str, set[str]] = {
    'errors': set(),
    'console': set(),
    'interrupt': set(),
    'provenance': {'__version__'},
    'settings_help': set(),
    'cpu': set(),
    'checks': {'errors'},
    'imports': {'errors'},
    'memoize': set(),
    'io': {'errors'},
    'cache': {'cpu', 'io', 'console', 'errors'},
    'paths': {'errors'},
    'processes': {'console', 'errors', 'interrupt'},
    'losses': {'checks'},
    'selection': {'checks', 'errors'},
    'models': {'errors', 'imports'},
    'data': {'errors', 'cache', 'cpu', 'paths', 'console', 'io'},
    'robustness': {'losses', 'models', 'errors', 'checks'},
    'methods': {'losses', 'selection', 'robustness', 'models', 'errors', 'imports'},
    'training': {
        *{'losses', 'methods', 'models', 'data', 'errors', 'imports', 'console', 'io', 'cache', 'paths'},
        'processes',
    },
    'metrics': {'losses', 'models', 'data', 'errors', 'checks', 'memoize'},
    'evaluation': {'metrics', 'robustness'},
    'synthesis': {'losses', 'models', 'data', 'checks', 'errors', 'io'},
    'report': {'io', 'console', 'imports'},
    'evaluators': {
        *{'report', 'training', 'evaluation', 'robustness', 'methods', 'selection', 'losses', 'models', 'data'},
        *{'errors', 'console', 'io', 'imports', 'paths', 'synthesis', 'memoize'},
    },
    'config_networks': set(),
    'config': {'config_networks', 'methods', 'synthesis', 'errors'},
    'config_check': {'config', 'checks', 'errors'},
    'recipes': {'config'},
    'comparison': {'config', 'settings_help', 'report', 'errors', 'io', 'paths'},
    'experiment': {
        *{'config', 'config_check', 'evaluators', 'report', 'training', 'evaluation', 'robustness', 'methods'},
        *{'selection', 'models', 'data', 'errors', 'console', 'io', 'paths', 'provenance', 'synthesis'},
        *{'memoize', 'processes'},
    },
    'cli': {
        *{'experiment', 'config', 'evaluators', 'training', 'methods', 'models', 'settings_help', 'errors', 'console'},
        *{'interrupt', 'paths', 'cache', 'cpu', 'config_check', 'comparison', 'processes'},
    },
    'studies': {
        *{'cli', 'experiment', 'evaluators', 'evaluation', 'methods', 'losses', 'selection', 'models'},
        *{'config', 'report', 'errors', 'console', 'io', 'imports', 'paths', 'cpu', 'synthesis'},
    },
    'benchmark': {
        *{'cli', 'report', 'training', 'evaluation', 'robustness', 'methods', 'models', 'data', 'errors', 'io'},
        *{'provenance', 'cache', 'cpu'},
    },
    'export': {
        *{'cli', 'experiment', 'config', 'report', 'training', 'models', 'data', 'errors', 'console', 'io', 'paths'},
        *{'provenance', 'cpu', 'imports'},
    },
    '__main__': {'cli', 'interrupt'},
}


@pytest.mark.parametrize('command', [['check'], ['format', '--check']])
def test_ruff(command):
    done = subprocess.run([sys.executable, '-m', 'ruff', *command, '.'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_mypy():
    done = subprocess.run([sys.executable, '-m', 'mypy', 'cckd_jax'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_its_place():
    # `cckd_jax/__init__.py` imports all of them, each when it is first used.
    modules = {path.stem for path in PACKAGE.glob('*.py')} - {'__init__'}
    assert modules | {path.parent.name for path in PACKAGE.glob('*/__init__.py')} == set(BELOW)


def test_no_imports_go_sideways_or_in_circles():
    higher = set(BELOW)
    for name, lower in BELOW.items():
        higher.discard(name)
        assert not lower & (higher | {name}), name


@pytest.mark.parametrize('name', BELOW)
def test_imports_point_down(name):
    for path in _files(name):
        for node in ast.walk(ast.parse(path.read_text())):
            assert _imported(node) <= BELOW[name] | {name}, path


@pytest.mark.parametrize('name', BELOW)
def test_no_permitted_import_is_unused(name):
    imported = [_imported(node) for path in _files(name) for node in ast.walk(ast.parse(path.read_text()))]
    assert set().union(*imported) - {name} == BELOW[name]


@pytest.mark.parametrize('name', BELOW)
def test_an_import_inside_a_function_says_why(name):
    for path in _files(name):
        lines = path.read_text().splitlines()
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                imports = [node for node in function.body if isinstance(node, (ast.Import, ast.ImportFrom))]
                if imports:
                    around = lines[imports[0].lineno - 2 : imports[-1].lineno]
                    assert any('#' in line for line in around), f'{path}: {function.name}'


def _files(name: str) -> list[Path]:
    return [*PACKAGE.glob(f'{name}.py'), *PACKAGE.glob(f'{name}/**/*.py')]


def _imported(node: ast.AST) -> set[str]:
    """The modules and packages of `cckd_jax` that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.split('.')[1] for alias in node.names if alias.name.startswith('cckd_jax.')}
    if isinstance(node, ast.ImportFrom) and node.module == 'cckd_jax':
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('cckd_jax.'):
        return {node.module.split('.')[1]}
    return set()

"""The code's own manners: ruff, and arrows between rooms that point down only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A room may import those to its right, and nothing else of the package.
BELOW = {
    'checks': {'errors'},
    'losses': {'checks'},
    'selection': {'checks', 'errors'},
    'imports': {'errors'},
    'models': {'errors', 'imports'},
    'data': {'errors', 'cache'},
    'robustness': {'losses', 'models', 'errors', 'checks'},
    'methods': {'losses', 'selection', 'robustness', 'models', 'errors', 'imports'},
    'io': {'errors'},
    'training': {'methods', 'models', 'data', 'errors', 'imports', 'console', 'io'},
    'metrics': {'losses', 'models', 'data', 'errors', 'checks'},
    'evaluation': {'metrics', 'robustness'},
    'report': {'io', 'console'},
    'evaluators': {
        *{'report', 'training', 'evaluation', 'robustness', 'methods', 'selection', 'models', 'data'},
        *{'errors', 'console', 'io', 'imports'},
    },
}


@pytest.mark.parametrize('command', [['check'], ['format', '--check']])
def test_ruff(command):
    done = subprocess.run([sys.executable, '-m', 'ruff', *command, '.'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('room', BELOW)
def test_arrows_point_down(room):
    package = ROOT / 'cckd_jax'
    for path in [*package.glob(f'{room}.py'), *package.glob(f'{room}/*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.ImportFrom) and node.module == 'cckd_jax':
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module.startswith('cckd_jax.'):
                modules = [node.module.split('.')[1]]
            assert set(modules) <= BELOW[room] | {room}, path

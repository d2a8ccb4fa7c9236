"""What an import loads, and what an installation contains."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cckd_jax
from cckd_jax import InputError

ROOT = Path(__file__).parents[1]
HEAVY = {
    'tensorflow_datasets',
    'matplotlib',
    'scipy',
    'sklearn',
    'PIL',
    'orbax',
    'tensorboardX',
    'array_record',
    'tqdm',
}


def imported_by(statement):
    script = f'import sys\n{statement}\nprint(*sys.modules)'
    output = subprocess.run([sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(output.split())


def test_the_losses_import_no_heavy_library():
    assert imported_by('from cckd_jax import losses, models, selection').isdisjoint(HEAVY)


def test_a_config_file_does_not_import_jax():
    assert imported_by('import cckd_jax.config, cckd_jax.recipes, cckd_jax.__main__').isdisjoint({*HEAVY, 'jax'})


def test_subpackages_are_attributes():
    assert 'losses' in dir(cckd_jax)
    assert cckd_jax.losses.kd.__name__ == 'kd'
    assert issubclass(InputError, ValueError)
    with pytest.raises(AttributeError, match='no attribute'):
        cckd_jax.nothing  # noqa: B018


def test_the_version_is_written_once():
    files = [ROOT / 'setup.py', ROOT / 'pyproject.toml', ROOT / 'CITATION.cff', *(ROOT / 'cckd_jax').rglob('*.py')]
    pattern = re.compile(rf'version\S*\s*[=:]\s*.{re.escape(cckd_jax.__version__)}')
    assert [path.name for path in files if pattern.search(path.read_text())] == ['__init__.py']

"""`make` installs into an environment of the right Python alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which('make') is None, reason='make is not installed')
def test_an_environment_of_another_python_is_refused(tmp_path):
    other = tmp_path / 'venv' / 'bin' / 'python'
    other.parent.mkdir(parents=True)
    other.write_text('#!/bin/sh\necho 3.9\n')
    other.chmod(0o755)
    command = ['make', 'demo', f'PYTHON={sys.executable}', f'VENV={tmp_path / "venv"}']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'was made by Python 3.9' in done.stdout
    assert [path.name for path in (tmp_path / 'venv').iterdir()] == ['bin']

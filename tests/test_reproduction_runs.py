"""The reproduction from its command to its tables, on the embedded digits."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from cckd_jax.studies.reproduction import command, records

ROOT = Path(__file__).parents[1]


def test_the_digits_fill_every_table(tmp_path):
    (workdir, committed) = (tmp_path / 'work', tmp_path / 'committed')
    reproduce = [
        *(sys.executable, 'launch/reproduce.py', '--tables=2,3,6,7,9', '--datasets=digits', '--seeds=1'),
        # In one process, because the others of the test suite keep the cores busy.
        *('--epochs-scale=0.05', '--processes=1', f'--workdir={workdir}', f'--commit={committed}'),
    ]
    # To run these programs takes more time than to compile them, unlike those of most tests (conftest.py).
    environment = {**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': 'false'}
    first = subprocess.run(reproduce, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    text = (workdir / 'tables.md').read_text()
    for title in ('Table 2', 'Table 3', 'Table 6', 'Table 7', 'Table 9'):
        assert f'## {title}' in text
    assert 'not run' not in text
    rows = list(csv.DictReader((workdir / 'tables.csv').read_text().splitlines()))
    assert {row['seeds'] for row in rows} == {'1'}
    accuracy = {row['row']: float(row['mean']) for row in rows if row['table'] == '2'}
    assert min(accuracy['CCKD-L'], accuracy['CCKD-T']) > 0.85
    # Three epochs are few, and this student learns faster at the larger learning rate.
    assert accuracy['student alone, learning rate 1e-2'] > accuracy['student alone, learning rate 1e-3']
    assert all((workdir / name).exists() for name in ('accuracy.png', 'adversarial_digits.png', 'claims.md'))
    assert f'| CCKD-T | {accuracy["CCKD-T"]:.2%}' in (committed / 'tables.md').read_text()
    finished = records.read(workdir)
    assert len(finished) == 7
    assert len({record['teacher_accuracy'] for record in finished}) == 1
    again = subprocess.run(reproduce, cwd=ROOT, capture_output=True, text=True, check=False)
    assert '7 of 7 runs are finished' in again.stderr
    assert command.main(['reproduce', f'--check={committed}']) == 0

"""Several seeds as ordinary runs, some at a time, and what they come to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cckd_jax.experiment import seeds

LAUNCH = Path(__file__).parents[1] / 'launch' / 'seeds.py'
RESULTS = {
    'method': 'kd',
    'dataset': 'digits',
    'teacher': {'test_accuracy': 0.9},
    'student': {'share_used': 1.0, 'success_rate': None, 'failure_rate': 0.0, 'adversarial_accuracy': 0.5},
    'separate': {'test_accuracy': 0.8},
}


def test_the_interval_is_students_t(tmp_path):
    for seed, accuracy in enumerate([0.90, 0.92, 0.97]):
        (tmp_path / f'seed_{seed}').mkdir()
        found = RESULTS | {'student': RESULTS['student'] | {'test_accuracy': accuracy}}
        (tmp_path / f'seed_{seed}' / 'results.json').write_text(json.dumps(found))
    found = seeds.summary(tmp_path, range(3))
    assert found['student.test_accuracy']['mean'] == pytest.approx(0.93)
    # t of two degrees of freedom at 97.5 % is 4.3027; the standard deviation is sqrt(0.0013).
    assert found['student.test_accuracy']['interval'] == pytest.approx(4.3027 * np.sqrt(0.0013 / 3), rel=1e-4)
    assert found['student.success_rate'] == {'values': [None] * 3, 'mean': None, 'interval': None}
    assert '0.93000 ± 0.08957' in seeds.table(found)


def test_several_teachers_have_a_line_each(tmp_path):
    for seed, accuracies in enumerate([[0.9, 0.5], [0.8, 0.7]]):
        (tmp_path / f'seed_{seed}').mkdir()
        student = RESULTS['student'] | {'test_accuracy': 0.9}
        found = RESULTS | {'teacher': {'test_accuracy': accuracies}, 'student': student}
        (tmp_path / f'seed_{seed}' / 'results.json').write_text(json.dumps(found))
    found = seeds.summary(tmp_path, range(2))
    assert found['teacher.test_accuracy[1]']['values'] == [0.5, 0.7]
    assert found['teacher.test_accuracy[0]']['mean'] == pytest.approx(0.85)
    assert 'teacher.test_accuracy[1]       0.60000' in seeds.table(found)


def test_seeds_run_side_by_side_from_the_shell(tmp_path):
    command = [sys.executable, LAUNCH, '--seeds=2', '--config=configs/digits_lenet.py:smoke', f'--workdir={tmp_path}']
    environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': '1'}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=LAUNCH.parents[1])
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'seeds.json').read_text())
    runs = [json.loads((tmp_path / f'seed_{seed}' / 'results.json').read_text()) for seed in (0, 1)]
    assert [run['seed'] for run in runs] == [0, 1]
    assert found['student.test_accuracy']['values'] == [run['student']['test_accuracy'] for run in runs]
    assert 'seed 1: ' in done.stderr
    assert 'student.test_accuracy' in done.stdout


def test_a_run_that_fails_is_named(tmp_path):
    command = [sys.executable, LAUNCH, '--seeds=1', '--config=configs/absent.py', f'--workdir={tmp_path}']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert 'no config file' in done.stderr
    assert 'seeds [0] did not finish' in done.stderr

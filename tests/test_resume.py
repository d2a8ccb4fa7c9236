"""SIGKILL at several moments, and the same command again: nothing may differ from a run that was left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_trees_equal
from test_loop import final_state, untimed

from cckd_jax.report.metrics import read_rows

ROOT = Path(__file__).parents[1]


def start(workdir):
    command = [
        sys.executable,
        'launch/main.py',
        '--config=configs/digits_lenet.py:smoke',
        f'--workdir={workdir}',
        '--config.save_seconds=0',
        '--config.method=hybrid',  # with a self-regulated teacher, so that its counts are cut in two as well
        '--config.teacher.self_regulate=true',
        '--config.teacher.epochs=4',
        '--config.student.epochs=30',
    ]
    environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': '1'}
    with said(workdir).open('w') as file:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=file)


def said(workdir):
    return workdir.with_suffix('.log')


def wait_for_rows(process, workdir, name, rows):
    deadline = time.monotonic() + 120
    path = workdir / name / 'metrics.jsonl'
    while not (path.exists() and len(path.read_text().splitlines()) >= rows):
        assert process.poll() is None, said(workdir).read_text()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.timeout(300)
def test_killed_and_started_again_ends_bit_identical(tmp_path):
    quiet, killed = tmp_path / 'quiet', tmp_path / 'killed'
    process = start(quiet)
    assert process.wait() == 0, said(quiet).read_text()
    for name, rows in (('teacher', 2), ('student', 5), ('student', 21), ('separate', 9)):
        process = start(killed)
        wait_for_rows(process, killed, name, rows)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    process = start(killed)
    assert process.wait() == 0, said(killed).read_text()
    assert 'resuming after epoch' in said(killed).read_text()
    for name in ('teacher', 'student', 'separate'):
        assert untimed(killed / name) == untimed(quiet / name)
        assert_trees_equal(final_state(killed / name), final_state(quiet / name))
    (counts, counts_of_killed) = (dict(np.load(each / 'significance.npz')) for each in (quiet, killed))
    assert_trees_equal(counts, counts_of_killed)
    assert counts['count'].sum() == sum(row['samples_used'] for row in read_rows(killed / 'teacher'))
    results = [json.loads((workdir / 'results.json').read_text()) for workdir in (quiet, killed)]
    for result in results:
        del result['seconds'], result['teacher']['seconds'], result['student']['seconds']
    assert results[0] == results[1]

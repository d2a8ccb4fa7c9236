"""Several processes train as one process with as many devices, end together, and resume."""

import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from helpers import assert_trees_close, assert_trees_equal
from test_loop import untimed
from test_readme import commands
from together import take_steps

from cckd_jax import cli, experiment, processes
from cckd_jax.cli import load
from cckd_jax.errors import InputError
from cckd_jax.report.metrics import read_rows
from cckd_jax.studies.jobs import override

ROOT = Path(__file__).parents[1]
PAGE = ROOT / 'docs' / 'processes.md'
ENDED = 'error: another process ended or cannot be reached; the same commands resume\n'


def free_port():
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        return unused.getsockname()[1]


class Processes:
    """Commands that run at the same time, each with one device."""

    def __init__(self, lines, folder):
        paths = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
        environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': '1', 'PYTHONPATH': paths}
        self.errors = [folder / f'errors_{index}' for index in range(len(lines))]
        self.running = []
        for line, errors in zip(lines, self.errors, strict=True):
            with errors.open('w') as file:
                words = [sys.executable, *line]
                self.running.append(subprocess.Popen(words, cwd=folder, env=environment, stdout=-3, stderr=file))

    def wait(self, timeout=240):
        """Exit statuses, and what each process printed on stderr."""
        try:
            statuses = [process.wait(timeout) for process in self.running]
        finally:
            for process in self.running:
                process.kill()
        # On a busy machine, a process waits for the others for so long that it says so.
        waiting = re.compile('^waiting for the other processes .*\n', re.MULTILINE)
        return statuses, [waiting.sub('', errors.read_text()) for errors in self.errors]


def together(number, work, folder):
    coordinator = f'127.0.0.1:{free_port()}'
    script = str(ROOT / 'tests' / 'together.py')
    lines = [[script, coordinator, str(number), str(index), work, 'output'] for index in range(number)]
    return Processes(lines, folder).wait()


@pytest.mark.timeout(300)
def test_two_processes_take_the_steps_of_two_devices_and_end_when_process_0_is_killed(tmp_path):
    statuses, printed = together(2, 'steps', tmp_path)
    assert statuses == [-signal.SIGKILL, 1], printed
    assert printed == ['', ENDED]
    measured = pickle.loads((tmp_path / 'output').read_bytes())
    for name, (state, metrics) in take_steps(devices=2).items():
        (together_state, together_metrics) = measured[name]
        assert_trees_close(together_state.params, state.params, rtol=1e-4, atol=1e-6)
        assert_trees_close(together_state.batch_stats, state.batch_stats, rtol=1e-4, atol=1e-6)
        assert_trees_equal(together_state.records, state.records)
        assert_trees_close(together_metrics, metrics, rtol=1e-5)
        assert 0 < metrics[0]['kept'] < metrics[0]['presented']


def test_four_processes_exchange_values_and_end_with_the_error_of_one(tmp_path):
    statuses, printed = together(4, 'messages', tmp_path)
    assert statuses == [2, 2, 2, 2], printed
    told = 'error: process 1: no data on this host\n'
    assert printed == [told, 'error: no data on this host\n', told, told]


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--process_id=0'], '--coordinator and --num_processes missing: several processes need'),
        (['--num_processes=2', '--coordinator=a:1'], '--process_id missing'),
        (['--coordinator=a:1', '--num_processes=2', '--process_id=2'], '--process_id=2 must be in [0, 2)'),
        (['--coordinator=a:1', '--num_processes=0', '--process_id=0'], '--num_processes=0 must be at least 1'),
        (['--coordinator=here', '--num_processes=2', '--process_id=0'], '--coordinator=here must be HOST:PORT'),
        (['--coordinator=a:99999', '--num_processes=2', '--process_id=0'], '--coordinator=a:99999 must be HOST:PORT'),
        (['--coordinator=auto', '--num_processes=2'], '--coordinator=auto asks the cluster'),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message):
    with pytest.raises(InputError) as error:
        cli.parse_run(['', '--config=digits_lenet', '--workdir=runs/digits', *flags])
    assert message in str(error.value)


def test_processes_that_find_nobody_end_with_one_line(tmp_path):
    join = 'from cckd_jax.processes import joining; joining._JOIN_SECONDS = 1; '
    run = 'joining.run_together(lambda: one_line_errors(lambda: joining.start({!r}, {}, {})))'
    script = 'from cckd_jax.cli import one_line_errors; ' + join + run
    lines = [['-c', script.format(f'127.0.0.1:{free_port()}', 2, 1)], ['-c', script.format('auto', None, None)]]
    statuses, (alone, no_cluster) = Processes(lines, tmp_path).wait()
    assert statuses == [2, 2]
    assert re.fullmatch(r'error: the processes did not find each other within 1 s .*\n', alone)
    assert no_cluster.startswith('error: there is no cluster to ask for --coordinator=auto; start the processes with')


def test_a_port_in_use_is_refused():
    with socket.create_server(('', 0)) as taken:
        port = taken.getsockname()[1]
        message = rf'process 0 cannot listen on port {port} \(Address already in use\); give all processes another'
        with pytest.raises(InputError, match=message):
            processes.start(f'127.0.0.1:{port}', 2, 0)


SMALL = {
    **{'teacher.model': 'helpers:Flat', 'student.model': 'helpers:Flat', 'teacher.epochs': 1},
    **{'dataset.examples': 128, 'batch_size': 32, 'student.epochs': 12, 'alpha': 0.05, 'save_seconds': 0.0},
    **{'separate.enabled': False, 'evaluate.calibration': False, 'attack.samples': 16, 'compaction': False},
}


def start_commands_of_the_page(folder):
    shown = [words[1:] for words in commands(PAGE.read_text())]
    address = f'--coordinator=127.0.0.1:{free_port()}'
    small = [f'--config.{name}={value}' for name, value in SMALL.items()]
    words = [[re.sub('--coordinator=.*', address, word) for word in line] + small for line in shown]
    assert [line[-len(small) - 1] for line in words] == ['--process_id=0', '--process_id=1']
    return Processes([['-m', 'cckd_jax', *line] for line in words], folder)


@pytest.mark.timeout(600)
def test_the_commands_of_the_page_train_as_two_devices_and_resume_after_a_kill(tmp_path):
    workdir = tmp_path / 'runs' / 'together'
    pair = start_commands_of_the_page(tmp_path)
    while len(read_rows(workdir / 'student')) < 2:
        assert pair.running[0].poll() is None, pair.errors[0].read_text()
        time.sleep(0.01)
    pair.running[1].kill()
    statuses, printed = pair.wait(timeout=60)
    assert statuses == [1, -signal.SIGKILL]
    assert printed[0].endswith(ENDED)
    assert printed[1] == ''

    statuses, printed = start_commands_of_the_page(tmp_path).wait()
    assert statuses == [0, 0], printed
    assert re.search(r'student: resuming after epoch \d+ of 12', printed[0])
    assert printed[1] == ''
    expected = experiment.run(
        override(load('digits_lenet:smoke'), SMALL), tmp_path / 'alone', devices=jax.devices()[:2]
    )
    for name in ('teacher', 'student'):
        for row, expected_row in zip(untimed(workdir / name), untimed(tmp_path / 'alone' / name), strict=True):
            assert row == pytest.approx(expected_row, rel=1e-4)
    results = json.loads((workdir / 'results.json').read_text())
    assert results['device'] == expected['device'] == '2 x cpu'
    for name in ('teacher', 'student'):
        assert results[name]['test_accuracy'] == expected[name]['test_accuracy']

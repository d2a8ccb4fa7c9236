"""The scripts of benchmarks/ that take too long for tests: their commands parse, their comparisons see differences."""

import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from endurance_parts import caches, memory, runs

from cckd_jax import cli
from cckd_jax.benchmark import command, suites
from cckd_jax.studies.reproduction import command as reproduction, tables

BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'


def gpu(*arguments, **environment):
    return subprocess.run(
        [BENCHMARKS / 'gpu.sh', *arguments],
        env={'PATH': '/usr/bin:/bin', **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


@pytest.mark.parametrize('environment', [{'DATA': '/data'}, {'SMALL': '1', 'VENV': '', 'WHEELS': '/wheels'}])
def test_every_command_of_the_accelerator_script_parses(environment):
    for step in gpu('list', **environment):
        for line in gpu('commands', step, **environment):
            (_, *arguments) = shlex.split(line)
            if arguments[0] == 'launch/benchmark.py':
                options = command._parser('benchmark').parse_args(arguments[1:])
                assert options.suite in suites.SUITES
                assert options.peer in (None, *command.PEERS)
                options.peer = None  # it needs torch
                command._suite_options(options)
            elif arguments[0] == 'launch/reproduce.py':
                values = reproduction._define_flags()
                cli.parse(values, arguments)
                assert set(values.tables) <= tables.TABLES.keys()
                reproduction._choose_datasets(values.tables, values.datasets)
            else:
                assert arguments[:2] in (['-m', 'venv'], ['-m', 'pip'])


def test_an_unknown_step_is_refused():
    with pytest.raises(subprocess.CalledProcessError) as raised:
        gpu('commands', 'warp')
    assert raised.value.returncode == 2
    assert 'error: no step warp' in raised.value.stderr


def test_contents_of_run_directories_differ_in_everything_but_times(tmp_path):
    for name in ('first', 'second'):
        folder = tmp_path / name / 'student'
        folder.mkdir(parents=True)
        (folder / 'metrics.jsonl').write_text(json.dumps({'epoch': 0, 'epoch_seconds': len(name)}) + '\n')
        (folder.parent / 'report.md').write_text(name)
        np.savez(folder.parent / 'teacher_outputs.npz', logits=np.zeros(3))
    compare = lambda: runs.differences(*(runs.contents(tmp_path / name) for name in ('first', 'second')))
    assert compare() == []
    np.savez(tmp_path / 'second' / 'teacher_outputs.npz', logits=np.array([0.0, 0.0, 1e-30]))
    (tmp_path / 'second' / 'student' / 'metrics.jsonl').write_text(json.dumps({'epoch': 1}) + '\n')
    (tmp_path / 'first' / 'report.md').unlink()
    assert compare() == ['report.md', 'student/metrics.jsonl', 'teacher_outputs.npz']
    (tmp_path / 'second' / '.results.json.7.tmp').write_text('')
    assert runs.temporaries(tmp_path) == [str(tmp_path / 'second' / '.results.json.7.tmp')]


def test_growth_of_memory_and_files_is_a_failure():
    flat = [(epoch, 500.0 + epoch % 3, 40) for epoch in range(100)]
    assert memory.summary(flat, 100)['failures'] == []
    growing = [(epoch, 500.0 + epoch, 40 + epoch // 60) for epoch in range(100)]
    assert memory.summary(growing, 100)['failures'] == ['resident memory grows by 9.2%', '1 more files are open']


@pytest.mark.parametrize('damage', caches.DAMAGE)
def test_damage_changes_a_file(damage):
    content = bytes(range(256)) * 10
    assert caches.DAMAGE[damage](content, np.random.default_rng(0)) != content

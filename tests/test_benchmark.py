"""Two processes take turns, and a suite's numbers are where they are said to be."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from cckd_jax.benchmark import sides, suites
from cckd_jax.errors import InputError

LAUNCH = Path(__file__).parents[1] / 'launch' / 'benchmark.py'

COUNTER = """
from cckd_jax.benchmark import protocol

def count(start):
    while True:
        start += 1
        print('this is no answer')
        yield {'seconds': start}

protocol.serve({'count': count})
"""


@pytest.fixture
def command(tmp_path):
    (tmp_path / 'counter.py').write_text(COUNTER)
    return [str(tmp_path / 'counter.py')]


def test_sides_take_turns_and_the_first_turn_is_dropped(command):
    with sides.Side(command) as one, sides.Side(command) as other:
        one.open('count', start=0)
        other.open('count', start=10)
        found = sides.in_turns({'one': one, 'other': other}, rounds=2, title='counting')
    assert found == {'one': [{'seconds': 2}, {'seconds': 3}], 'other': [{'seconds': 12}, {'seconds': 13}]}


def test_a_side_that_ends_is_one_line(command):
    with sides.Side(command) as side, pytest.raises(InputError, match='the measuring process ended'):
        side.once('multiply')


def test_spread_and_ratio_of_pairs():
    assert sides.spread([3.0, 1.0, 2.0]) == {'median': 2.0, 'least': 1.0, 'most': 3.0}
    assert sides.ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == {'median': 2.0, 'least': 1.0, 'most': 3.0}


def test_the_step_suite_prints_a_table_and_writes_its_numbers(tmp_path):
    output = tmp_path / 'step.json'
    arguments = ['--suite=step', '--networks=lenet5_half', '--methods=kd', '--batch_size=64', '--rounds=1']
    command = [sys.executable, LAUNCH, *arguments, f'--output={output}']
    environment = {**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '0'}  # it runs programs more than it compiles them
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert {'suite', 'device', 'cpus', 'versions', 'settings', 'results'} <= found.keys()
    for what in ('forward', 'kd'):
        assert found['results']['lenet5_half'][what]['ours_images_per_second']['median'] > 100
    assert found['results']['lenet5_half']['kd']['compile_seconds'] > 0
    assert [line.split()[:2] for line in done.stdout.splitlines()[2:]] == [
        ['lenet5_half', 'forward'],
        ['lenet5_half', 'kd'],
    ]


def test_the_suite_of_attacks_and_bounds(monkeypatch, tmp_path):
    few = {'forward': 2, 'bounds, crown_ibp': 2}
    monkeypatch.setattr(suites, '_AROUND', few)
    options = suites.Options(8, 1, 2, ['lenet5_half'], ['kd'], 'mnist', None, None)
    (numbers, table) = suites.around(options, tmp_path)
    assert [row[1] for row in table[1:]] == list(few)
    assert numbers['lenet5_half'].keys() == few.keys()
    seconds = [each['seconds_an_image']['median'] for each in numbers['lenet5_half'].values()]
    assert min(seconds[1:]) > seconds[0] > 0


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--suite=steps'], "unknown suite 'steps' (did you mean 'step'?)"),
        (['--suite=step', '--networks=lenet'], "unknown model 'lenet'"),
        (['--suite=step', '--methods=kdd'], "unknown method 'kdd'"),
        (['--suite=step', '--peer=tensorflow'], "unknown peer 'tensorflow'"),
        (['--suite=step', '--rounds=0'], '--rounds=0 must be above 0'),
        (['--suite=epoch', '--epochs=1'], '--epochs=1 must be at least 2'),
    ],
)
def test_bad_arguments_are_one_line(arguments, said, capsys):
    assert runpy.run_path(str(LAUNCH))['main'](arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count('\n') == 1

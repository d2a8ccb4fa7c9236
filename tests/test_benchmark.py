"""Measuring processes take turns, suites write their numbers, and bad arguments are refused before measuring."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from cckd_jax.benchmark import command, profile, suites, workers
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
def counter(tmp_path):
    (tmp_path / 'counter.py').write_text(COUNTER)
    return [str(tmp_path / 'counter.py')]


@pytest.fixture
def options():
    return suites.Options(8, 1, 2, ['lenet5_half'], ['kd'], 'mnist', None, None)


def test_workers_take_turns_and_the_first_turn_is_dropped(counter):
    with workers.Worker(counter) as first, workers.Worker(counter) as second:
        first.open('count', start=0)
        second.open('count', start=10)
        measurements = workers.interleave({'first': first, 'second': second}, rounds=2, title='counting')
    assert measurements == {
        'first': [{'seconds': 2}, {'seconds': 3}],
        'second': [{'seconds': 12}, {'seconds': 13}],
    }


def test_a_worker_that_ends_is_one_line(counter):
    with workers.Worker(counter) as worker, pytest.raises(InputError, match='the measuring process ended'):
        worker.once('multiply')


def test_statistics_and_ratios_of_rounds():
    assert workers.median_min_max([3.0, 1.0, 2.0]) == {'median': 2.0, 'least': 1.0, 'most': 3.0}
    assert workers.ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == {'median': 2.0, 'least': 1.0, 'most': 3.0}


def test_the_step_suite_prints_a_table_and_writes_its_numbers(tmp_path):
    output = tmp_path / 'step.json'
    arguments = ['--suite=step', '--networks=lenet5_half', '--methods=kd', '--batch_size=64', '--rounds=1']
    # It runs programs more than it compiles them.
    environment = {**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '0', 'JAX_NUM_CPU_DEVICES': '2'}
    done = subprocess.run(
        [sys.executable, LAUNCH, *arguments, f'--output={output}', '--precision=bfloat16'],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    assert {'suite', 'device', 'cpus', 'driver', 'xla_flags', 'commit', 'settings', 'results'} <= report.keys()
    assert {'python', 'jax', 'jaxlib'} <= report['versions'].keys()
    assert report['device'].startswith('2 x')
    assert report['settings']['precision'] == 'bfloat16'
    results = report['results']['lenet5_half']
    for method in ('forward', 'kd'):
        assert results[method]['ours_images_per_second']['median'] > 20
    assert results['kd']['compile_seconds'] > 0
    assert results['kd']['share_of_peak'] > 0
    # Forward pass and two gradients of 32 images, each of at least 200,000 multiplications and additions.
    assert results['kd']['flops'] > 3 * 32 * 400_000
    assert [line.split()[:2] for line in done.stdout.splitlines()[2:]] == [
        ['lenet5_half', 'forward'],
        ['lenet5_half', 'kd'],
    ]


def test_the_suite_of_attacks_and_bounds(monkeypatch, tmp_path, options):
    few = {'forward': 2, 'bounds, crown_ibp': 2}
    monkeypatch.setattr(suites, '_IMAGES_PER_TASK', few)
    (numbers, table) = suites.robustness(options, tmp_path)
    assert [row[1] for row in table[1:]] == list(few)
    assert numbers['lenet5_half'].keys() == few.keys()
    seconds = [result['seconds_an_image']['median'] for result in numbers['lenet5_half'].values()]
    assert min(seconds[1:]) > seconds[0] > 0


def test_the_suite_of_images_on_the_disk(monkeypatch, tmp_path, options):
    monkeypatch.setattr(suites, '_STREAMED', 10)
    (numbers, table) = suites.streaming(options._replace(dataset='digits'), tmp_path)
    assert [row[0] for row in table[1:]] == ['pixels', 'digits'] == list(numbers)
    for measured in numbers.values():
        assert measured['images_per_second']['median'] > 20
        assert measured['ratio']['median'] > 0


def test_the_suite_of_seeds(monkeypatch, tmp_path, options):
    monkeypatch.setattr(suites, '_SEEDS', (2,))
    monkeypatch.setattr(suites, 'FORMS', {'unrolled': None})
    (numbers, table) = suites.seeds(options._replace(networks=['lenet5_half']), tmp_path)
    measured = numbers['lenet5_half']['2']['unrolled']
    assert measured['speed_up']['median'] > 0.2
    assert measured['step_seconds']['median'] < measured['compile_seconds']
    assert [row[2] for row in table] == ['form', 'unrolled']


def test_the_old_name_of_the_suite_robustness_is_kept(monkeypatch, options):
    monkeypatch.setitem(suites.SUITES, 'robustness', lambda options, folder: suites.Result({}, [['table']]))
    (report, table) = suites.run('around', options)
    assert (report['suite'], table) == ('robustness', [['table']])


def test_a_profile_names_what_takes_the_time(tmp_path):
    product = jax.jit(lambda matrix: jnp.tanh(matrix @ matrix))
    matrix = jnp.ones((500, 500))
    product(matrix).block_until_ready()
    measured = profile.profiled(lambda: product(matrix).block_until_ready(), tmp_path)
    assert 0 < measured['busy_share'] <= 1
    assert max(measured['longest'].values()) == next(iter(measured['longest'].values())) <= measured['seconds']
    # Operations that overlap count once as busy time; a loop does not count beside its body.
    operations = [('while.1', 0, 9), ('convolution.2', 0, 2), ('wrapped_convert', 1, 3), ('copy.1', 5, 6)]
    summary = profile.summary([profile.Operation(*operation) for operation in operations], 8)
    assert summary['busy_share'] == 4 / 8
    assert summary['limit'] == 'convolution'
    assert summary['seconds_by_kind'] == {'convolution': 2, 'elementwise and reductions': 2, 'copy': 1}
    assert profile.summary([profile.Operation('dot', 0, 1)], 8)['limit'] == 'launches and the host'


@pytest.mark.parametrize(
    ('suite', 'fields', 'machine', 'message'),
    [
        (
            'step',
            {'batch_size': 250},
            {'devices': 4, 'platform': 'cpu'},
            'must be a multiple of the 4 devices',
        ),
        (
            'scaling',
            {'batch_size': 25},
            {'devices': 1, 'platform': 'cpu'},
            'must be a multiple of the 2 devices',
        ),
        ('step', {'peer': ['torch']}, {'devices': 1, 'platform': 'tpu'}, 'set JAX_PLATFORMS=cpu, or omit --peer'),
        ('step', {'peer': ['torch']}, {'devices': 2, 'platform': 'gpu'}, 'set CUDA_VISIBLE_DEVICES=0, or omit --peer'),
    ],
)
def test_devices_that_do_not_fit_are_refused(suite, fields, machine, message, options):
    with pytest.raises(InputError, match=message):
        suites._check_devices(suite, options._replace(**fields), {'device': 'a device', **machine})


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--suite=steps'], "unknown suite 'steps' (did you mean 'step'?)"),
        (['--suite=step', '--networks=lenet'], "unknown model 'lenet'"),
        (['--suite=step', '--methods=kdd'], "unknown method 'kdd'"),
        (['--suite=step', '--peer=tensorflow'], "unknown peer 'tensorflow'"),
        (['--suite=step', '--peer=torch', '--precision=bfloat16'], '--peer=torch computes in float32'),
        (['--suite=epoch', '--peer=torch_graphs'], '--peer=torch_graphs has no suite epoch, only step'),
        (['--suite=step', '--precision=float'], "unknown precision 'float' (did you mean 'float32'?)"),
        (['--suite=step', '--rounds=0'], '--rounds=0 must be above 0'),
        (['--suite=epoch', '--epochs=1'], '--epochs=1 must be at least 2'),
        (['--suite=step', '--output=/missing/x.json'], 'there is no directory /missing; create it first'),
        (['--suite=step', '--output=/'], '--output=/ is a directory'),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(suites, 'own_worker', None)  # nothing is measured
    assert command.main(['benchmark', *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1

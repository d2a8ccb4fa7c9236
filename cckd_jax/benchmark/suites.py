"""The suites of `launch/benchmark.py`: each returns what goes into the JSON, and the table that is printed."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cckd_jax import data
from cckd_jax.benchmark.sides import Side, in_turns, ours, ratio, spread
from cckd_jax.errors import InputError, lookup

ROOT = Path(__file__).parents[2]
_MEBI = 2**20
# What the peer does of the suite `step`.
_PEERS_JOBS = {'forward': 'forward', 'cckd_t': 'step'}


class Options(NamedTuple):
    """What the command line chooses.

    Attributes:
      batch_size: over all devices.
      rounds: how often each side has its turn.
      epochs: of each turn of the suite `epoch`.
      networks, methods: names.
      dataset, data_dir: what epochs are measured on.
      peer: the peer's command, or None.
    """

    batch_size: int
    rounds: int
    epochs: int
    networks: Sequence[str]
    methods: Sequence[str]
    dataset: str
    data_dir: str | None
    peer: Sequence[str] | None


class Result(NamedTuple):
    """Numbers for the JSON, and a table of them for people."""

    numbers: dict[str, Any]
    table: list[list[str]]


def run(name: str, options: Options) -> tuple[dict[str, Any], list[list[str]]]:
    """Runs a suite: everything for the JSON, and the table.

    Raises:
      InputError: there is no suite of that name, or its data are not there.
    """
    suite = lookup(SUITES, name, 'suite')
    with tempfile.TemporaryDirectory() as folder:
        result = suite(options, Path(folder))
    with ours() as side:
        about = side.once('about')
    machine = {'device': about['device'], 'cpus': len(os.sched_getaffinity(0)), 'versions': about['versions']}
    if options.peer:
        with Side(options.peer) as peer:
            machine['versions'] |= {'torch': peer.once('about')['torch']}
    settings = {name: value for name, value in options._asdict().items() if name not in ('data_dir', 'peer')}
    return {'suite': name, **machine, 'settings': settings, 'results': result.numbers}, result.table


def step(options: Options, folder: Path) -> Result:
    """Images a second of a training step and of a forward pass, by network and method; the peer runs CCKD-T."""
    numbers: dict[str, Any] = {}
    table = [['network', 'method', 'images/s', 'least', 'most', 'compile s', 'peer images/s', 'ratio']]
    for network in options.networks:
        arrays = synthetic(folder, network)
        work = {'network': network, 'arrays': arrays, 'batch_size': options.batch_size, 'steps': _steps(network)}
        for method in ['forward', *options.methods]:
            compile_seconds = None
            if method != 'forward':
                with ours() as side:
                    compiling = {name: work[name] for name in ('network', 'arrays', 'batch_size')}
                    compile_seconds = side.once('compiled', **compiling, method=method)['compile_seconds']
            with contextlib.ExitStack() as stack:
                sides = {'ours': stack.enter_context(ours())}
                if method == 'forward':
                    sides['ours'].open('forward', **work)
                else:
                    sides['ours'].open('step', **work, method=method)
                if options.peer and method in _PEERS_JOBS:
                    sides['peer'] = stack.enter_context(Side(options.peer))
                    sides['peer'].open(_PEERS_JOBS[method], **work)
                measured = in_turns(sides, rounds=options.rounds, title=f'{network} {method}')
            seconds = {name: [each['seconds'] for each in found] for name, found in measured.items()}
            found = {
                f'{name}_images_per_second': spread(options.batch_size / np.array(s)) for name, s in seconds.items()
            }
            if 'peer' in seconds:
                found['ratio'] = ratio(seconds['peer'], seconds['ours'])
            numbers.setdefault(network, {})[method] = found | {'compile_seconds': compile_seconds}
            speed = found['ours_images_per_second']
            row = [network, method, *(f'{speed[name]:,.0f}' for name in ('median', 'least', 'most'))]
            row.append('' if compile_seconds is None else f'{compile_seconds:.1f}')
            if 'peer' in seconds:
                row += [f'{found["peer_images_per_second"]["median"]:,.0f}', f'{found["ratio"]["median"]:.2f}']
            table.append(row)
    return Result(numbers, table)


def epoch(options: Options, folder: Path) -> Result:
    """Seconds of whole epochs of CCKD-T with self-regulation, by way of leaving samples out, and ratios to the peer."""
    arrays = _real(folder, options)
    with ours() as side:
        side.once('teacher', arrays=arrays, epochs=3)
    work = {
        'network': 'lenet5_half',
        'arrays': arrays,
        'batch_size': options.batch_size,
        'epochs': options.epochs,
        'alpha': 0.01,
    }
    ways = {f'ours, {way}': (ours, way) for way in ('masked', 'compact', 'recheck')}
    if options.peer:
        ways |= {f'peer, {way}': (lambda: Side(options.peer), way) for way in ('masked', 'kept')}
    with contextlib.ExitStack() as stack:
        sides = {}
        for name, (start, way) in ways.items():
            sides[name] = stack.enter_context(start())
            sides[name].open('epochs', **work, way=way)
        measured = in_turns(sides, rounds=options.rounds, title='epochs')
    # The mean, since rests make epochs unequal: seven hold one cycle of the longest rest. From the second on, since the
    # first has its own share of samples.
    seconds = {name: [np.mean(each['epoch_seconds'][1:]) for each in found] for name, found in measured.items()}
    numbers: dict[str, Any] = {
        name: {
            'epoch_seconds': spread(seconds[name]),
            'last_kept_share': found[-1]['kept_share'][-1],
            'test_accuracy': spread([each['test_accuracy'] for each in found]),
        }
        for name, found in measured.items()
    }
    peers = [name for name in ways if name.startswith('peer')]
    table = [['way', 's/epoch', 'least', 'most', 'last kept', 'accuracy', *(f'time / {name}' for name in peers)]]
    for name in ways:
        found = numbers[name]
        found['times_of'] = {peer: ratio(seconds[name], seconds[peer]) for peer in peers}
        table.append(
            [
                name,
                *(f'{found["epoch_seconds"][each]:.2f}' for each in ('median', 'least', 'most')),
                f'{found["last_kept_share"]:.2%}',
                f'{found["test_accuracy"]["median"]:.2%}',
                *(f'{found["times_of"][peer]["median"]:.2f}' for peer in peers),
            ]
        )
    return Result(numbers, table)


def memory(options: Options, folder: Path) -> Result:
    """Peak bytes: of each network's step, on host and device, and of a whole small run on the data set."""
    numbers: dict[str, Any] = {}
    table = [['what', 'host MiB', 'device MiB', 'program MiB']]
    for network in options.networks:
        arrays = synthetic(folder, network)
        work = {'network': network, 'arrays': arrays, 'batch_size': options.batch_size, 'method': 'cckd_t'}
        with ours() as side:
            program = side.once('compiled', **work)
            side.once('step', **work, steps=2)
            about = side.once('about')
        held = program['argument_bytes'] + program['temporary_bytes']
        numbers[network] = {**program, **{name: about[name] for name in ('peak_bytes', 'device_peak_bytes')}}
        table.append([f'{network} step', *map(_mebi, (about['peak_bytes'], about['device_peak_bytes'], held))])
    command = [
        *(sys.executable, '-c', _PEAK, sys.executable, str(ROOT / 'launch' / 'main.py')),
        f'--config={ROOT / "configs" / "mnist_lenet.py"}',
        *(f'--workdir={folder / "run"}', '--config.teacher.epochs=2', '--config.student.epochs=2'),
        *(f'--config.dataset.name={options.dataset}', f'--config.batch_size={options.batch_size}'),
        *([f'--config.dataset.data_dir={options.data_dir}'] if options.data_dir else []),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise InputError('the whole run failed; what it said is above')
    peak = int(done.stdout.split()[-1])
    numbers['run'] = {'peak_bytes': peak}
    table.append([f'whole run, {options.dataset}', _mebi(peak), '', ''])
    return Result(numbers, table)


def scaling(options: Options, folder: Path) -> Result:
    """Seconds of an epoch and of compiling against examples, classes and devices."""
    numbers: dict[str, Any] = {}
    table = [['what', 's/epoch', 'least', 'most', 'us/image', 'compile s']]
    sizes = [15_000, 30_000, 60_000]
    cases = [(f'{size:,} examples', size, 10, 1) for size in sizes]
    cases += [(f'{classes} classes', sizes[0], classes, 1) for classes in (10, 100)]
    cases += [(f'{devices} devices', sizes[0], 10, devices) for devices in (1, 2)]
    arrays = {classes: synthetic(folder, 'lenet5_half', classes, sizes[-1]) for classes in (10, 100)}
    with ours() as side:
        on_cpu = 'cpu' in side.once('about')['device'].lower()
    for name, examples, classes, devices in cases:
        if devices > 1 and not on_cpu:
            continue  # An accelerator's devices are those that are there; the other suites use them all.
        work = {
            'network': 'lenet5_half',
            'arrays': arrays[classes],
            'batch_size': options.batch_size,
            'examples': examples,
            'method': 'cckd_t_reg',
        }
        environment = {'JAX_NUM_CPU_DEVICES': str(devices)} if on_cpu else {}
        with ours(**environment) as side:
            compile_seconds = side.once('compiled', **work)['compile_seconds']
        with ours(**environment) as side:
            side.open('epochs', **work, epochs=3, alpha=0.01, way='masked')
            measured = in_turns({'ours': side}, rounds=options.rounds, title=name)['ours']
        seconds = spread([np.median(each['epoch_seconds'][1:]) for each in measured])
        numbers[name] = {'epoch_seconds': seconds, 'compile_seconds': compile_seconds}
        each = seconds['median'] / examples * 1e6
        times = [f'{seconds[place]:.2f}' for place in ('median', 'least', 'most')]
        table.append([name, *times, f'{each:.1f}', f'{compile_seconds:.1f}'])
    return Result(numbers, table)


def around(options: Options, folder: Path) -> Result:
    """Milliseconds an image that attacks and bounds take, by network; CROWN for the LeNets alone."""
    numbers: dict[str, Any] = {}
    table = [['network', 'what', 'ms/image', 'least', 'most', 'forward passes']]
    for network in options.networks:
        arrays = synthetic(folder, network)
        forward = None
        for what, images in _AROUND.items():
            if what == 'bounds, crown' and not network.startswith('lenet'):
                continue
            with ours() as side:
                side.open('around', network=network, arrays=arrays, what=what, images=images)
                found = in_turns({'ours': side}, rounds=options.rounds, title=f'{network} {what}')['ours']
            seconds = spread([each['seconds'] for each in found])
            numbers.setdefault(network, {})[what] = {'seconds_an_image': seconds, 'images': images}
            forward = forward or seconds['median']
            times = [f'{1e3 * seconds[place]:.3g}' for place in ('median', 'least', 'most')]
            table.append([network, what, *times, f'{seconds["median"] / forward:,.0f}'])
    return Result(numbers, table)


# How many images are looked at together: bounds hold coefficients of every value in a network.
_AROUND = {
    'forward': 128,
    'fgsm': 128,
    'pgd': 128,
    'square': 128,
    'bounds, ibp': 128,
    'bounds, crown_ibp': 128,
    'bounds, crown': 16,
    'gap, crown_ibp': 128,
}

SUITES: Mapping[str, Callable[[Options, Path], Result]] = {
    'step': step,
    'epoch': epoch,
    'memory': memory,
    'scaling': scaling,
    'around': around,
}


def synthetic(folder: Path, network: str, classes: int = 10, examples: int = 4096) -> str:
    """Random images of the network's shape, with random labels and logits: the work does not depend on the values."""
    path = folder / f'{network}-{classes}-{examples}.npz'
    if not path.exists():
        random = np.random.default_rng(0)
        shape = (28, 28, 1) if network.startswith('lenet') else (32, 32, 3)
        labels = random.integers(0, classes, examples).astype(np.int32)
        images = random.integers(0, 256, (examples, *shape)).astype(np.uint8)
        logits = random.normal(size=(examples, classes)).astype(np.float32)
        np.savez(
            path,
            images=images,
            labels=labels,
            teacher_logits=logits,
            test_images=images[:100],
            test_labels=labels[:100],
        )
    return str(path)


def _real(folder: Path, options: Options) -> str:
    found = data.load(options.dataset, data_dir=options.data_dir)
    path = folder / 'data.npz'
    np.savez(
        path,
        images=found.train.images,
        labels=found.train.labels,
        test_images=found.test.images,
        test_labels=found.test.labels,
    )
    return str(path)


def _steps(network: str) -> int:
    return 50 if network.startswith('lenet') else 2


def _mebi(count: int | None) -> str:
    return '' if count is None else f'{count / _MEBI:,.0f}'


# Runs a command and says the most memory that it held.
_PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == 'darwin' else 1024))
sys.exit(code)
"""

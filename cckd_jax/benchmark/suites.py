"""The suites of the benchmark; each returns the numbers for the JSON file and a table for the terminal."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cckd_jax import cpu, provenance
from cckd_jax.benchmark import arrays
from cckd_jax.benchmark.workers import Worker, interleave, median_min_max, own_worker, ratio
from cckd_jax.errors import InputError, lookup
from cckd_jax.training.seeds import FORMS

ROOT = Path(__file__).parents[2]
_MEBI = 2**20
# The peer's jobs in the suite `step`, by method.
_PEER_JOBS = {'forward': 'forward', 'cckd_t': 'step'}
# Of the peer, by JAX's platform.
_PEER_DEVICES = {'cpu': 'cpu', 'gpu': 'cuda'}
_STATISTICS = ('median', 'least', 'most')


class Options(NamedTuple):
    """Options of the command line.

    Attributes:
      batch_size: over all devices.
      rounds: number of turns of each worker.
      epochs: of each turn of the suite `epoch`.
      networks: names of networks.
      methods: names of methods.
      dataset: of the suites `epoch`, `memory` and `streaming`.
      data_dir: where TFDS prepared the data set; None for its default directory.
      peer: command of the peer, or None.
      precision: of the networks' computation, `float32` or `bfloat16`.
    """

    batch_size: int
    rounds: int
    epochs: int
    networks: Sequence[str]
    methods: Sequence[str]
    dataset: str
    data_dir: str | None
    peer: Sequence[str] | None
    precision: str = 'float32'


class Result(NamedTuple):
    """Numbers for the JSON file, and a table for the terminal."""

    numbers: dict[str, Any]
    table: list[list[str]]


def run(name: str, options: Options) -> tuple[dict[str, Any], list[list[str]]]:
    """Runs a suite and returns the content of the JSON file, and the table.

    Raises:
      InputError: the suite is unknown, its data are missing, or the devices do not fit the options.
    """
    name = _ALIASES.get(name, name)
    suite = lookup(SUITES, name, 'suite')
    with own_worker() as worker:
        info = worker.once('machine_info')
    _check_devices(name, options, info)
    names = ('device', 'versions', 'driver', 'xla_flags')
    machine = {key: info[key] for key in names} | {'cpus': len(cpu.cores()), 'commit': provenance.commit()}
    if options.peer:
        command = [*options.peer, f'--device={_PEER_DEVICES[info["platform"]]}']
        options = options._replace(peer=command)
        with Worker(command) as peer:
            peer_info = peer.once('machine_info')
        machine['versions'] |= {'torch': peer_info['torch']}
        machine['peer'] = {key: peer_info[key] for key in ('device', 'cuda', 'threads')} | {'options': command[1:]}
    with tempfile.TemporaryDirectory() as folder:
        result = suite(options, Path(folder))
    settings = {key: value for key, value in options._asdict().items() if key not in ('data_dir', 'peer')}
    return {'suite': name, **machine, 'settings': settings, 'results': result.numbers}, result.table


def step(options: Options, folder: Path) -> Result:
    """Measures images per second of training steps and forward passes by network and method; a peer runs CCKD-T.

    The share of the peak compares the FLOPs of a step, as XLA estimates them, with those of a large matrix product of
    the same precision on the same devices.
    """
    with own_worker() as worker:
        worker.open('matrix_product', precision=options.precision)
        products = interleave({'ours': worker}, rounds=options.rounds, title='matrix product')['ours']
    peak = max(product['flops_per_second'] for product in products)
    numbers: dict[str, Any] = {'peak_flops_per_second': peak}
    table = [['network', 'method', 'images/s', 'least', 'most', 'compile s', 'of peak', 'peer images/s', 'ratio']]
    for network in options.networks:
        work = {
            'network': network,
            'arrays': arrays.synthetic(folder, network),
            'batch_size': options.batch_size,
        }
        steps = 50 if network.startswith('lenet') else 2
        for method in ['forward', *options.methods]:
            program = {'compile_seconds': None, 'flops': None}
            fields = {'precision': options.precision}
            if method != 'forward':
                fields['method'] = method
                with own_worker() as worker:
                    compiled = worker.once('compiled', **work, **fields)
                program = {key: compiled[key] for key in program}
            with contextlib.ExitStack() as stack:
                workers = {'ours': stack.enter_context(own_worker())}
                workers['ours'].open('forward' if method == 'forward' else 'step', **work, **fields, steps=steps)
                if options.peer and method in _PEER_JOBS:
                    workers['peer'] = stack.enter_context(Worker(options.peer))
                    workers['peer'].open(_PEER_JOBS[method], **work, steps=steps)
                measurements = interleave(workers, rounds=options.rounds, title=f'{network} {method}')
            seconds = {name: np.array([turn['seconds'] for turn in turns]) for name, turns in measurements.items()}
            speeds = {name: median_min_max(options.batch_size / values) for name, values in seconds.items()}
            result: dict[str, Any] = {f'{name}_images_per_second': speed for name, speed in speeds.items()}
            row = [network, method, *(f'{speeds["ours"][key]:,.0f}' for key in _STATISTICS)]
            row.append('' if program['compile_seconds'] is None else f'{program["compile_seconds"]:.1f}')
            result['share_of_peak'] = None
            if program['flops']:
                # XLA counts the FLOPs of one device.
                result['share_of_peak'] = products[0]['devices'] * program['flops'] / np.median(seconds['ours']) / peak
            row.append('' if result['share_of_peak'] is None else f'{result["share_of_peak"]:.1%}')
            if 'peer' in seconds:
                result['ratio'] = ratio(seconds['peer'], seconds['ours'])
                row += [f'{speeds["peer"]["median"]:,.0f}', f'{result["ratio"]["median"]:.2f}']
            numbers.setdefault(network, {})[method] = result | program
            table.append(row)
    return Result(numbers, table)


def epoch(options: Options, folder: Path) -> Result:
    """Measures seconds per epoch of CCKD-T with self-regulation for each mode of the gate, and ratios to a peer."""
    path = arrays.real(folder, options.dataset, options.data_dir)
    with own_worker() as worker:
        worker.once('teacher', arrays=path, epochs=3)
    work = {
        'network': 'lenet5_half',
        'arrays': path,
        'batch_size': options.batch_size,
        'epochs': options.epochs,
        'alpha': 0.01,
    }
    with contextlib.ExitStack() as stack:
        workers = {}
        for mode in ('masked', 'compact', 'recheck'):
            workers[f'ours, {mode}'] = stack.enter_context(own_worker())
            workers[f'ours, {mode}'].open('epochs', **work, mode=mode, precision=options.precision)
        if options.peer:
            for mode in ('masked', 'kept'):
                workers[f'peer, {mode}'] = stack.enter_context(Worker(options.peer))
                workers[f'peer, {mode}'].open('epochs', **work, mode=mode)
        measurements = interleave(workers, rounds=options.rounds, title='epochs')
    # The mean, because resting samples make epochs unequal; seven epochs hold one cycle of the longest rest. The first
    # epoch has its own share of samples and is left out.
    seconds = {name: [np.mean(turn['epoch_seconds'][1:]) for turn in turns] for name, turns in measurements.items()}
    peers = [name for name in workers if name.startswith('peer')]
    numbers: dict[str, Any] = {
        name: {
            'epoch_seconds': median_min_max(seconds[name]),
            'last_kept_share': turns[-1]['kept_share'][-1],
            'test_accuracy': median_min_max([turn['test_accuracy'] for turn in turns]),
            'times_of': {peer: ratio(seconds[name], seconds[peer]) for peer in peers},
        }
        for name, turns in measurements.items()
    }
    table = [['mode', 's/epoch', 'least', 'most', 'last kept', 'accuracy', *(f'time / {name}' for name in peers)]]
    for name, result in numbers.items():
        times = [f'{result["epoch_seconds"][key]:.2f}' for key in _STATISTICS]
        shares = [f'{result["last_kept_share"]:.2%}', f'{result["test_accuracy"]["median"]:.2%}']
        table.append([name, *times, *shares, *(f'{result["times_of"][peer]["median"]:.2f}' for peer in peers)])
    return Result(numbers, table)


def memory(options: Options, folder: Path) -> Result:
    """Measures peak bytes of a step of each network, on host and device, and of a short run on the data set."""
    numbers: dict[str, Any] = {}
    table = [['what', 'host MiB', 'device MiB', 'program MiB']]
    for network in options.networks:
        work = _step_of(network, options, folder)
        with own_worker() as worker:
            program = worker.once('compiled', **work)
            worker.once('step', **work, steps=2)
            info = worker.once('machine_info')
        program_bytes = program['argument_bytes'] + program['temporary_bytes']
        numbers[network] = {**program, **{key: info[key] for key in ('peak_bytes', 'device_peak_bytes')}}
        table.append([f'{network} step', *map(_mebi, (info['peak_bytes'], info['device_peak_bytes'], program_bytes))])
    command = [
        *(sys.executable, '-c', _PEAK, sys.executable, str(ROOT / 'launch' / 'main.py')),
        f'--config={ROOT / "configs" / "mnist_lenet.py"}',
        *(f'--workdir={folder / "run"}', '--config.teacher.epochs=2', '--config.student.epochs=2'),
        *(f'--config.dataset.name={options.dataset}', f'--config.batch_size={options.batch_size}'),
        f'--config.precision={options.precision}',
        *([f'--config.dataset.data_dir={options.data_dir}'] if options.data_dir else []),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise InputError('the run of the suite memory failed; its messages are above')
    peak = int(done.stdout.split()[-1])
    numbers['run'] = {'peak_bytes': peak}
    table.append([f'whole run, {options.dataset}', _mebi(peak), '', ''])
    return Result(numbers, table)


def scaling(options: Options, folder: Path) -> Result:
    """Measures seconds per epoch and compile seconds over numbers of examples, classes and devices."""
    numbers: dict[str, Any] = {}
    table = [['what', 's/epoch', 'least', 'most', 'us/image', 'compile s']]
    sizes = [15_000, 30_000, 60_000]
    cases = [(f'{size:,} examples', size, 10, 1) for size in sizes]
    cases += [(f'{classes} classes', sizes[0], classes, 1) for classes in (10, 100)]
    cases += [(f'{devices} devices', sizes[0], 10, devices) for devices in (1, 2)]
    paths = {classes: arrays.synthetic(folder, 'lenet5_half', classes, sizes[-1]) for classes in (10, 100)}
    with own_worker() as worker:
        on_cpu = worker.once('machine_info')['platform'] == 'cpu'
    for name, examples, classes, devices in cases:
        if devices > 1 and not on_cpu:
            continue  # The number of accelerators is fixed; the other suites use all of them.
        work = {
            'network': 'lenet5_half',
            'arrays': paths[classes],
            'batch_size': options.batch_size,
            'examples': examples,
            'method': 'cckd_t_reg',
            'precision': options.precision,
        }
        environment = {'JAX_NUM_CPU_DEVICES': str(devices)} if on_cpu else {}
        with own_worker(**environment) as worker:
            compile_seconds = worker.once('compiled', **work)['compile_seconds']
        with own_worker(**environment) as worker:
            worker.open('epochs', **work, epochs=3, alpha=0.01, mode='masked')
            turns = interleave({'ours': worker}, rounds=options.rounds, title=name)['ours']
        seconds = median_min_max([np.median(turn['epoch_seconds'][1:]) for turn in turns])
        numbers[name] = {'epoch_seconds': seconds, 'compile_seconds': compile_seconds}
        times = [f'{seconds[key]:.2f}' for key in _STATISTICS]
        table.append([name, *times, f'{seconds["median"] / examples * 1e6:.1f}', f'{compile_seconds:.1f}'])
    return Result(numbers, table)


def robustness(options: Options, folder: Path) -> Result:
    """Measures milliseconds per image of attacks and bounds by network; CROWN only for LeNets."""
    numbers: dict[str, Any] = {}
    table = [['network', 'what', 'ms/image', 'least', 'most', 'forward passes']]
    for network in options.networks:
        work = {
            'network': network,
            'arrays': arrays.synthetic(folder, network),
            'precision': options.precision,
        }
        forward = None
        for task, images in _IMAGES_PER_TASK.items():
            if task == 'bounds, crown' and not network.startswith('lenet'):
                continue
            with own_worker() as worker:
                worker.open('robustness', **work, task=task, images=images)
                turns = interleave({'ours': worker}, rounds=options.rounds, title=f'{network} {task}')['ours']
            seconds = median_min_max([turn['seconds'] for turn in turns])
            numbers.setdefault(network, {})[task] = {'seconds_an_image': seconds, 'images': images}
            forward = forward or seconds['median']
            times = [f'{1e3 * seconds[key]:.3g}' for key in _STATISTICS]
            table.append([network, task, *times, f'{seconds["median"] / forward:,.0f}'])
    return Result(numbers, table)


def streaming(options: Options, folder: Path) -> Result:
    """Measures images per second that arrive on the devices from the disk, and the ratio to plain reading."""
    numbers: dict[str, Any] = {}
    table = [['source', 'images/s', 'least', 'most', 'reading images/s', 'ratio']]
    shared = {
        'data_dir': options.data_dir,
        'folder': str(folder),
        'batch_size': options.batch_size,
        'count': _STREAMED,
    }
    with own_worker() as worker:
        for source in ('pixels', options.dataset):
            worker.open('streaming', source=source, **shared)
            turns = interleave({'ours': worker}, rounds=options.rounds, title=source)['ours']
            (seconds, read) = (np.array([turn[key] for turn in turns]) for key in ('seconds', 'read_seconds'))
            (speeds, reading) = (median_min_max(turns[0]['images'] / values) for values in (seconds, read))
            ratios = ratio(read, seconds)
            numbers[source] = {'images_per_second': speeds, 'reading_images_per_second': reading, 'ratio': ratios}
            row = [f'{speeds[key]:,.0f}' for key in _STATISTICS]
            table.append([source, *row, f'{reading["median"]:,.0f}', f'{ratios["median"]:.2g}'])
    return Result(numbers, table)


def profile(options: Options, folder: Path) -> Result:
    """Measures what the time of a CCKD-T step goes to by network, from a trace, and names the largest."""
    numbers: dict[str, Any] = {}
    table = [['network', 'ms/step', 'busy', 'limit', 'its share']]
    for network in options.networks:
        work = _step_of(network, options, folder)
        with own_worker() as worker:
            measured = worker.once('profile', **work, trace=str(folder / network))
        numbers[network] = measured
        of_kinds = measured['seconds_by_kind']
        share = of_kinds.get(measured['limit'], 0) / max(sum(of_kinds.values()), 1e-9)
        milliseconds = 1e3 * measured['seconds'] / measured['steps']
        table.append(
            [network, f'{milliseconds:.2f}', f'{measured["busy_share"]:.0%}', measured['limit'], f'{share:.0%}']
        )
    return Result(numbers, table)


def seeds(options: Options, folder: Path) -> Result:
    """Measures CCKD-T steps of several seeds in one program, against as many steps of one seed.

    The speed-up is how many times as fast all seeds train together as one after the other.
    """
    numbers: dict[str, Any] = {}
    table = [['network', 'seeds', 'form', 'ms/step', 'speed-up', 'compile s']]
    for network in options.networks:
        work = _step_of(network, options, folder) | {'steps': 20 if network.startswith('lenet') else 2}
        for count in _SEEDS:
            with contextlib.ExitStack() as stack:
                workers = {'alone': stack.enter_context(own_worker())}
                workers['alone'].open('seeds', **work, count=1, form='unrolled')
                for form in FORMS:
                    workers[form] = stack.enter_context(own_worker())
                    workers[form].open('seeds', **work, count=count, form=form)
                turns = interleave(workers, rounds=options.rounds, title=f'{network}, {count} seeds')
            seconds = {name: np.array([turn['seconds'] for turn in of_name]) for name, of_name in turns.items()}
            for form in FORMS:
                speed_up = ratio(count * seconds['alone'], seconds[form])
                compile_seconds = turns[form][0]['compile_seconds']
                numbers.setdefault(network, {}).setdefault(str(count), {})[form] = {
                    'step_seconds': median_min_max(seconds[form]),
                    'speed_up': speed_up,
                    'compile_seconds': compile_seconds,
                }
                milliseconds = f'{1e3 * np.median(seconds[form]):.1f}'
                row = [network, str(count), form, milliseconds, f'{speed_up["median"]:.2f}', f'{compile_seconds:.1f}']
                table.append(row)
    return Result(numbers, table)


# Numbers of seeds in the suite `seeds`.
_SEEDS = (8, 32)
# Images of 224x224x3 in the suite `streaming`.
_STREAMED = 2048
# Images per call. Bounds hold coefficients of every value in a network, so that CROWN takes few.
_IMAGES_PER_TASK = {
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
    'robustness': robustness,
    'streaming': streaming,
    'seeds': seeds,
    'profile': profile,
}
_ALIASES = {'around': 'robustness'}


def _check_devices(name: str, options: Options, info: Mapping[str, Any]) -> None:
    devices = info['devices']
    if name == 'scaling' and info['platform'] == 'cpu':
        devices = 2  # It sets the number of virtual devices itself.
    if name != 'robustness' and options.batch_size % devices:
        raise InputError(f'--batch_size={options.batch_size} must be a multiple of the {devices} devices')
    if options.peer and info['platform'] not in _PEER_DEVICES:
        raise InputError(f'the peer does not run on {info["device"]}; set JAX_PLATFORMS=cpu, or omit --peer')
    if options.peer and info['platform'] != 'cpu' and devices != 1:
        raise InputError(f'the peer runs on one GPU and JAX on {devices}; set CUDA_VISIBLE_DEVICES=0, or omit --peer')


def _step_of(network: str, options: Options, folder: Path) -> dict[str, Any]:
    """The arguments of a job that takes steps of CCKD-T on synthetic images."""
    return {
        'network': network,
        'arrays': arrays.synthetic(folder, network),
        'batch_size': options.batch_size,
        'method': 'cckd_t',
        'precision': options.precision,
    }


def _mebi(count: int | None) -> str:
    return '' if count is None else f'{count / _MEBI:,.0f}'


# Runs a command and prints its peak memory.
_PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == 'darwin' else 1024))
sys.exit(code)
"""

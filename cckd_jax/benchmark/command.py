"""Measure the speed and memory of this machine.

    python launch/benchmark.py --suite=step --output=step.json
    python launch/benchmark.py --suite=epoch --peer=torch --data_dir=DIR

Suites: step (images per second and compile time by network and method), epoch (whole epochs for each way to skip
samples), memory, scaling (examples, classes, devices), robustness (attacks and bounds), streaming (images that stay on
the disk), seeds (several in one program), profile (what the time of a step goes to). With --peer=torch, the same work
in PyTorch, on the CPU or one GPU and in float32, takes turns with ours, and the ratios are printed; --peer=torch_graphs
runs it as CUDA graphs. It needs a checkout and pip install -e '.[peer]'. Run nothing else on the machine meanwhile.
"""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cckd_jax import cli
from cckd_jax.benchmark import suites
from cckd_jax.errors import InputError, lookup
from cckd_jax.io import write_json
from cckd_jax.methods import METHODS
from cckd_jax.models import MODELS

_TORCH = str(suites.ROOT / 'benchmarks' / 'torch_peer.py')
PEERS = {'torch': [_TORCH], 'torch_graphs': [_TORCH, '--graphs']}
PRECISIONS = {name: name for name in ('float32', 'bfloat16')}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a suite, prints its table and writes its numbers; returns the exit status.

    Args:
      arguments: the command line with the program's name first; `sys.argv` if None.
    """
    (program, *rest) = sys.argv if arguments is None else arguments
    try:
        options = _parser(program).parse_args(rest)
    except SystemExit as finished:  # argparse has printed its help, or what is wrong
        return int(finished.code or 0)
    return cli.one_line_errors(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.output:
        _check_output(Path(options.output))
    (report, table) = suites.run(options.suite, _suite_options(options))
    if options.output:
        write_json(Path(options.output), report)
    print(f'{report["device"]}, {report["cpus"]} CPU cores; {json.dumps(report["versions"])}')
    widths = [max(len(row[column]) for row in table if len(row) > column) for column in range(len(table[0]))]
    for row in table:
        print('  '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=False)))


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--suite', required=True, help=', '.join(suites.SUITES))
    parser.add_argument('--output', help='a JSON file for all numbers; without it, only the table is printed')
    parser.add_argument('--peer', help=f'compare with {" or ".join(PEERS)}')
    parser.add_argument('--networks', default='lenet5_half,lenet5,alexnet_half,alexnet')
    parser.add_argument('--methods', default='separate,kd,cckd_t,cckd_t_reg')
    parser.add_argument('--batch_size', type=int, default=512, help='over all devices')
    parser.add_argument('--precision', default='float32', help=f'of the networks: {", ".join(PRECISIONS)}')
    parser.add_argument('--rounds', type=int, default=5, help='measured turns of each process')
    parser.add_argument('--epochs', type=int, default=7, help='epochs per turn of the suite epoch')
    parser.add_argument('--dataset', default='mnist', help='of the suites epoch, memory and streaming')
    parser.add_argument('--data_dir', help="where TFDS prepared it; TFDS's default directory if omitted")
    return parser


def _suite_options(options: argparse.Namespace) -> suites.Options:
    networks, methods = options.networks.split(','), options.methods.split(',')
    for names, table, kind in ((networks, MODELS, 'model'), (methods, METHODS, 'method')):
        for name in names:
            lookup(table, name, kind)
    for name in methods:
        if METHODS[name].teachers == 'several':
            raise InputError(f'{name} needs several teachers, and the benchmark has one; remove it from --methods')
        if METHODS[name].peers:
            raise InputError(f'{name} trains several students, and the benchmark has one; remove it from --methods')
    for name in ('batch_size', 'rounds'):
        if getattr(options, name) < 1:
            raise InputError(f'--{name}={getattr(options, name)} must be above 0')
    if options.epochs < 2:
        raise InputError(f'--epochs={options.epochs} must be at least 2, because the first is not counted')
    precision = lookup(PRECISIONS, options.precision, 'precision')
    return suites.Options(
        options.batch_size,
        options.rounds,
        options.epochs,
        networks,
        methods,
        options.dataset,
        options.data_dir,
        _peer_command(options.peer, options.suite, precision) if options.peer else None,
        precision,
    )


def _peer_command(name: str, suite: str, precision: str) -> list[str]:
    command = lookup(PEERS, name, 'peer')
    if precision != 'float32':
        raise InputError(f'--peer={name} computes in float32; remove --precision={precision}')
    if name == 'torch_graphs' and suite != 'step':
        raise InputError(f'--peer={name} has no suite {suite}, only step; give --peer=torch')
    if not Path(command[0]).is_file():
        raise InputError(f'--peer={name} needs a checkout of the project: there is no {command[0]}')
    if importlib.util.find_spec('torch') is None:
        raise InputError(f"--peer={name} is not installed; pip install -e '.[peer]'")
    return command


def _check_output(path: Path) -> None:
    if path.is_dir():
        raise InputError(f'--output={path} is a directory; name a file')
    if not path.parent.is_dir():
        raise InputError(f'--output={path}: there is no directory {path.parent}; create it first')
    if not os.access(path.parent, os.W_OK):
        raise InputError(f'--output={path}: the directory {path.parent} is not writable')

"""Measure how fast and how large, on this machine, now.

    python launch/benchmark.py --suite=step --output=step.json
    python launch/benchmark.py --suite=epoch --peer=torch --data_dir=DIR

Suites: step (networks and methods: images/s, compile time), epoch (whole epochs, by way of skipping samples), memory,
scaling (against examples, classes, devices), around (attacks and bounds). With --peer=torch the same work in PyTorch
takes turns with ours and the ratios are printed; it needs pip install -e '.[peer]' and a checkout. Keep the machine
quiet meanwhile.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cckd_jax.benchmark import suites
from cckd_jax.errors import InputError, lookup
from cckd_jax.io import write_json
from cckd_jax.methods import METHODS
from cckd_jax.models import MODELS

PEERS = {'torch': Path(__file__).parents[1] / 'benchmarks' / 'torch_peer.py'}


def main(given: Sequence[str] | None = None) -> int:
    """Runs a suite, prints its table and writes its numbers; the command line is read where no arguments are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--suite', required=True, help=', '.join(suites.SUITES))
    parser.add_argument('--output', help='a JSON file for every number; printed nowhere when not given')
    parser.add_argument('--peer', help=f'compare with {", ".join(PEERS)}')
    parser.add_argument('--networks', default='lenet5_half,lenet5,alexnet_half,alexnet')
    parser.add_argument('--methods', default='separate,kd,cckd_t,cckd_t_reg')
    parser.add_argument('--batch_size', type=int, default=512)
    parser.add_argument('--rounds', type=int, default=5, help='turns that each side has, after one to warm up')
    parser.add_argument('--epochs', type=int, default=7, help='epochs of each turn of the suite epoch')
    parser.add_argument('--dataset', default='mnist', help='of the suites epoch and memory')
    parser.add_argument('--data_dir', help="where TFDS prepared it; TFDS's own folder when not given")
    arguments = parser.parse_args(given)
    try:
        (found, table) = suites.run(arguments.suite, _options(arguments))
        if arguments.output:
            write_json(Path(arguments.output), found)
    except (InputError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f'{found["device"]}, {found["cpus"]} CPU cores; {json.dumps(found["versions"])}')
    widths = [max(len(row[place]) for row in table if len(row) > place) for place in range(len(table[0]))]
    for row in table:
        print('  '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=False)))
    return 0


def _options(arguments: argparse.Namespace) -> suites.Options:
    networks, methods = arguments.networks.split(','), arguments.methods.split(',')
    for names, table, what in ((networks, MODELS, 'model'), (methods, METHODS, 'method')):
        for name in names:
            lookup(table, name, what)
    for name in methods:
        if METHODS[name].several:
            raise InputError(f'{name} has several teachers, and the benchmark has one; leave it out of --methods')
    for name in ('batch_size', 'rounds'):
        if getattr(arguments, name) < 1:
            raise InputError(f'--{name}={getattr(arguments, name)} must be above 0')
    if arguments.epochs < 2:
        raise InputError(f'--epochs={arguments.epochs} must be at least 2: the first is not counted')
    peer = None
    if arguments.peer:
        peer = [str(lookup(PEERS, arguments.peer, 'peer'))]
        if importlib.util.find_spec(arguments.peer) is None:
            raise InputError(f"--peer={arguments.peer} is not installed; pip install -e '.[peer]'")
    return suites.Options(
        arguments.batch_size,
        arguments.rounds,
        arguments.epochs,
        networks,
        methods,
        arguments.dataset,
        arguments.data_dir,
        peer,
    )


if __name__ == '__main__':
    sys.exit(main())

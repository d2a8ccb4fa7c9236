"""Disturb small runs on the embedded digits in every way that a machine does, and compare what they end with.

    python benchmarks/endurance.py --parts=kills --kills=100 --workdir=runs/endurance

Parts: kills (SIGKILL at random moments of runs of five kinds), disk (full at random moments, and a cache without
space; needs root), starts (ten processes with one empty cache, and two on one workdir), caches (damaged entries of
every kind), memory (resident memory and open files over thousands of epochs). Every trial is kept in the workdir, so
the same command continues after an interruption. The status is 1 if a trial failed. It needs Linux.
"""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from endurance_parts import caches, disk, kills, memory, runs, starts
from tqdm import tqdm

from cckd_jax import provenance
from cckd_jax.benchmark.jobs import machine_info
from cckd_jax.console import log
from cckd_jax.errors import InputError, lookup
from cckd_jax.io import write_json


class Part(NamedTuple):
    """A part of the script.

    Attributes:
      trials: takes a folder and the earlier trials, and yields one JSON object per trial with its `count` and
        `failures`.
      total: the counts of all trials together.
      unit: of the counts.
    """

    trials: Callable[[Path, Sequence[Mapping[str, Any]]], Iterator[dict[str, Any]]]
    total: int
    unit: str


def parts(options: argparse.Namespace) -> Mapping[str, Part]:
    """Returns the parts by name.

    Raises:
      InputError: there is no such kind of run.
    """
    kinds = options.kinds.split(',')
    for kind in kinds:
        lookup(runs.KINDS, kind, 'kind of run')
    return {
        'kills': Part(
            functools.partial(kills.trials, kinds=kinds, kills=options.kills, seed=options.seed), options.kills, 'kills'
        ),
        'disk': Part(functools.partial(disk.trials, full=options.full, seed=options.seed), options.full, 'full disks'),
        'starts': Part(functools.partial(starts.trials, processes=10), 10, 'processes'),
        'caches': Part(functools.partial(caches.trials, seed=options.seed), caches.count(), 'damages'),
        'memory': Part(functools.partial(memory.trials, epochs=options.epochs), options.epochs, 'epochs'),
    }


def run(part: Part, folder: Path, name: str) -> None:
    """Makes the trials that the folder lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    earlier = read(folder)
    done = sum(trial['count'] for trial in earlier)
    with tqdm(total=part.total, initial=done, desc=name, unit=f' {part.unit}', smoothing=0) as progress:
        for trial in part.trials(folder, earlier):
            with (folder / 'trials.jsonl').open('a', encoding='utf-8') as file:
                file.write(json.dumps(trial) + '\n')
            progress.update(trial['count'])
            for failure in trial['failures']:
                log(f'{name}: failed: {failure}')


def read(folder: Path) -> list[dict[str, Any]]:
    """Returns the trials that a folder holds."""
    path = folder / 'trials.jsonl'
    return [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()] if path.exists() else []


def _with_relative_paths(trials: Any, workdir: Path) -> Any:
    return json.loads(json.dumps(trials).replace(f'{workdir}/', ''))


def main() -> int:
    """Runs the parts and writes all trials of the workdir; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--parts', default='kills,disk,starts,caches,memory', help='separated by commas')
    parser.add_argument('--workdir', required=True, type=Path, help='for runs and trials')
    parser.add_argument('--output', type=Path, help='a JSON file for the trials of all parts in the workdir')
    parser.add_argument('--kills', type=int, default=100, help='of the part kills, over all kinds of run')
    parser.add_argument('--kinds', default=','.join(runs.KINDS), help='of run, of the part kills')
    parser.add_argument('--full', type=int, default=20, help='full disks of the part disk')
    parser.add_argument('--epochs', type=int, default=3000, help='of the part memory')
    parser.add_argument('--seed', type=int, default=0, help='of random moments and damage')
    options = parser.parse_args()
    try:
        table = parts(options)
        chosen = {name: lookup(table, name, 'part') for name in options.parts.split(',')}
    except InputError as error:
        parser.error(str(error))
    for name, part in chosen.items():
        run(part, options.workdir / name, name)
    trials = {name: read(options.workdir / name) for name in table}
    if options.output:
        info = next(machine_info())
        machine = {key: info[key] for key in ('device', 'versions')} | {'commit': provenance.commit()}
        write_json(
            options.output, {**machine, 'seed': options.seed, 'trials': _with_relative_paths(trials, options.workdir)}
        )
        for trial in trials['memory']:
            memory.draw(options.output.with_suffix('.png'), trial['samples'])
    failed = sum(bool(trial['failures']) for name in chosen for trial in trials[name])
    log(f'{sum(len(trials[name]) for name in chosen)} trials, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())

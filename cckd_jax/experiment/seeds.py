"""The same config with several seeds, some at a time, each in a process of its own with its share of the cores."""

import json
import os
import queue
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cckd_jax import cpu
from cckd_jax.console import say
from cckd_jax.errors import InputError
from cckd_jax.io import write_json
from cckd_jax.statistics import estimate

# What a table of seeds shows, by its place in results.json.
SHOWN = (
    'teacher.test_accuracy',
    'student.test_accuracy',
    'separate.test_accuracy',
    'student.share_used',
    'student.success_rate',
    'student.failure_rate',
    'student.adversarial_accuracy',
)


def run(command: Sequence[str], workdir: Path, seeds: Sequence[int], *, at_once: int) -> dict[str, Any]:
    """Runs `command --config.seed=N --workdir=WORKDIR/seed_N` for every seed; a run that is complete is not run again.

    Args:
      command: what makes one run, such as `[python, launch/main.py, --config=...]`.
      workdir: the folder of the runs, and of `seeds.json`, the summary.
      seeds: which.
      at_once: how many processes at a time; each is kept to its share of the cores.

    Returns:
      What `seeds.json` holds: `seeds`, and for each of `SHOWN` (of several teachers, for each one) its values, `mean`,
      and `interval`, the half width of the 95 % confidence interval by Student's t (None for one seed).

    Raises:
      InputError: a run failed; the others are finished first.
    """
    shares: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for share in np.array_split(cpu.cores(), at_once):
        # More runs than cores share them all.
        shares.put([int(core) for core in share] or cpu.cores())

    def one(seed: int) -> int:
        share = shares.get()
        try:
            arguments = [*command, f'--config.seed={seed}', f'--workdir={workdir / f"seed_{seed}"}']
            return _follow(f'seed {seed}: ', arguments, share)
        finally:
            shares.put(share)

    with ThreadPoolExecutor(at_once) as pool:
        codes = dict(zip(seeds, pool.map(one, seeds), strict=True))
    failed = [seed for seed, code in codes.items() if code]
    if failed:
        raise InputError(f'seeds {failed} did not finish; what they said is above, and the same command resumes them')
    found = summary(workdir, seeds)
    write_json(workdir / 'seeds.json', found)
    return found


def summary(workdir: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Means and intervals over finished runs."""
    runs = [json.loads((workdir / f'seed_{seed}' / 'results.json').read_text(encoding='utf-8')) for seed in seeds]
    found: dict[str, Any] = {'method': runs[0]['method'], 'dataset': runs[0]['dataset'], 'seeds': list(seeds)}
    for name in SHOWN:
        (part, key) = name.split('.')
        values = [run[part][key] for run in runs]
        if isinstance(values[0], list):
            found |= {f'{name}[{place}]': _estimated(each) for place, each in enumerate(zip(*values, strict=True))}
        else:
            found[name] = _estimated(values)
    return found


def _estimated(values: Sequence[float | None]) -> dict[str, Any]:
    (mean, interval) = (None, None)
    if None not in values:
        (mean, interval, _) = estimate(values)
    return {'values': list(values), 'mean': mean, 'interval': interval}


def table(found: dict[str, Any]) -> str:
    """The summary as a table for the terminal."""
    lines = [f'{found["method"]} on {found["dataset"]}, seeds {", ".join(map(str, found["seeds"]))}']
    for name, each in found.items():
        if not isinstance(each, dict):
            continue
        (mean, interval) = (each['mean'], each['interval'])
        text = 'none' if mean is None else f'{mean:.5f}' + ('' if interval is None else f' ± {interval:.5f}')
        lines.append(f'  {name:30s} {text}')
    return '\n'.join(lines)


def _follow(prefix: str, arguments: Sequence[str], cores: Sequence[int]) -> int:
    """Runs a command on these cores and repeats what it says, line by line."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if hasattr(os, 'sched_setaffinity'):
        # At once, before it has made threads of its own.
        os.sched_setaffinity(process.pid, cores)
    with process:
        for line in process.stdout:
            say(f'{prefix}{line.rstrip()}')
    return process.returncode


def default_at_once() -> int:
    """One a core on a CPU, where a step does not keep several cores busy; one at a time where an accelerator is."""
    return len(cpu.cores()) if jax.default_backend() == 'cpu' else 1

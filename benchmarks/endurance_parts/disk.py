"""A disk that becomes full at random moments of a run, and a cache without space; needs root, to mount a tmpfs."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from endurance_parts import runs

_KIND = 'gate'
_BLOCK = 2**12


def trials(folder: Path, earlier: Sequence[Mapping[str, Any]], *, full: int, seed: int) -> Iterator[dict[str, Any]]:
    """Makes runs whose disk becomes full at a moment uniform over the CPU time of an undisturbed run.

    The command must stop with one line, or end if it writes nothing more. The space is then freed, and the same command
    continues. In the last trial, the cache alone has no space, which must not matter.

    Args:
      folder: for the runs.
      earlier: the trials that are done.
      full: number of full disks, at least.
      seed: of the moments.

    Yields:
      For each finished run the number of full disks, the messages of the stopped commands, and everything that is
      wrong.
    """
    (reference, seconds) = runs.undisturbed(_KIND, folder)
    expected = runs.contents(reference)
    remaining = full - sum(trial['count'] for trial in earlier)
    index = len(earlier)
    while remaining > 0:
        random = np.random.default_rng([seed, index])
        with _tmpfs(folder / 'disk', '64m') as disk:
            trial = _until_finished(disk, folder / 'cache', folder / f'full_{index}', seconds, random, expected)
        yield trial
        remaining -= trial['count']
        index += 1
    if all(trial['what'] != 'cache' for trial in earlier):
        yield _without_cache(folder, expected)


def _until_finished(
    disk: Path, cache: Path, logs: Path, seconds: float, random: np.random.Generator, expected: Mapping[str, str]
) -> dict[str, Any]:
    workdir, filler = disk / 'run', disk / 'filler'
    messages, failures = [], []
    logs.mkdir(parents=True, exist_ok=True)
    while True:
        log = logs / f'{len(messages)}.log'
        log.unlink(missing_ok=True)
        saved = _saved(workdir)
        process = runs.start(runs.command(_KIND, workdir), cache, log)
        moment = seconds * random.random()
        while process.poll() is None and runs.cpu_seconds(process) < moment:
            time.sleep(0.01)
        if process.poll() is None:
            _fill(filler)
        status = process.wait()
        filler.unlink(missing_ok=True)
        if status == 0:
            break
        lines = [line for line in log.read_text().splitlines() if line.startswith('error: ')]
        messages.append(lines[0] if lines else '')
        if len(lines) != 1 or 'Traceback' in log.read_text():
            failures.append(f'{log}: {len(lines)} lines of errors, {log.read_text().count("Traceback")} tracebacks')
        failures += [f'{log}: lost {name}' for name in saved - _saved(workdir, newer=saved)]
    failures += runs.differences(expected, runs.contents(workdir))
    failures += [f'left {path}' for path in runs.temporaries(workdir)]
    return {'what': 'disk', 'count': len(messages), 'messages': messages, 'failures': failures}


def _without_cache(folder: Path, expected: Mapping[str, str]) -> dict[str, Any]:
    failures = []
    for size in ('64k', '700k'):
        (workdir, log) = (folder / f'cache_{size}', folder / f'cache_{size}.log')
        shutil.rmtree(workdir, ignore_errors=True)
        log.unlink(missing_ok=True)
        with _tmpfs(folder / 'disk', size) as disk:
            runs.finish(runs.command(_KIND, workdir), disk, log)
        failures += [f'{size}: {name}' for name in runs.differences(expected, runs.contents(workdir))]
        if 'Traceback' in log.read_text():
            failures.append(f'{log} has a traceback')
    return {'what': 'cache', 'count': 0, 'failures': failures}


@contextlib.contextmanager
def _tmpfs(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(['umount', '--lazy', str(folder)], check=True)


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open('wb', buffering=0) as file:
        while True:
            file.write(bytes(_BLOCK))


def _saved(workdir: Path, newer: set[tuple[str, int]] | None = None) -> set[tuple[str, int]]:
    """The networks of a run with the epochs of their newest checkpoints; those of `newer` that are kept or exceeded."""
    epochs = {
        path.parent.name: max((int(step.name) for step in path.iterdir() if step.name.isdecimal()), default=0)
        for path in workdir.glob('*/checkpoints')
    }
    if newer is None:
        return set(epochs.items())
    return {(name, count) for name, count in newer if epochs.get(name, 0) >= count}

"""SIGKILL at random moments of a run, each followed by the same command, until it ends; nothing may differ."""

import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from endurance_parts import runs

# Of the range of moments, with every kill of a run.
_GROWTH = 1.03


def trials(
    folder: Path, earlier: Sequence[Mapping[str, Any]], *, kinds: Sequence[str], kills: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Makes runs of some kinds, each killed at random moments and started again until it ends.

    A moment is uniform over the CPU time of an undisturbed run, so that other load on the machine hardly moves it. The
    range grows with every kill, so that a run ends even if the same work takes longer than it took undisturbed. The
    first run of a kind begins with an empty cache, later ones with compiled programs alone.

    Args:
      folder: for the runs.
      earlier: the trials that are done.
      kinds: of `runs.KINDS`.
      kills: of all these kinds together, at least.
      seed: of the moments.

    Yields:
      For each finished run its kills, by the stage that they met, and the names of everything that differs.
    """
    for kind in kinds:
        done = [trial for trial in earlier if trial['kind'] == kind]
        remaining = -(-kills // len(kinds)) - sum(trial['count'] for trial in done)
        for trial in _of_kind(folder / kind, kind, len(done), seed) if remaining > 0 else ():
            yield trial
            remaining -= trial['count']
            if remaining <= 0:
                break


def _of_kind(folder: Path, kind: str, index: int, seed: int) -> Iterator[dict[str, Any]]:
    (reference, seconds) = runs.undisturbed(kind, folder)
    expected, expected_cache = runs.contents(reference), runs.cached_arrays(folder / 'cache')
    while True:
        (workdir, cache) = (folder / f'killed_{index}', folder / 'cache_of_killed')
        shutil.rmtree(workdir, ignore_errors=True)
        for name in ('digits', 'decoded') if index else ('',):
            shutil.rmtree(cache / 'cckd_jax' / name, ignore_errors=True)
        random = np.random.default_rng([seed, list(runs.KINDS).index(kind), index])
        kills: Counter[str] = Counter()
        command, log = runs.command(kind, workdir), workdir.with_suffix('.log')
        while not _finished(command, cache, log, seconds * _GROWTH ** kills.total() * random.random()):
            kills[stage(workdir)] += 1
        unequal = runs.differences(expected, runs.contents(workdir))
        unequal += [f'cache: {name}' for name in runs.differences(expected_cache, runs.cached_arrays(cache))]
        yield {
            'kind': kind,
            'count': kills.total(),
            'kills': dict(kills),
            'failures': unequal,
            'temporaries': runs.temporaries(workdir, cache),
        }
        if not unequal:
            shutil.rmtree(workdir)
        index += 1


def _finished(command: list[str], cache: Path, log: Path, seconds: float) -> bool:
    """Kills a command after some seconds of CPU time, and returns whether it ended before."""
    process = runs.start(command, cache, log)
    while process.poll() is None and runs.cpu_seconds(process) < seconds:
        time.sleep(0.01)
    process.kill()
    status = process.wait()
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f'status {status} of {" ".join(command)}; its messages are in {log}')
    return status == 0


def stage(workdir: Path) -> str:
    """What a killed run was doing, by what its directory holds."""
    for name in ('report.md', 'results.json', 'evaluation'):
        if (workdir / name).exists():
            return 'report' if name != 'evaluation' else 'evaluation'
    networks = [path for path in workdir.glob('*') if (path / 'checkpoints').is_dir()]
    if not networks:
        return 'start'
    return max(networks, key=lambda path: (path / 'checkpoints').stat().st_mtime).name.partition('_')[0]

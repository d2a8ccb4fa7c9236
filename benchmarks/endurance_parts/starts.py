"""Ten processes that start at once with one empty cache, and a second process on the directory of a run."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from endurance_parts import runs

_KIND = 'gate'


def trials(folder: Path, earlier: Sequence[Mapping[str, Any]], *, processes: int) -> Iterator[dict[str, Any]]:
    """Starts processes at once, each with its own directory but the last, which shares that of the first.

    Args:
      folder: for the runs.
      earlier: the trials that are done.
      processes: number of directories.

    Yields:
      One trial: everything that is wrong.
    """
    if earlier:
        return
    (reference, _) = runs.undisturbed(_KIND, folder)
    expected, expected_cache = runs.contents(reference), runs.cached_arrays(folder / 'cache')
    workdirs = [folder / f'run_{index}' for index in range(processes)]
    cache = folder / 'cache_of_all'
    for path in (*workdirs, cache):
        shutil.rmtree(path, ignore_errors=True)
        path.with_suffix('.log').unlink(missing_ok=True)
    started = [runs.start(runs.command(_KIND, path), cache, path.with_suffix('.log')) for path in workdirs]
    failures = [_refusal(workdirs[0], cache)]
    for path, process in zip(workdirs, started, strict=True):
        log = path.with_suffix('.log')
        if process.wait() or 'Traceback' in log.read_text() or 'warning' in log.read_text().lower():
            failures.append(f'status {process.returncode}, see {log}')
        else:
            failures += [f'{path.name}: {name}' for name in runs.differences(expected, runs.contents(path))]
    failures += [f'cache: {name}' for name in runs.differences(expected_cache, runs.cached_arrays(cache))]
    failures += [f'left {path}' for path in runs.temporaries(cache)]
    yield {'count': processes, 'failures': [failure for failure in failures if failure]}


def _refusal(workdir: Path, cache: Path) -> str:
    """What is wrong with the answer to a second process on a directory, or nothing."""
    while not (workdir / 'config.json').exists():
        pass
    log = workdir.with_name('second.log')
    log.unlink(missing_ok=True)
    status = runs.start(runs.command(_KIND, workdir), cache, log).wait()
    lines = log.read_text().splitlines()
    is_refused = status == 2 and len(lines) == 1 and 'is in use by another process' in lines[0]
    return '' if is_refused else f'a second process ended with {status}, see {log}'

"""Damaged cache entries: the next run computes them again with a message, and ends with the same numbers."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from endurance_parts import runs

# By kind of run, the folders of the cache that it reads.
_FOLDERS = {'gate': ('compiled', 'decoded', 'digits'), 'streamed': ('digits',)}
DAMAGE: Mapping[str, Callable[[bytes, np.random.Generator], bytes]] = {
    'empty': lambda content, random: b'',
    'truncated': lambda content, random: content[: random.integers(len(content))],
    'flipped': lambda content, random: _flipped(content, random),
    'garbage': lambda content, random: random.bytes(len(content)),
}


def trials(folder: Path, earlier: Sequence[Mapping[str, Any]], *, seed: int) -> Iterator[dict[str, Any]]:
    """Damages every file of one folder of the cache in one way, and makes a run; then another run, without messages.

    Args:
      folder: for the runs.
      earlier: the trials that are done.
      seed: of the damage.

    Yields:
      For each folder and damage the number of messages and the first of them, and everything that is wrong.
    """
    done = {(trial['kind'], trial['folder'], trial['damage']) for trial in earlier}
    for kind, names in _FOLDERS.items():
        (reference, _) = runs.undisturbed(kind, folder / kind)
        expected = runs.contents(reference)
        for name in names:
            for damage in DAMAGE:
                if (kind, name, damage) not in done:
                    yield _trial(folder / kind, kind, name, damage, seed, expected)


def count() -> int:
    """Number of trials."""
    return len(DAMAGE) * sum(map(len, _FOLDERS.values()))


def _trial(folder: Path, kind: str, name: str, damage: str, seed: int, expected: Mapping[str, str]) -> dict[str, Any]:
    # The keys of entries contain the path of the cache, so that it is damaged where it is.
    (cache, intact) = (folder / 'cache', folder / 'intact_cache')
    if not intact.exists():
        shutil.copytree(cache, folder / 'copy')
        (folder / 'copy').rename(intact)
    shutil.rmtree(cache)
    shutil.copytree(intact, cache)
    random = np.random.default_rng(seed)
    files = [path for path in sorted((cache / 'cckd_jax' / name).rglob('*')) if path.is_file()]
    for path in files:
        path.write_bytes(DAMAGE[damage](path.read_bytes(), random))
    failures, messages = [], []
    for attempt in ('first', 'second'):
        workdir = folder / f'{name}_{damage}_{attempt}'
        log = workdir.with_suffix('.log')
        shutil.rmtree(workdir, ignore_errors=True)
        log.unlink(missing_ok=True)
        runs.finish(runs.command(kind, workdir), cache, log)
        lines = [line for line in log.read_text().splitlines() if re.search('damaged|cannot be read|Error', line)]
        messages.append(lines)
        failures += [f'{attempt}: {entry}' for entry in runs.differences(expected, runs.contents(workdir))]
        if 'Traceback' in log.read_text():
            failures.append(f'{log} has a traceback')
    if not messages[0]:
        failures.append('the damage has no message')
    failures += [f'again: {line}' for line in messages[1]]
    return {
        'kind': kind,
        'folder': name,
        'damage': damage,
        'files': len(files),
        'count': 1,
        'lines': len(messages[0]),
        'message': messages[0][0] if messages[0] else None,
        'failures': failures,
    }


def _flipped(content: bytes, random: np.random.Generator) -> bytes:
    """Flips one bit of a hundred places."""
    values = np.frombuffer(content, np.uint8).copy()
    places = random.integers(len(values), size=100)
    values[places] ^= np.uint8(1) << random.integers(8, size=100).astype(np.uint8)
    return values.tobytes()

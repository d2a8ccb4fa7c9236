"""Decoded splits kept in the user's cache folder: 60,000 PNGs take seconds to decode, their arrays a blink to read."""

import contextlib
import hashlib
import os
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cckd_jax import cache
from cckd_jax.data.split import Split


def kept(folder: Path, split: str, decode: Callable[[], Split]) -> Split:
    """The split as it was decoded before, or decoded now and kept for the next time.

    Args:
      folder: of the prepared data set; every file's name, size and time of change are in the key.
      split: `train` or `test`.
      decode: reads the split from the folder.
    """
    path = cache.folder() / 'decoded' / f'{folder.parent.name}-{split}-{_key(folder)}.npz'
    damaged = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    # Opened here because numpy leaves a damaged file open that it opened itself.
    with contextlib.suppress(*damaged), path.open('rb') as file, np.load(file) as arrays:
        return Split(arrays['images'], arrays['labels'])
    found = decode()
    # A cache that cannot be written is no reason to stop.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{uuid.uuid4().hex}')
        try:
            with temporary.open('wb') as file:
                np.savez(file, images=found.images, labels=found.labels)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return found


def _key(folder: Path) -> str:
    digest = hashlib.sha256(os.fsencode(folder.absolute()))
    for path in sorted(folder.iterdir()):
        facts = path.stat()
        digest.update(repr((path.name, facts.st_size, facts.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]

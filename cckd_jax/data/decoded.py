"""Decoded splits in the user's cache folder: decoding 60,000 PNGs takes seconds, reading their arrays does not."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cckd_jax.data.cached import cached_arrays
from cckd_jax.data.split import Split


def cached_split(
    folder: Path, split: str, decode: Callable[[], Split], *, shape: tuple[int, ...], num_classes: int
) -> Split:
    """Returns the split from the cache, or decodes it and writes it to the cache.

    A cached file that does not hold what the data set promises is replaced.

    Args:
      folder: of the prepared data set; the cache key has the name, size and modification time of every file in it.
      split: `train` or `test`.
      decode: reads the split from the folder.
      shape: `[N, H, W, C]` of the images.
      num_classes: C.
    """
    arrays = cached_arrays(
        f'{folder.parent.name}-{split}-{folder_key(folder)}',
        lambda: vars(decode()),
        lambda arrays: _is_valid(Split(arrays['images'], arrays['labels']), shape, num_classes),
    )
    return Split(arrays['images'], arrays['labels'])


def _is_valid(split: Split, shape: tuple[int, ...], num_classes: int) -> bool:
    (images, labels) = (split.images, split.labels)
    return (
        (images.shape, images.dtype) == (shape, np.dtype(np.uint8))
        and (labels.shape, labels.dtype) == (shape[:1], np.dtype(np.int32))
        and bool(np.all((labels >= 0) & (labels < num_classes)))
    )


def folder_key(folder: Path) -> str:
    """A key of the name, size and modification time of every file in a folder."""
    digest = hashlib.sha256(os.fsencode(folder.absolute()))
    for path in sorted(folder.iterdir()):
        facts = path.stat()
        digest.update(repr((path.name, facts.st_size, facts.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]

"""Decoded splits in the user's cache folder: decoding 60,000 PNGs takes seconds, reading their arrays does not."""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cckd_jax import cache
from cckd_jax.data.split import Split


def cached_arrays(
    name: str,
    compute: Callable[[], dict[str, np.ndarray]],
    is_valid: Callable[[dict[str, np.ndarray]], bool],
) -> dict[str, np.ndarray]:
    """Returns arrays from the cache, or computes them and writes them to the cache.

    Args:
      name: of the cached file; it has a key of everything that the arrays depend on.
      compute: makes the arrays.
      is_valid: whether cached arrays are what `compute` promises. A cached file that cannot be read or is not valid is
        replaced.
    """
    path = cache.folder() / 'decoded' / f'{name}.npz'
    # Opened here, because numpy does not close a damaged file that it opened itself.
    with contextlib.suppress(Exception), path.open('rb') as file, np.load(file) as archive:
        arrays = dict(archive)
        if is_valid(arrays):
            return arrays
    arrays = compute()
    # A run does not depend on its cache being writable.
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f'.{uuid.uuid4().hex}')
        try:
            with temporary.open('wb') as output:
                np.savez(output, **arrays)  # type: ignore[arg-type]  # a name may also be numpy's flag allow_pickle
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return arrays


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
        f'{folder.parent.name}-{split}-{_key(folder)}',
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


def _key(folder: Path) -> str:
    digest = hashlib.sha256(os.fsencode(folder.absolute()))
    for path in sorted(folder.iterdir()):
        facts = path.stat()
        digest.update(repr((path.name, facts.st_size, facts.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]

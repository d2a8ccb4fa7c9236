"""Batches of images in a known order, read ahead from the disk by the threads of grain."""

from collections.abc import Iterator, Sequence

import numpy as np

from cckd_jax import cpu
from cckd_jax.data.stored import Images, StoredImages

# Batches that are read ahead take no more memory than this, but there are at least two.
_AHEAD_BYTES = 2**29


def read_batches(images: StoredImages, batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields the images of each batch, in order, while threads read the next ones.

    Threads, not processes: reading, and decoding of PNG and JPEG, release Python's lock, and a process would import the
    package and copy every batch.

    Args:
      images: to read from.
      batches: indices int `[...]` of each batch. Padding, which is negative, gets the first image.

    Yields:
      uint8 `[..., H, W, C]`.
    """
    import grain  # takes most of a second, and only images on the disk need it

    if not batches:
        return
    size = max(batch.size for batch in batches) * int(np.prod(images.shape[1:]))
    ahead = max(2, min(len(cpu.cores()), _AHEAD_BYTES // size))
    options = grain.ReadOptions(num_threads=ahead, prefetch_buffer_size=ahead)
    iterator = iter(grain.MapDataset.source(_Batches(images, batches)).to_iter_dataset(options))
    try:
        yield from iterator
    finally:
        iterator.close()


def consecutive_batches(rows: Images, size: int) -> Iterator[np.ndarray]:
    """Yields the rows of an array, or of images on the disk, in batches of a size; the last may be smaller.

    >>> [batch.tolist() for batch in consecutive_batches(np.arange(3), 2)]
    [[0, 1], [2]]
    """
    starts = range(0, len(rows), size)
    if isinstance(rows, StoredImages):
        yield from read_batches(rows, [np.arange(start, min(start + size, len(rows))) for start in starts])
    else:
        yield from (rows[start : start + size] for start in starts)


class _Batches:
    """A data source of grain, whose items are whole batches."""

    def __init__(self, images: StoredImages, batches: Sequence[np.ndarray]):
        self._images = images
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> np.ndarray:
        indices = self._batches[index]
        pixels = self._images[np.maximum(indices.reshape(-1), 0)]
        return pixels.reshape(*indices.shape, *pixels.shape[1:])

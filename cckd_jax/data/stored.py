"""Images that stay on the disk, and are read when they are indexed."""

from typing import Any, Protocol

import numpy as np


class ImageSource(Protocol):
    """Images `[N, H, W, C]` by row, such as an array that is mapped into memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Images uint8 `[B, H, W, C]` of rows int `[B]`; called from several threads at a time."""


class StoredImages:
    """Images on the disk, which an index reads into memory: an int, a slice, or an int array.

    Args:
      source: reads them.
      key: identifies the content of the source.
      rows: int `[N]`, the rows of the source in this order; all if None.

    >>> images = StoredImages(np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1), 'counted')
    >>> images.take(np.array([2, 0]))[:1].ravel().tolist()
    [2]
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, source: ImageSource, key: str, rows: np.ndarray | None = None):
        self._source = source
        self.key = key
        self.rows = np.arange(source.shape[0]) if rows is None else rows

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, H, W, C)`."""
        return (len(self.rows), *self._source.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = self.rows[index]
        images = np.asarray(self._source[np.atleast_1d(rows)])
        return images if np.ndim(rows) else images[0]

    def take(self, rows: np.ndarray, axis: int = 0) -> 'StoredImages':
        """The images of these rows, still on the disk; `axis` is 0, as in `np.ndarray.take` of images in memory."""
        return StoredImages(self._source, self.key, self.rows.take(rows, axis))


# Images uint8 `[N, H, W, C]` in memory or on the disk.
Images = np.ndarray | StoredImages

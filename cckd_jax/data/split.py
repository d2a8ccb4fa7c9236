"""One split of a data set in memory."""

import hashlib
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Images uint8 `[N, H, W, C]` and labels int32 `[N]`."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> 'Split':
        """The examples at these places."""
        return Split(self.images[rows], self.labels[rows])

    def fingerprint(self) -> str:
        """A digest of every pixel and label, in their order."""
        digest = hashlib.sha256(repr((self.images.shape, self.images.dtype)).encode())
        digest.update(np.ascontiguousarray(self.images))
        digest.update(np.ascontiguousarray(self.labels))
        return digest.hexdigest()[:16]

"""One split of a data set in memory."""

import dataclasses
import hashlib

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images and labels of one split; `len(split)` is the number of examples.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: int32 `[N]`.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> 'Split':
        """The examples at these indices."""
        return Split(self.images[rows], self.labels[rows])

    def fingerprint(self) -> str:
        """A digest of every pixel and label, in their order."""
        digest = hashlib.sha256(repr((self.images.shape, self.images.dtype)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()[:16]

"""One split of a data set."""

import dataclasses
import hashlib

import numpy as np
from tqdm import tqdm

from cckd_jax.data.cached import cached_arrays
from cckd_jax.data.stored import Images, StoredImages
from cckd_jax.data.streaming import consecutive_batches

_CHUNK_BYTES = 2**26


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images and labels of one split; `len(split)` is the number of examples.

    Attributes:
      images: uint8 `[N, H, W, C]`, in memory or on the disk.
      labels: int32 `[N]`.
    """

    images: Images
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> 'Split':
        """The examples at these indices."""
        return Split(self.images.take(rows, axis=0), self.labels[rows])

    @property
    def is_stored(self) -> bool:
        """Whether the images stay on the disk."""
        return isinstance(self.images, StoredImages)

    def fingerprint(self) -> str:
        """A digest of every pixel and label, in their order; for images on the disk it is kept in the cache."""
        if not isinstance(self.images, StoredImages):
            return self._digest()
        facts = hashlib.sha256(self.images.key.encode())
        facts.update(self.images.rows.astype(np.int64).data)
        facts.update(np.ascontiguousarray(self.labels).data)
        arrays = cached_arrays(
            f'fingerprint-{facts.hexdigest()[:16]}',
            lambda: {'fingerprint': np.array(self._digest())},
            lambda arrays: arrays['fingerprint'].shape == (),
        )
        return str(arrays['fingerprint'])

    def _digest(self) -> str:
        digest = hashlib.sha256(repr((self.images.shape, self.images.dtype)).encode())
        size = max(1, _CHUNK_BYTES // max(1, int(np.prod(self.images.shape[1:]))))
        chunks = consecutive_batches(self.images, size)
        total = -(-len(self) // size)
        for chunk in tqdm(chunks, 'reading all images once', total=total, leave=False, disable=None, delay=2):
            digest.update(np.ascontiguousarray(chunk).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()[:16]

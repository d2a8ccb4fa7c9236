"""The order of an epoch, its batches, and the scaling of pixels on the device."""

from collections.abc import Iterator

import chex
import jax.numpy as jnp
import numpy as np

PADDING = -1


def epoch_batches(subset: np.ndarray, *, batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Yields the indices of an epoch in an order that is a function of (seed, epoch).

    Every index of `subset` appears once; the last batch is filled with `PADDING`.

    Args:
      subset: int `[M]`, indices into the training set.
      batch_size: B > 0.
      seed: any integer >= 0.
      epoch: counted from 0.

    Yields:
      int32 `[B]`.

    >>> [sorted(batch.tolist()) for batch in epoch_batches(np.arange(3), batch_size=4, seed=0, epoch=0)]
    [[-1, 0, 1, 2]]
    """
    order = np.random.default_rng([seed, epoch]).permutation(subset).astype(np.int32)
    order = np.pad(order, (0, -len(order) % batch_size), constant_values=PADDING)
    yield from order.reshape(-1, batch_size)


def to_unit(images: chex.Array) -> chex.Array:
    """uint8 pixels to float32 in [0, 1]: x / 255, the only preprocessing of the CCKD paper's networks."""
    return images.astype(jnp.float32) / 255.0

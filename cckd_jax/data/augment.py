"""Augmentation on the device, drawn for each example from its own key."""

import zlib
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

Augment = Callable[[chex.Array, chex.Array], chex.Array]

# Keeps these draws apart from those that a network makes with the same keys.
_PURPOSE = zlib.crc32(b'augmentation')


def augmentation(*, crop: int = 0, flip: bool = False) -> Augment | None:
    """Returns `(keys [B], images [B, H, W, C]) -> images`, or None where nothing is to be done.

    Args:
      crop: pixels of black that are put around an image before a window of its size is cut at random; >= 0.
      flip: whether to mirror left and right, half of the time.

    >>> augmentation() is None
    True
    """
    if crop == 0 and not flip:
        return None

    def one(key: chex.PRNGKey, image: chex.Array) -> chex.Array:
        (where, whether) = jax.random.split(jax.random.fold_in(key, _PURPOSE))
        if crop:
            padded = jnp.pad(image, ((crop, crop), (crop, crop), (0, 0)))
            (row, column) = jax.random.randint(where, (2,), 0, 2 * crop + 1)
            image = jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)
        if flip:
            image = jnp.where(jax.random.bernoulli(whether), image[:, ::-1], image)
        return image

    return jax.vmap(one)

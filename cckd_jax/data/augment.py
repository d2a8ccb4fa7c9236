"""Augmentation on the device, with one key per example."""

import zlib
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from cckd_jax.errors import InputError

Augment = Callable[[chex.Array, chex.Array], chex.Array]

# Separates these draws from those that a network makes with the same keys.
_STREAM = zlib.crc32(b'augmentation')


def augmentation(
    *, crop: int = 0, flip: bool = False, image_shape: tuple[int, int, int] | None = None
) -> Augment | None:
    """Returns `(keys [B], images [B, H, W, C]) -> images`, or None if there is nothing to do.

    Args:
      crop: width in pixels of the black border that is added before a window of the image's size is cut at random;
        from 0 to the image's height and width.
      flip: whether to mirror left and right with probability 1/2.
      image_shape: `(H, W, C)`, to check `crop` now and not when the first images arrive.

    Raises:
      InputError: `crop` is out of range.

    >>> augmentation() is None
    True
    >>> augmentation(crop=40, image_shape=(32, 32, 3))
    Traceback (most recent call last):
    ...
    cckd_jax.errors.InputError: augmentation.crop=40 must be in [0, 32] for images of 32x32
    """
    if crop < 0:
        raise InputError(f'augmentation.crop={crop} must be 0 or above')
    if image_shape is not None:
        _check_crop(crop, image_shape)
    if crop == 0 and not flip:
        return None

    def augment_image(key: chex.PRNGKey, image: chex.Array) -> chex.Array:
        (crop_key, flip_key) = jax.random.split(jax.random.fold_in(key, _STREAM))
        if crop:
            _check_crop(crop, image.shape)
            padded = jnp.pad(image, ((crop, crop), (crop, crop), (0, 0)))
            (row, column) = jax.random.randint(crop_key, (2,), 0, 2 * crop + 1)
            image = jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)
        if flip:
            image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
        return image

    return jax.vmap(augment_image)


def _check_crop(crop: int, image_shape: tuple[int, ...]) -> None:
    (height, width) = image_shape[:2]
    if crop > min(height, width):
        raise InputError(
            f'augmentation.crop={crop} must be in [0, {min(height, width)}] for images of {height}x{width}'
        )

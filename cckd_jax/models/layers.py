"""Layers whose lowering suits the machine, equal to Flax's own in value and gradient."""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Max pooling over square windows that do not overlap; rows and columns that fill no window are dropped.

    Written as a maximum of slices because XLA:CPU takes about six times as long for the gradient of `reduce_window`.
    """

    window: int

    def __call__(self, images: chex.Array) -> chex.Array:
        for axis in (1, 2):
            size = images.shape[axis] // self.window * self.window
            slices = [jax.lax.slice_in_dim(images, start, size, self.window, axis) for start in range(self.window)]
            images = slices[0]
            for other in slices[1:]:
                images = jnp.maximum(images, other)
        return images


def flatten(images: chex.Array) -> chex.Array:
    """`[B, ...] -> [B, F]`."""
    return images.reshape(images.shape[0], -1)


def conv(features: int, size: int, *, padding: int = 0) -> nn.Conv:
    """A Flax convolution with square kernel and stride 1, lowered as this machine does it fastest."""
    return nn.Conv(
        features,
        (size, size),
        padding=padding,
        conv_general_dilated=_banded if jax.default_backend() == 'cpu' else None,
    )


def _banded(images, kernel, strides, padding, **_) -> chex.Array:
    """Convolution of narrow images as one matrix product.

    A row of the output is a banded (Toeplitz) matrix times k rows of the input, laid end to end. That is several times
    the arithmetic, but XLA:CPU multiplies matrices fifteen times as fast as it convolves one or six channels, and
    its gradients are matrix products as well.
    """
    del strides  # always 1: see `conv`
    ((top, bottom), (left, right)) = padding
    (size, _, channels, features) = kernel.shape
    (batch, height, width, _) = images.shape
    rows = height + top + bottom - size + 1
    columns = width + left + right - size + 1
    band = np.zeros((size, width, columns), kernel.dtype)
    for offset in range(size):
        for column in range(columns):
            if 0 <= column + offset - left < width:
                band[offset, column + offset - left, column] = 1
    matrix = jnp.einsum('jab,ijco->iacbo', band, kernel)
    matrix = matrix.reshape(size * width * channels, columns * features)
    lines = jnp.pad(images.reshape(batch, height, -1), ((0, 0), (top, bottom), (0, 0)))
    lines = jnp.concatenate([lines[:, start : start + rows] for start in range(size)], axis=-1)
    return (lines.reshape(batch * rows, -1) @ matrix).reshape(batch, rows, columns, features)

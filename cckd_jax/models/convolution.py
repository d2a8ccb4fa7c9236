"""Convolutions of few channels as a CPU does them fastest; other backends have libraries of their own for them.

XLA:CPU gathers the patches of an image with few channels number by number, which takes ten times as long as the
arithmetic. Measured by `launch/benchmark.py`; equal to `flax.linen.Conv` to float tolerance.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.nn.initializers import Initializer

from cckd_jax.models.initialization import FLAX

# Input channels up to which the banded product is faster, forward and for the gradient of the images, and the columns
# of a tile; measured on two x86-64 cores.
_FEW_CHANNELS = 3
_FEW_FOR_GRADIENT = 6
_TILES = (4, 5, 6, 7)


def conv(
    features: int,
    size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = True,
    kernel_init: Initializer = FLAX.conv,
    dtype: Any = jnp.float32,
) -> nn.Conv:
    """A Flax convolution with a square kernel, lowered as this machine does it fastest.

    With groups, an output channel sees the input channels of its own group alone.
    """
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding=padding,
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=kernel_init,
        dtype=dtype,
        conv_general_dilated=_convolve_on_cpu if jax.default_backend() == 'cpu' else None,
    )


def _convolve_on_cpu(
    images: chex.Array, kernel: chex.Array, strides, padding, feature_group_count: int = 1, **rest
) -> chex.Array:
    def plain(images: chex.Array, kernel: chex.Array) -> chex.Array:
        return jax.lax.conv_general_dilated(
            images, kernel, strides, padding, feature_group_count=feature_group_count, **rest
        )

    def banded(images: chex.Array, kernel: chex.Array) -> chex.Array:
        return _banded(images, kernel, padding)

    channels = kernel.shape[2]
    if channels > _FEW_FOR_GRADIENT or tuple(strides) != (1, 1) or feature_group_count != 1:
        return plain(images, kernel)
    forward = banded if channels <= _FEW_CHANNELS else plain

    @jax.custom_jvp
    def convolve(images: chex.Array, kernel: chex.Array) -> chex.Array:
        return forward(images, kernel)

    def tangent(primals, tangents) -> tuple[chex.Array, chex.Array]:
        (images, kernel), (images_dot, kernel_dot) = primals, tangents
        # The transposes of these two are the gradients.
        moved = []
        if not isinstance(images_dot, SymbolicZero):
            moved.append(banded(images_dot, kernel))
        if not isinstance(kernel_dot, SymbolicZero):
            moved.append(plain(images, kernel_dot))
        return forward(images, kernel), sum(moved[1:], moved[0])

    convolve.defjvp(tangent, symbolic_zeros=True)
    return convolve(images, kernel)


def _banded(images: chex.Array, kernel: chex.Array, padding) -> chex.Array:
    """Convolution as one matrix product over tiles of a few columns.

    A tile of the output's row is a banded (Toeplitz) matrix times the pixels under it, laid end to end. That is about
    twice the arithmetic, but the pixels come in long runs, and the product has more than a handful of columns.
    """
    ((top, bottom), (left, right)) = padding
    (size, _, channels, features) = kernel.shape
    (batch, height, width, _) = images.shape
    rows = height + top + bottom - size + 1
    columns = width + left + right - size + 1
    tile = min(_TILES, key=lambda tile: (-columns % tile, tile))
    tiles = -(-columns // tile)
    covered = tile + size - 1
    band = np.zeros((size, covered, tile), kernel.dtype)
    for offset in range(size):
        band[offset, np.arange(tile) + offset, np.arange(tile)] = 1
    matrix = jnp.einsum('jab,ijco->iacbo', band, kernel).reshape(size * covered * channels, tile * features)
    lines = jnp.pad(images, ((0, 0), (top, bottom), (left, right + tiles * tile - columns), (0, 0)))
    lines = lines.reshape(batch, height + top + bottom, -1)
    starts = np.arange(tiles) * tile * channels
    under = jnp.stack([lines[:, :, start : start + covered * channels] for start in starts], axis=2)
    under = jnp.concatenate([under[:, row : row + rows] for row in range(size)], axis=-1)
    result = under.reshape(batch * rows * tiles, -1) @ matrix
    return result.reshape(batch, rows, tiles * tile, features)[:, :, :columns]

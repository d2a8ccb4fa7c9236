"""Convolutions of few input channels, with a faster lowering on CPUs.

For an image with few channels, XLA:CPU gathers patches element by element, which takes ten times as long as the
arithmetic, and elementwise work on few output channels takes as long again. Other platforms use their own libraries.
The lowering is chosen when a program is lowered for a platform, so a program that a CPU machine exports for CUDA
contains ordinary convolutions. Results equal `flax.linen.Conv` to float tolerance; `launch/benchmark.py` measures the
speed.
"""

import dataclasses
import functools
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.nn.initializers import Initializer

from cckd_jax.models.initialization import FLAX
from cckd_jax.models.pooling import MaxPool, first_maximum

# The largest numbers of input channels for which matrix products are faster, in the forward pass and in the gradient of
# the images, and candidate widths of a tile, in columns. Measured as elapsed time on two x86-64 cores.
_FEW_CHANNELS = 3
_FEW_FOR_GRADIENT = 6
_TILES = (4, 5, 6, 7)
_POOLED_TILES = (4, 2, 1)
_POOL = MaxPool(2, 2)


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
    """Returns a Flax convolution with a square kernel.

    Args:
      features: number of output channels.
      size: height and width of the kernel.
      stride: in both directions.
      padding: zeros added on each side.
      groups: number of channel groups; an output channel sees only the input channels of its group.
      bias: whether to add a bias.
      kernel_init: initializer of the kernel.
      dtype: of the computation.
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
        conv_general_dilated=_conv_general_dilated,
    )


class ConvMaxPool(nn.Conv):
    """A convolution of stride 1 and a 2x2 max pool in one layer, which `conv_max_pool` creates."""

    def separate(self) -> tuple[nn.Conv, MaxPool]:
        """The two layers, unbound; both work with the variables of this one."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(nn.Conv) if field.init}
        detached = {'parent': None, 'name': None, 'conv_general_dilated': _conv_general_dilated}
        return nn.Conv(**{**fields, **detached}), _POOL


def conv_max_pool(features: int, size: int, *, padding: int = 0, dtype: Any = jnp.float32) -> ConvMaxPool:
    """Returns a Flax convolution with a square kernel that is followed by a 2x2 max pool.

    The layer equals `conv` and `MaxPool(2, 2)`, and has the variables of `conv`. On a CPU, with few input channels, it
    is faster than the two. A ReLU belongs behind it, where it has a quarter of the values: both orders give the same
    result.

    Args:
      features: number of output channels.
      size: height and width of the kernel.
      padding: zeros added on each side.
      dtype: of the computation.

    >>> layer, images = conv_max_pool(4, 5, padding=2), jnp.ones((1, 28, 28, 1))
    >>> layer.init_with_output(jax.random.key(0), images)[0].shape
    (1, 14, 14, 4)
    """
    return ConvMaxPool(
        features,
        (size, size),
        padding=padding,
        kernel_init=FLAX.conv,
        dtype=dtype,
        conv_general_dilated=_conv_max_pool,
    )


def _conv_general_dilated(
    images: chex.Array, kernel: chex.Array, strides, padding, feature_group_count: int = 1, **rest
) -> chex.Array:
    """`jax.lax.conv_general_dilated`, lowered by `_few_channels` where that is faster on a CPU."""
    if kernel.shape[2] > _FEW_FOR_GRADIENT or tuple(strides) != (1, 1) or feature_group_count != 1:
        return jax.lax.conv_general_dilated(
            images, kernel, strides, padding, feature_group_count=feature_group_count, **rest
        )
    return _few_channels(images, kernel, tuple(map(tuple, padding)), tuple(rest.items()))


def _conv_max_pool(images: chex.Array, kernel: chex.Array, strides, padding, **rest) -> chex.Array:
    """A convolution and a 2x2 max pool, lowered by `_pooled` where that is faster on a CPU."""
    if kernel.shape[2] > _FEW_CHANNELS:
        return _POOL(_conv_general_dilated(images, kernel, strides, padding, **rest))
    return _few_channels_pooled(images, kernel, tuple(map(tuple, padding)), tuple(rest.items()))


# Outside jit, a new conditional would compile at every call; jit keeps its program.
@functools.partial(jax.jit, static_argnums=(2, 3), inline=True)
def _few_channels_pooled(images: chex.Array, kernel: chex.Array, padding, rest) -> chex.Array:
    def plain(images: chex.Array, kernel: chex.Array) -> chex.Array:
        return _POOL(jax.lax.conv_general_dilated(images, kernel, (1, 1), padding, **dict(rest)))

    on_cpu = lambda images, kernel: _pooled(images, kernel, padding)
    return jax.lax.platform_dependent(images, kernel, cpu=on_cpu, default=plain)


def _pooled(images: chex.Array, kernel: chex.Array, padding) -> chex.Array:
    """Computes a convolution and a 2x2 max pool as one matrix product over tiles of a few pooled columns.

    The pixels that the pools of a tile compare depend on one patch, and the columns of a matrix are shifted copies of
    the kernel. The product contains the four corners of all pools one after the other, so that their maximum runs over
    contiguous values.
    """
    ((top, bottom), (left, right)) = padding
    (size, _, channels, features) = kernel.shape
    (batch, height, width, _) = images.shape
    rows = (height + top + bottom - size + 1) // 2
    columns = (width + left + right - size + 1) // 2
    tile = next(tile for tile in _POOLED_TILES if columns % tile == 0)
    tiles = columns // tile
    covered = 2 * tile + size - 1
    below = np.zeros((2, size + 1, size), kernel.dtype)
    beside = np.zeros((2, tile, covered, size), kernel.dtype)
    for offset in range(size):
        for corner in (0, 1):
            below[corner, corner + offset, offset] = 1
            beside[corner, np.arange(tile), 2 * np.arange(tile) + corner + offset, offset] = 1
    matrix = jnp.einsum('yri,xtcj,ijkf->rckyxtf', below, beside, kernel).reshape(-1, 4 * tile * features)
    lines = jnp.pad(images, ((0, 0), (top, bottom), (left, right), (0, 0)))
    lines = lines.reshape(batch, height + top + bottom, -1)
    starts = np.arange(tiles) * 2 * tile * channels
    patches = jnp.stack([lines[:, :, start : start + covered * channels] for start in starts], axis=2)
    patches = jnp.concatenate([patches[:, row : row + 2 * rows - 1 : 2] for row in range(size + 1)], axis=-1)
    corners = (patches.reshape(batch * rows * tiles, -1) @ matrix).reshape(-1, 4, tile * features)
    upper, lower = (first_maximum(corners[:, row], corners[:, row + 1]) for row in (0, 2))
    return first_maximum(upper, lower).reshape(batch, rows, columns, features)


@functools.partial(jax.jit, static_argnums=(2, 3), inline=True)
def _few_channels(images: chex.Array, kernel: chex.Array, padding, rest) -> chex.Array:
    def plain(images: chex.Array, kernel: chex.Array) -> chex.Array:
        return jax.lax.conv_general_dilated(images, kernel, (1, 1), padding, **dict(rest))

    def banded(images: chex.Array, kernel: chex.Array) -> chex.Array:
        return _banded(images, kernel, padding)

    forward = banded if kernel.shape[2] <= _FEW_CHANNELS else plain

    @jax.custom_jvp
    def on_cpu(images: chex.Array, kernel: chex.Array) -> chex.Array:
        return forward(images, kernel)

    def tangent(primals, tangents) -> tuple[chex.Array, chex.Array]:
        (images, kernel), (images_dot, kernel_dot) = primals, tangents
        # The transposes of these two terms are the gradients.
        terms = []
        if not isinstance(images_dot, SymbolicZero):
            terms.append(banded(images_dot, kernel))
        if not isinstance(kernel_dot, SymbolicZero):
            terms.append(plain(images, kernel_dot))
        return forward(images, kernel), sum(terms[1:], terms[0])

    on_cpu.defjvp(tangent, symbolic_zeros=True)
    return jax.lax.platform_dependent(images, kernel, cpu=on_cpu, default=plain)


def _banded(images: chex.Array, kernel: chex.Array, padding) -> chex.Array:
    """Computes a convolution as one matrix product over tiles of a few columns.

    Each tile of an output row is a banded (Toeplitz) matrix times the pixels below it, concatenated. This doubles the
    arithmetic, but the pixels lie in long contiguous runs, and the product has many columns.
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

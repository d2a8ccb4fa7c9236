"""Convolutions of few input channels, with a faster lowering on CPUs.

For an image with few channels, XLA:CPU gathers patches element by element, which takes ten times as long as the
arithmetic. Other platforms use their own libraries. The lowering is chosen when a program is lowered for a platform, so
a program that a CPU machine exports for CUDA contains ordinary convolutions. Results equal `flax.linen.Conv` to float
tolerance; `launch/benchmark.py` measures the speed.
"""

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

# The largest numbers of input channels for which the banded product is faster, in the forward pass and in the gradient
# of the images, and candidate widths of a tile, in columns. Measured on two x86-64 cores.
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


def _conv_general_dilated(
    images: chex.Array, kernel: chex.Array, strides, padding, feature_group_count: int = 1, **rest
) -> chex.Array:
    """`jax.lax.conv_general_dilated`, lowered by `_few_channels` where that is faster on a CPU."""
    if kernel.shape[2] > _FEW_FOR_GRADIENT or tuple(strides) != (1, 1) or feature_group_count != 1:
        return jax.lax.conv_general_dilated(
            images, kernel, strides, padding, feature_group_count=feature_group_count, **rest
        )
    return _few_channels(images, kernel, tuple(map(tuple, padding)), tuple(rest.items()))


# Outside jit, a new conditional would compile at every call; jit keeps its program.
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

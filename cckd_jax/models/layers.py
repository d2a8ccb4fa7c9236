"""Layers that Flax has not, or has not as a masked, split batch or this machine wants them."""

import dataclasses
import zlib
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer

from cckd_jax.models.base import Mode, ModeLayer, Training
from cckd_jax.models.convolution import conv as conv
from cckd_jax.models.initialization import FLAX


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Max pooling over square windows without padding; rows and columns that fill no window are dropped.

    Written as a maximum of slices because XLA:CPU takes several times as long for the gradient of `reduce_window`. As
    there, of equal values the first has the whole gradient; `jnp.maximum` would divide it, which is slower.

    Attributes:
      window: size of the square.
      stride: step from one to the next.
    """

    window: int
    stride: int

    def __call__(self, images: chex.Array) -> chex.Array:
        for axis in (1, 2):
            count = (images.shape[axis] - self.window) // self.stride + 1
            stop = (count - 1) * self.stride + 1
            slices = [
                jax.lax.slice_in_dim(images, start, start + stop, self.stride, axis) for start in range(self.window)
            ]
            images = slices[0]
            for other in slices[1:]:
                images = _first_maximum(images, other)
        return images


@jax.custom_jvp
def _first_maximum(first: chex.Array, second: chex.Array) -> chex.Array:
    return jnp.maximum(first, second)


@_first_maximum.defjvp
def _(primals, tangents) -> tuple[chex.Array, chex.Array]:
    (first, second) = primals
    return jnp.maximum(first, second), jnp.where(first >= second, *tangents)


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm:
    """Divides each channel by the energy of its neighbours.

    $x_c / (k + a \\sum_{|d| \\le r} x_{c+d}^2)^b$, k > 0, with a not divided by the number of channels. Flax has none.
    """

    radius: int = 2
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def __call__(self, images: chex.Array) -> chex.Array:
        # A product with a banded matrix sums the neighbours, and roots raise to the usual power: sliced sums and `**`
        # take XLA:CPU several times as long.
        channels = np.arange(images.shape[-1])
        near = np.abs(channels[:, None] - channels) <= self.radius
        wide = images.astype(jnp.float32)
        energy = jnp.square(wide) @ near.astype(np.float32)
        base = self.bias + self.alpha * energy
        if self.beta == 0.75:
            root = jax.lax.rsqrt(base)
            return (wide * root * jnp.sqrt(root)).astype(images.dtype)
        return (wide * base**-self.beta).astype(images.dtype)


def flatten(images: chex.Array) -> chex.Array:
    """`[B, ...] -> [B, F]`."""
    return images.reshape(images.shape[0], -1)


def global_average(images: chex.Array) -> chex.Array:
    """`[B, H, W, C] -> [B, C]`."""
    return images.mean((1, 2))


def shuffle(values: chex.Array, groups: int) -> chex.Array:
    """Deals the channels out, so that a grouped convolution sees all groups of the one before (arXiv:1707.01083).

    Of `groups` equal parts of the channels, first comes the first channel of each, then the second of each.

    >>> shuffle(jnp.arange(6).reshape(1, 1, 1, 6), 2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    parts = values.reshape(*values.shape[:-1], groups, -1)
    return jnp.swapaxes(parts, -1, -2).reshape(values.shape)


class BatchNorm(ModeLayer):
    """Batch normalisation over the valid rows of all devices.

    Flax's own averages the devices' means, which is wrong where the last batch leaves them unequally many rows.
    Momentum and epsilon are PyTorch's, which the CCKD paper used: running = 0.9 running + 0.1 batch.
    """

    dtype: Any = jnp.float32
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, values: chex.Array, train: Training | bool = False) -> chex.Array:
        features = values.shape[-1:]
        scale = self.param('scale', nn.initializers.ones, features)
        bias = self.param('bias', nn.initializers.zeros, features)
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, features)
        running_var = self.variable('batch_stats', 'var', jnp.ones, features)
        wide = values.astype(jnp.float32)
        (mean, var) = (running_mean.value, running_var.value)
        if train:
            (mean, var) = self._batch_statistics(wide, train)
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean
            running_var.value = keep * running_var.value + (1 - keep) * var
        across = lambda each: each.reshape((1,) * (values.ndim - 1) + features)
        normal = (wide - across(mean)) * across(scale * jax.lax.rsqrt(var + self.epsilon)) + across(bias)
        return normal.astype(self.dtype)

    def _batch_statistics(self, values: chex.Array, train: Training) -> tuple[chex.Array, chex.Array]:
        axes = tuple(range(values.ndim - 1))
        mask = train.valid.reshape((-1,) + (1,) * (values.ndim - 1))
        total = lambda each: each if train.axis_name is None else jax.lax.psum(each, train.axis_name)
        # Of no examples all is 0, and not NaN, which would end a run in which a batch keeps nobody.
        count = jnp.maximum(total(jnp.sum(train.valid) * np.prod(values.shape[1:-1], dtype=np.float32)), 1)
        mean = total(jnp.sum(jnp.where(mask, values, 0), axes)) / count
        centred = values - mean.reshape((1,) * (values.ndim - 1) + mean.shape)
        return mean, total(jnp.sum(jnp.where(mask, jnp.square(centred), 0), axes)) / count


class ConvNorm(ModeLayer):
    """A convolution without bias that keeps the size at stride 1, and batch norm.

    Attributes:
      features: channels that it gives.
      size: of the square kernel, odd.
      stride: from one place to the next.
      groups: of channels, each with a convolution of its own.
      kernel_init: what the kernel is drawn from.
      dtype: what is computed in.
    """

    features: int
    size: int = 1
    stride: int = 1
    groups: int = 1
    kernel_init: Initializer = FLAX.conv
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: chex.Array, train: Mode = False) -> chex.Array:
        values = conv(
            self.features,
            self.size,
            stride=self.stride,
            padding=self.size // 2,
            groups=self.groups,
            bias=False,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
        )(values)
        return BatchNorm(dtype=self.dtype)(values, train)


class Dropout(ModeLayer):
    """Dropout drawn for each example from its own key, so that neither devices nor batch layout change it.

    Attributes:
      rate: share of the activations that are dropped, in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, values: chex.Array, train: Training | bool = False) -> chex.Array:
        if not train or self.rate == 0:
            return values
        layer = zlib.crc32('/'.join(self.path).encode())
        keep = jax.vmap(
            lambda key: jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - self.rate, values.shape[1:])
        )(train.keys)
        return jnp.where(keep, values / (1 - self.rate), 0).astype(values.dtype)

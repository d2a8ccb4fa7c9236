"""Layers that Flax lacks, or that need masking, cross-device statistics or a faster CPU lowering."""

import dataclasses
import zlib
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer

from cckd_jax.models.base import TrainAwareLayer, TrainMode
from cckd_jax.models.convolution import ConvMaxPool as ConvMaxPool, conv as conv, conv_max_pool as conv_max_pool
from cckd_jax.models.initialization import FLAX
from cckd_jax.models.pooling import MaxPool as MaxPool


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm:
    """Local response normalization across channels, which Flax lacks.

    $x_c / (k + a \\sum_{|d| \\le r} x_{c+d}^2)^b$ with k > 0; a is not divided by the number of channels.
    """

    radius: int = 2
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def __call__(self, images: chex.Array) -> chex.Array:
        # A banded matrix product for the sum and roots for the power, because XLA:CPU takes several times as long for
        # sliced sums and `**`.
        channels = np.arange(images.shape[-1])
        near = np.abs(channels[:, None] - channels) <= self.radius
        wide = images.astype(jnp.float32)
        energy = jnp.square(wide) @ near.astype(np.float32)
        base = self.bias + self.alpha * energy
        if self.beta == 0.75:
            root = jax.lax.rsqrt(base)
            return (wide * root * jnp.sqrt(root)).astype(images.dtype)
        return (wide * base**-self.beta).astype(images.dtype)


@dataclasses.dataclass(frozen=True)
class Standardize:
    """Pixels in [0, 1] minus a mean, divided by a standard deviation; of each channel, or one for all."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, images: chex.Array) -> chex.Array:
        shape = (1,) * (images.ndim - 1) + (-1,)
        (mean, std) = (jnp.asarray(values, images.dtype).reshape(shape) for values in (self.mean, self.std))
        return (images - mean) / std


def flatten(images: chex.Array) -> chex.Array:
    """`[B, ...] -> [B, F]`."""
    return images.reshape(images.shape[0], -1)


def global_average(images: chex.Array) -> chex.Array:
    """`[B, H, W, C] -> [B, C]`."""
    return images.mean((1, 2))


def shuffle(values: chex.Array, groups: int) -> chex.Array:
    """Channel shuffle, which lets a grouped convolution see all groups of the previous one (arXiv:1707.01083).

    The output has the first channel of every group, then the second of every group, and so on.

    >>> shuffle(jnp.arange(6).reshape(1, 1, 1, 6), 2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    grouped = values.reshape(*values.shape[:-1], groups, -1)
    return jnp.swapaxes(grouped, -1, -2).reshape(values.shape)


class BatchNorm(TrainAwareLayer):
    """Batch normalization over the valid rows of all devices.

    Flax's `BatchNorm` averages the means of the devices, which is wrong if the last batch gives them different
    numbers of rows. Momentum and epsilon are those of PyTorch, which the CCKD paper used:
    running = 0.9 running + 0.1 batch.
    """

    dtype: Any = jnp.float32
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, values: chex.Array, train: TrainMode | bool = False) -> chex.Array:
        features = values.shape[-1:]
        scale = self.param('scale', nn.initializers.ones, features)
        bias = self.param('bias', nn.initializers.zeros, features)
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, features)
        running_var = self.variable('batch_stats', 'var', jnp.ones, features)
        wide = values.astype(jnp.float32)
        (mean, var) = (running_mean.value, running_var.value)
        if train:
            (mean, var) = self._batch_statistics(wide, train)
            momentum = self.momentum
            running_mean.value = momentum * running_mean.value + (1 - momentum) * mean
            running_var.value = momentum * running_var.value + (1 - momentum) * var
        expand = lambda statistic: statistic.reshape((1,) * (values.ndim - 1) + features)
        normalized = (wide - expand(mean)) * expand(scale * jax.lax.rsqrt(var + self.epsilon)) + expand(bias)
        return normalized.astype(self.dtype)

    def _batch_statistics(self, values: chex.Array, train: TrainMode | bool) -> tuple[chex.Array, chex.Array]:
        if not isinstance(train, TrainMode):
            train = TrainMode(jnp.ones(len(values), bool))
        axes = tuple(range(values.ndim - 1))
        mask = train.valid.reshape((-1,) + (1,) * (values.ndim - 1))
        total = lambda local: local if train.axis_name is None else jax.lax.psum(local, train.axis_name)
        # Without any valid row the statistics are 0 and not NaN, which would end a run whose gate drops a whole batch.
        count = jnp.maximum(total(jnp.sum(train.valid) * np.prod(values.shape[1:-1], dtype=np.float32)), 1)
        mean = total(jnp.sum(jnp.where(mask, values, 0), axes)) / count
        centred = values - mean.reshape((1,) * (values.ndim - 1) + mean.shape)
        return mean, total(jnp.sum(jnp.where(mask, jnp.square(centred), 0), axes)) / count


class ConvNorm(TrainAwareLayer):
    """A size-preserving convolution without bias, then batch norm.

    Attributes:
      features: channels of the output.
      size: of the square kernel, odd.
      stride: of the convolution.
      groups: of channels, convolved separately.
      kernel_init: of the kernel.
      dtype: of the computation.
    """

    features: int
    size: int = 1
    stride: int = 1
    groups: int = 1
    kernel_init: Initializer = FLAX.conv
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: chex.Array, train: TrainMode | bool = False) -> chex.Array:
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


class Dropout(TrainAwareLayer):
    """Dropout with one key per example, so that neither the devices nor the batch layout change it.

    With `train=True` the keys derive from the `dropout` stream of `rngs`.

    Attributes:
      rate: fraction of the activations that are dropped, in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, values: chex.Array, train: TrainMode | bool = False) -> chex.Array:
        if not train or self.rate == 0:
            return values
        keys = train.keys if isinstance(train, TrainMode) else jax.random.split(self.make_rng('dropout'), len(values))
        layer = zlib.crc32('/'.join(self.path).encode())
        keep = jax.vmap(
            lambda key: jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - self.rate, values.shape[1:])
        )(keys)
        return jnp.where(keep, values / (1 - self.rate), 0).astype(values.dtype)

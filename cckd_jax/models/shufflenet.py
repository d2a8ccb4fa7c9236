"""ShuffleNet (arXiv:1707.01083) and ShuffleNetV2 (arXiv:1807.11164) for 32x32 images, as in CRD's for CIFAR-100.

There the stem is a 1x1 convolution without a pool, and V1 has ReLU after its depthwise convolution too.
"""

from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp

from cckd_jax.models import layers
from cckd_jax.models.base import Classifier, Layer, Mode, ModeLayer
from cckd_jax.models.initialization import PYTORCH

_GROUPS = 3


class ShuffleUnit(ModeLayer):
    """A grouped 1x1 convolution to few channels, a shuffle, a depthwise 3x3 convolution, and a grouped 1x1 one.

    At stride 1 the input is added; at stride 2 its average pool is laid beside.

    Attributes:
      channels: what it gives.
      stride: 1 or 2.
      first_groups: of the first convolution; 1 after the stem, which has few channels.
      dtype: what is computed in.
    """

    channels: int
    stride: int
    first_groups: int = _GROUPS
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: chex.Array, train: Mode = False) -> chex.Array:
        how = {'kernel_init': PYTORCH.conv, 'dtype': self.dtype}
        new = self.channels if self.stride == 1 else self.channels - values.shape[-1]
        few = _in_groups(new / 4)
        inner = nn.relu(layers.ConvNorm(few, groups=self.first_groups, **how)(values, train))
        inner = layers.shuffle(inner, self.first_groups)
        inner = nn.relu(layers.ConvNorm(few, 3, self.stride, groups=few, **how)(inner, train))
        inner = layers.ConvNorm(new, groups=_GROUPS, **how)(inner, train)
        if self.stride == 1:
            return nn.relu(inner + values)
        pooled = nn.avg_pool(values, (3, 3), (2, 2), ((1, 1), (1, 1)))
        return nn.relu(jnp.concatenate([inner, pooled], -1))


class ShuffleNetV1(Classifier):
    """Three stages of units with 240, 480 and 960 channels in three groups: the paper's 1x (g = 3).

    At a hundred classes 949,258 parameters.

    Attributes:
      blocks: how many units in each stage; the first halves the image.
    """

    blocks: tuple[int, int, int] = (4, 8, 4)

    def setup(self):
        self.stem = layers.conv(_in_groups(24 * self.width), 1, bias=False, kernel_init=PYTORCH.conv, dtype=self.dtype)
        self.stem_norm = layers.BatchNorm(dtype=self.dtype)
        channels = [_in_groups(240 * 2**stage * self.width) for stage in range(3)]
        self.groups = [
            [
                ShuffleUnit(channels[stage], 2 if block == 0 else 1, 1 if stage == block == 0 else _GROUPS, self.dtype)
                for block in range(count)
            ]
            for stage, count in enumerate(self.blocks)
        ]
        self.output = PYTORCH.output(self.num_classes, channels[-1], self.dtype)

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        (first, *rest) = (tuple(group) for group in self.groups)
        return ((self.stem, self.stem_norm, nn.relu, *first), *rest)

    def classifier(self) -> tuple[Layer, ...]:
        return (layers.global_average, self.output)


class ShuffleUnitV2(ModeLayer):
    """Half of the channels go through three convolutions and half go by; then they are shuffled.

    At stride 2 both halves are made of all channels, and what goes by has two convolutions of its own.

    Attributes:
      channels: what it gives.
      stride: 1 or 2.
      dtype: what is computed in.
    """

    channels: int
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: chex.Array, train: Mode = False) -> chex.Array:
        half = self.channels // 2
        pointwise = lambda values: nn.relu(
            layers.ConvNorm(half, kernel_init=PYTORCH.conv, dtype=self.dtype)(values, train)
        )
        depthwise = lambda values: layers.ConvNorm(
            values.shape[-1],
            3,
            self.stride,
            groups=values.shape[-1],
            kernel_init=PYTORCH.conv,
            dtype=self.dtype,
        )(values, train)
        if self.stride == 1:
            (aside, through) = jnp.split(values, 2, -1)
        else:
            (aside, through) = (pointwise(depthwise(values)), values)
        through = pointwise(depthwise(pointwise(through)))
        return layers.shuffle(jnp.concatenate([aside, through], -1), 2)


class ShuffleNetV2(Classifier):
    """Three stages of units with 116, 232 and 464 channels, and a 1x1 convolution to 1,024: the paper's 1x.

    At a hundred classes 1,355,528 parameters. The last convolution belongs to the last stage, as where CA-MKD takes
    features.

    Attributes:
      blocks: how many units in each stage; the first halves the image.
    """

    blocks: tuple[int, int, int] = (4, 8, 4)

    def setup(self):
        how = {'bias': False, 'kernel_init': PYTORCH.conv, 'dtype': self.dtype}
        self.stem = layers.conv(self.scaled(24), 1, **how)
        self.stem_norm = layers.BatchNorm(dtype=self.dtype)
        self.groups = [
            [
                ShuffleUnitV2(2 * self.scaled(58 * 2**stage), 2 if block == 0 else 1, self.dtype)
                for block in range(count)
            ]
            for stage, count in enumerate(self.blocks)
        ]
        last = self.scaled(1024)
        self.last = layers.conv(last, 1, **how)
        self.last_norm = layers.BatchNorm(dtype=self.dtype)
        self.output = PYTORCH.output(self.num_classes, last, self.dtype)

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        (first, *rest, last) = (tuple(group) for group in self.groups)
        return ((self.stem, self.stem_norm, nn.relu, *first), *rest, (*last, self.last, self.last_norm, nn.relu))

    def classifier(self) -> tuple[Layer, ...]:
        return (layers.global_average, self.output)


def _in_groups(channels: float) -> int:
    """The nearest number of channels that divides into groups, at least one each."""
    return _GROUPS * max(1, round(channels / _GROUPS))

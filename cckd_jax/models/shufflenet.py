"""ShuffleNet (arXiv:1707.01083) and ShuffleNetV2 (arXiv:1807.11164) for 32x32 images, as CRD defines them.

The stem is a 1x1 convolution without pooling, and V1 also has ReLU after its depthwise convolution.
"""

from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp

from cckd_jax.models import layers
from cckd_jax.models.base import Classifier, Layer, TrainAwareLayer, TrainMode
from cckd_jax.models.initialization import PYTORCH

_GROUPS = 3


class ShuffleUnit(TrainAwareLayer):
    """A grouped 1x1 convolution to a quarter of the channels, a shuffle, a depthwise 3x3 and a grouped 1x1 convolution.

    At stride 1 the input is added; at stride 2 its average pool is concatenated.

    Attributes:
      channels: of the output.
      stride: 1 or 2.
      first_groups: of the first convolution; 1 after the stem, which has few channels.
      dtype: of the computation.
    """

    channels: int
    stride: int
    first_groups: int = _GROUPS
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: chex.Array, train: TrainMode | bool = False) -> chex.Array:
        options = {'kernel_init': PYTORCH.conv, 'dtype': self.dtype}
        new = self.channels if self.stride == 1 else self.channels - values.shape[-1]
        hidden = _in_groups(new / 4)
        inner = nn.relu(layers.ConvNorm(hidden, groups=self.first_groups, **options)(values, train))
        inner = layers.shuffle(inner, self.first_groups)
        inner = nn.relu(layers.ConvNorm(hidden, 3, self.stride, groups=hidden, **options)(inner, train))
        inner = layers.ConvNorm(new, groups=_GROUPS, **options)(inner, train)
        if self.stride == 1:
            return nn.relu(inner + values)
        pooled = nn.avg_pool(values, (3, 3), (2, 2), ((1, 1), (1, 1)))
        return nn.relu(jnp.concatenate([inner, pooled], -1))


class ShuffleNetV1(Classifier):
    """Three stages of units with 240, 480 and 960 channels in three groups: the paper's 1x (g = 3).

    At a hundred classes it has 949,258 parameters.

    Attributes:
      blocks: the number of units per stage; the first of a stage halves the image.
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


class ShuffleUnitV2(TrainAwareLayer):
    """Three convolutions on half of the channels and the identity on the other half, then a shuffle.

    At stride 2 both halves take all input channels, and two convolutions replace the identity.

    Attributes:
      channels: of the output.
      stride: 1 or 2.
      dtype: of the computation.
    """

    channels: int
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: chex.Array, train: TrainMode | bool = False) -> chex.Array:
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
            (identity_half, convolved_half) = jnp.split(values, 2, -1)
        else:
            (identity_half, convolved_half) = (pointwise(depthwise(values)), values)
        convolved_half = pointwise(depthwise(pointwise(convolved_half)))
        return layers.shuffle(jnp.concatenate([identity_half, convolved_half], -1), 2)


class ShuffleNetV2(Classifier):
    """Three stages of units with 116, 232 and 464 channels, and a 1x1 convolution to 1,024: the paper's 1x.

    At a hundred classes it has 1,355,528 parameters. The last convolution belongs to the last stage, as in CA-MKD's
    features.

    Attributes:
      blocks: the number of units per stage; the first of a stage halves the image.
    """

    blocks: tuple[int, int, int] = (4, 8, 4)

    def setup(self):
        options = {'bias': False, 'kernel_init': PYTORCH.conv, 'dtype': self.dtype}
        self.stem = layers.conv(self.scaled(24), 1, **options)
        self.stem_norm = layers.BatchNorm(dtype=self.dtype)
        self.groups = [
            [
                ShuffleUnitV2(2 * self.scaled(58 * 2**stage), 2 if block == 0 else 1, self.dtype)
                for block in range(count)
            ]
            for stage, count in enumerate(self.blocks)
        ]
        last = self.scaled(1024)
        self.last = layers.conv(last, 1, **options)
        self.last_norm = layers.BatchNorm(dtype=self.dtype)
        self.output = PYTORCH.output(self.num_classes, last, self.dtype)

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        (first, *rest, last) = (tuple(group) for group in self.groups)
        return ((self.stem, self.stem_norm, nn.relu, *first), *rest, (*last, self.last, self.last_norm, nn.relu))

    def classifier(self) -> tuple[Layer, ...]:
        return (layers.global_average, self.output)


def _in_groups(channels: float) -> int:
    """The nearest channel count that is divisible by the number of groups, at least one per group."""
    return _GROUPS * max(1, round(channels / _GROUPS))

"""MobileNetV2 (arXiv:1801.04381) for 32x32 images, as CRD defines it for CIFAR-100: with ReLU, not ReLU6."""

from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp

from cckd_jax.models import layers
from cckd_jax.models.base import Classifier, Layer, TrainAwareLayer, TrainMode
from cckd_jax.models.initialization import MOBILENET

_CHANNELS = (16, 24, 32, 64, 96, 160, 320)
_STRIDES = (1, 1, 2, 2, 1, 2, 1)
# A stage ends where the next group of blocks halves the image.
_STAGES = (slice(0, 2), slice(2, 3), slice(3, 5), slice(5, 7))


class InvertedResidual(TrainAwareLayer):
    """A 1x1 convolution that expands, a depthwise 3x3 one, and a linear 1x1 one; a shortcut if shapes are equal.

    Attributes:
      channels: of the output.
      stride: of the depthwise convolution.
      expansion: ratio of hidden to input channels.
      dtype: of the computation.
    """

    channels: int
    stride: int
    expansion: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: chex.Array, train: TrainMode | bool = False) -> chex.Array:
        expanded = self.expansion * values.shape[-1]
        options = {'kernel_init': MOBILENET.conv, 'dtype': self.dtype}
        inner = nn.relu(layers.ConvNorm(expanded, **options)(values, train))
        inner = nn.relu(layers.ConvNorm(expanded, 3, self.stride, groups=expanded, **options)(inner, train))
        inner = layers.ConvNorm(self.channels, **options)(inner, train)
        return inner + values if inner.shape == values.shape else inner


class MobileNetV2(Classifier):
    """A 3x3 convolution of stride 2, seven groups of inverted residuals, and a 1x1 convolution before the average.

    At width 0.5 and a hundred classes it has 812,836 parameters. The last convolution belongs to the classifier, as in
    CRD's features.

    Attributes:
      blocks: the number of blocks per group.
      expansion: of all groups but the first, whose expansion is 1.
    """

    blocks: tuple[int, ...] = (1, 2, 3, 4, 3, 3, 1)
    expansion: int = 6

    def setup(self):
        options = {'bias': False, 'kernel_init': MOBILENET.conv, 'dtype': self.dtype}
        self.stem = layers.conv(self.scaled(32), 3, stride=2, padding=1, **options)
        self.stem_norm = layers.BatchNorm(dtype=self.dtype)
        self.groups = [
            [
                InvertedResidual(
                    self.scaled(channels), stride if block == 0 else 1, self.expansion if group > 0 else 1, self.dtype
                )
                for block in range(count)
            ]
            for group, (channels, stride, count) in enumerate(zip(_CHANNELS, _STRIDES, self.blocks, strict=True))
        ]
        last = max(1280, self.scaled(1280))
        self.last = layers.conv(last, 1, **options)
        self.last_norm = layers.BatchNorm(dtype=self.dtype)
        self.output = MOBILENET.output(self.num_classes, last, self.dtype)

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        (first, *rest) = (tuple(block for group in self.groups[stage] for block in group) for stage in _STAGES)
        return ((self.stem, self.stem_norm, nn.relu, *first), *rest)

    def classifier(self) -> tuple[Layer, ...]:
        return (self.last, self.last_norm, nn.relu, layers.global_average, self.output)

"""ResNets with the CIFAR stem: the second SVHN pair of the CCKD paper, and CRD's networks for CIFAR-100."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from cckd_jax.models import layers
from cckd_jax.models.base import Classifier, Layer, TrainAwareLayer, TrainMode
from cckd_jax.models.initialization import FLAX, RESNET, Initialization


class BasicBlock(TrainAwareLayer):
    """Two 3x3 convolutions and a shortcut, which is projected if shapes change (arXiv:1512.03385).

    Attributes:
      channels: of both convolutions.
      stride: of the first.
      kernel_init: of all convolutions.
      dtype: of the computation.
    """

    channels: int
    stride: int = 1
    kernel_init: Initializer = FLAX.conv
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: chex.Array, train: TrainMode | bool = False) -> chex.Array:
        norm = lambda: layers.BatchNorm(dtype=self.dtype)
        conv = lambda size, stride: layers.conv(
            self.channels,
            size,
            stride=stride,
            padding=size // 2,
            bias=False,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
        )
        inner = nn.relu(norm()(conv(3, self.stride)(values), train))
        inner = norm()(conv(3, 1)(inner), train)
        if self.stride != 1 or values.shape[-1] != self.channels:
            values = norm()(conv(1, self.stride)(values), train)
        return nn.relu(inner + values)


class ResNet(Classifier):
    """A 3x3 convolution without pooling, then stages of basic blocks; each stage doubles the channels.

    At 32x32x3 and ten classes it has 11,173,962 parameters with blocks (2, 2, 2, 2), and 21,282,122 with (3, 4, 6, 3).
    CRD's networks (arXiv:1910.10699) have three stages; at a hundred classes resnet56 has 861,620 parameters,
    resnet8x4 1,233,540, resnet20x4 4,333,700 and resnet32x4 7,433,860.

    Attributes:
      blocks: the number of blocks per stage.
      stem_channels: of the first convolution.
      channels: of the first stage.
      initialization: distribution of the initial weights.
      mean: subtracted from the pixels in [0, 1], of each channel or one for all; nothing if empty. For weights that
        were trained on standardized images.
      std: by which the pixels are divided.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    stem_channels: int = 64
    channels: int = 64
    initialization: Initialization = FLAX
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def setup(self):
        kernel_init = self.initialization.conv
        self.stem = layers.conv(
            self.scaled(self.stem_channels), 3, padding=1, bias=False, kernel_init=kernel_init, dtype=self.dtype
        )
        self.stem_norm = layers.BatchNorm(dtype=self.dtype)
        channels = [self.scaled(self.channels * 2**stage) for stage in range(len(self.blocks))]
        self.groups = [
            [
                BasicBlock(channels[stage], 2 if stage > 0 and block == 0 else 1, kernel_init, dtype=self.dtype)
                for block in range(count)
            ]
            for stage, count in enumerate(self.blocks)
        ]
        self.output = self.initialization.output(self.num_classes, channels[-1], self.dtype)

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        first: tuple[Layer, ...] = (self.stem, self.stem_norm, nn.relu)
        if self.mean or self.std:
            first = (layers.Standardize(self.mean or (0.0,), self.std or (1.0,)), *first)
        return tuple((*(first if stage == 0 else ()), *group) for stage, group in enumerate(self.groups))

    def classifier(self) -> tuple[Layer, ...]:
        return (layers.global_average, self.output)


# CRD's networks for CIFAR-100. In the x4 variants the stem has twice the channels, the stages four times.
CIFAR_NARROW: Mapping[str, Any] = MappingProxyType({'stem_channels': 16, 'channels': 16, 'initialization': RESNET})
CIFAR_X4: Mapping[str, Any] = MappingProxyType({'stem_channels': 32, 'channels': 64, 'initialization': RESNET})

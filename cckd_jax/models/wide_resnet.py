"""Wide residual networks (arXiv:1605.07146), as CRD defines them for CIFAR-100."""

from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp

from cckd_jax.models import layers
from cckd_jax.models.base import Classifier, Layer, TrainAwareLayer, TrainMode
from cckd_jax.models.initialization import WIDE_RESNET


class PreActivationBlock(TrainAwareLayer):
    """Batch norm and ReLU before each of two 3x3 convolutions, and a shortcut.

    If shapes change, the shortcut projects the values after the first ReLU.

    Attributes:
      channels: of both convolutions.
      stride: of the first.
      dtype: of the computation.
    """

    channels: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: chex.Array, train: TrainMode | bool = False) -> chex.Array:
        active = lambda values: nn.relu(layers.BatchNorm(dtype=self.dtype)(values, train))
        conv = lambda size, stride: layers.conv(
            self.channels,
            size,
            stride=stride,
            padding=size // 2,
            bias=False,
            kernel_init=WIDE_RESNET.conv,
            dtype=self.dtype,
        )
        first = active(values)
        inner = active(conv(3, self.stride)(first))
        inner = conv(3, 1)(inner)
        if self.stride != 1 or values.shape[-1] != self.channels:
            values = conv(1, self.stride)(first)
        return inner + values


class WideResNet(Classifier):
    """A narrow 3x3 convolution, then stages of pre-activation blocks; the last stage ends with batch norm and ReLU.

    At 32x32x3 and a hundred classes WRN-40-2 has 2,255,156 parameters: six blocks per stage, width factor 2.

    Attributes:
      blocks: the number of blocks per stage.
      channels: of the first stage; each stage doubles them.
    """

    blocks: tuple[int, ...] = (6, 6, 6)
    channels: int = 32

    def setup(self):
        self.stem = layers.conv(
            self.scaled(16), 3, padding=1, bias=False, kernel_init=WIDE_RESNET.conv, dtype=self.dtype
        )
        channels = [self.scaled(self.channels * 2**stage) for stage in range(len(self.blocks))]
        self.groups = [
            [
                PreActivationBlock(channels[stage], 2 if stage > 0 and block == 0 else 1, dtype=self.dtype)
                for block in range(count)
            ]
            for stage, count in enumerate(self.blocks)
        ]
        self.norm = layers.BatchNorm(dtype=self.dtype)
        self.output = WIDE_RESNET.output(self.num_classes, channels[-1], self.dtype)

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        stages: list[list[Layer]] = [list(group) for group in self.groups]
        stages[0].insert(0, self.stem)
        stages[-1] += [self.norm, nn.relu]
        return tuple(map(tuple, stages))

    def classifier(self) -> tuple[Layer, ...]:
        return (layers.global_average, self.output)

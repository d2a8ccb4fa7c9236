"""ResNet-18 and ResNet-34 with the CIFAR stem: the second SVHN pair of the CCKD paper."""

from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp

from cckd_jax.models import layers
from cckd_jax.models.base import Classifier, Layer, Mode, ModeLayer


class BasicBlock(ModeLayer):
    """Two 3x3 convolutions around a shortcut, which is projected where shapes change (arXiv:1512.03385).

    Attributes:
      channels: of both convolutions.
      stride: of the first.
      dtype: what is computed in.
    """

    channels: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: chex.Array, train: Mode = False) -> chex.Array:
        norm = lambda: layers.BatchNorm(dtype=self.dtype)
        conv = lambda size, stride: layers.conv(
            self.channels, size, stride=stride, padding=size // 2, bias=False, dtype=self.dtype
        )
        inner = nn.relu(norm()(conv(3, self.stride)(values), train))
        inner = norm()(conv(3, 1)(inner), train)
        if self.stride != 1 or values.shape[-1] != self.channels:
            values = norm()(conv(1, self.stride)(values), train)
        return nn.relu(inner + values)


class ResNet(Classifier):
    """Four stages of basic blocks of 64, 128, 256 and 512 channels, after a 3x3 convolution without a pool.

    At 32x32x3 and ten classes 11,173,962 parameters with blocks (2, 2, 2, 2), 21,282,122 with (3, 4, 6, 3).

    Attributes:
      blocks: how many in each stage.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)

    def setup(self):
        self.stem = layers.conv(self.scaled(64), 3, padding=1, bias=False, dtype=self.dtype)
        self.stem_norm = layers.BatchNorm(dtype=self.dtype)
        self.groups = [
            [
                BasicBlock(self.scaled(64 * 2**stage), 2 if stage > 0 and block == 0 else 1, dtype=self.dtype)
                for block in range(count)
            ]
            for stage, count in enumerate(self.blocks)
        ]
        self.output = nn.Dense(self.num_classes, dtype=self.dtype)

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        first = (self.stem, self.stem_norm, nn.relu)
        return tuple((*(first if stage == 0 else ()), *group) for stage, group in enumerate(self.groups))

    def classifier(self) -> tuple[Layer, ...]:
        return (layers.global_average, self.output)

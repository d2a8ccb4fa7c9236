"""AlexNet for 32x32 images, and its half: the CIFAR-10 and SVHN pair of the CCKD paper.

The CCKD paper only names the networks and takes its settings from Zero-Shot KD (arXiv:1905.08114), whose code defines
them: dropout comes before batch norm in the dense layers, and local response normalization before pooling in the first
two stages.
"""

import flax.linen as nn

from cckd_jax.models import layers
from cckd_jax.models.base import Classifier, Layer


class AlexNet(Classifier):
    """Five convolutions of 48, 128, 192, 192 and 128 channels, then dense layers of 512, 256 and `num_classes`.

    It has 1,659,178 parameters at 32x32x3 and ten classes, 1,656,266 without batch norm; 417,434 and 415,978 at width
    0.5.

    Attributes:
      batch_norm: whether batch norm follows every stage and dense layer.
      local_response_norm: whether the first two stages have it.
      dropout: rate in the dense layers.
    """

    batch_norm: bool = True
    local_response_norm: bool = True
    dropout: float = 0.5

    def setup(self):
        convolutions = ((48, 5), (128, 5), (192, 3), (192, 3), (128, 3))
        self.convs = [
            layers.conv(self.scaled(channels), size, padding=size // 2, dtype=self.dtype)
            for channels, size in convolutions
        ]
        self.denses = [nn.Dense(self.scaled(units), dtype=self.dtype) for units in (512, 256)]
        self.norms = [layers.BatchNorm(dtype=self.dtype) for _ in range(7 if self.batch_norm else 0)]
        self.drops = [layers.Dropout(self.dropout) for _ in range(2)]
        self.output = nn.Dense(self.num_classes, dtype=self.dtype)

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        normalization = (layers.LocalResponseNorm(),) if self.local_response_norm else ()
        pool = (layers.MaxPool(3, 2),)
        after_relu = ((*normalization, *pool), (*normalization, *pool), (), (), pool)
        return tuple(
            (self.convs[stage], nn.relu, *after_relu[stage], *self.norms[stage : stage + 1]) for stage in range(5)
        )

    def classifier(self) -> tuple[Layer, ...]:
        dense: list[tuple[Layer, ...]] = [
            (self.denses[index], nn.relu, self.drops[index], *self.norms[5 + index : 6 + index]) for index in range(2)
        ]
        return (layers.flatten, *dense[0], *dense[1], self.output)

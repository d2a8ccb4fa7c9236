"""VGG (arXiv:1409.1556) for 32x32 images, with batch norm and one dense layer, as CRD defines it for CIFAR-100."""

import flax.linen as nn

from cckd_jax.models import layers
from cckd_jax.models.base import Classifier, Layer
from cckd_jax.models.initialization import VGG as INITIALIZATION

_CHANNELS = (64, 128, 256, 512, 512)


class VGG(Classifier):
    """Five blocks of 3x3 convolutions with 64, 128, 256, 512 and 512 channels; max pools follow the first three.

    At a hundred classes VGG-8 has 3,965,028 parameters (one convolution per block) and VGG-13 9,462,180 (two). The
    first two blocks form the first stage, so that stages correspond to those of networks with a stem.

    Attributes:
      blocks: the number of convolutions per block.
    """

    blocks: tuple[int, int, int, int, int] = (1, 1, 1, 1, 1)

    def setup(self):
        self.convs = [
            [
                layers.conv(self.scaled(channels), 3, padding=1, kernel_init=INITIALIZATION.conv, dtype=self.dtype)
                for _ in range(count)
            ]
            for channels, count in zip(_CHANNELS, self.blocks, strict=True)
        ]
        self.norms = [[layers.BatchNorm(dtype=self.dtype) for _ in range(count)] for count in self.blocks]
        self.output = INITIALIZATION.output(self.num_classes, self.scaled(_CHANNELS[-1]), self.dtype)

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        blocks = [
            tuple(layer for conv, norm in zip(convs, norms, strict=True) for layer in (conv, norm, nn.relu))
            for convs, norms in zip(self.convs, self.norms, strict=True)
        ]
        pool = layers.MaxPool(2, 2)
        return ((*blocks[0], pool, *blocks[1]), (pool, *blocks[2]), (pool, *blocks[3]), blocks[4])

    def classifier(self) -> tuple[Layer, ...]:
        return (layers.global_average, self.output)

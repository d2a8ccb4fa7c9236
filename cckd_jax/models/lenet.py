"""LeNet-5 with ReLU and max pooling, and its half: the MNIST and Fashion-MNIST pair of the CCKD paper."""

import flax.linen as nn

from cckd_jax.models import layers
from cckd_jax.models.base import Classifier, Layer


class LeNet5(Classifier):
    """Two 5x5 convolutions with 2x2 max pools, then dense layers of 120, 84 and `num_classes`.

    61,706 parameters at 28x28x1 and ten classes; with filters (3, 8), LeNet-5-Half, 35,820. Layer sizes follow from
    the paper's counts (about 62K and 36K); it gives no others.

    Attributes:
      num_classes: C.
      filters: channels of the two convolutions.
    """

    num_classes: int = 10
    filters: tuple[int, int] = (6, 16)

    def setup(self):
        self.conv1 = layers.conv(self.filters[0], 5, padding=2)
        self.conv2 = layers.conv(self.filters[1], 5)
        self.dense1 = nn.Dense(120)
        self.dense2 = nn.Dense(84)
        self.dense3 = nn.Dense(self.num_classes)

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        return (
            (self.conv1, nn.relu, layers.MaxPool(2)),
            (self.conv2, nn.relu, layers.MaxPool(2)),
        )

    def classifier(self) -> tuple[Layer, ...]:
        return (layers.flatten, self.dense1, nn.relu, self.dense2, nn.relu, self.dense3)

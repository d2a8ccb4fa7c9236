"""LeNet-5 with ReLU and max pooling, and its half: the MNIST and Fashion-MNIST pair of the CCKD paper."""

import flax.linen as nn

from cckd_jax.models import layers
from cckd_jax.models.base import Classifier, Layer


class LeNet5(Classifier):
    """Two 5x5 convolutions with 2x2 max pools, then dense layers of 120, 84 and `num_classes`.

    It has 61,706 parameters at 28x28x1 and ten classes, and 35,820 at width 0.5, which scales only the convolutions.
    The CCKD paper gives only parameter counts (about 62K and 36K); the layer sizes are chosen to match them.
    """

    def setup(self):
        self.conv1 = layers.conv_max_pool(self.scaled(6), 5, padding=2, dtype=self.dtype)
        self.conv2 = layers.conv_max_pool(self.scaled(16), 5, dtype=self.dtype)
        self.dense1 = nn.Dense(120, dtype=self.dtype)
        self.dense2 = nn.Dense(84, dtype=self.dtype)
        self.dense3 = nn.Dense(self.num_classes, dtype=self.dtype)

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        return ((self.conv1, nn.relu), (self.conv2, nn.relu))

    def classifier(self) -> tuple[Layer, ...]:
        return (layers.flatten, self.dense1, nn.relu, self.dense2, nn.relu, self.dense3)

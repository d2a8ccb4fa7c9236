"""Distributions of initial weights: Flax's defaults, and those of the code behind published accuracies."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.nn.initializers import Initializer

# Normal with variance 2 / (k^2 C_out), for grouped convolutions too.
_FAN_OUT = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
# PyTorch's default for convolutions and dense layers: uniform within 1 / sqrt(k^2 C_in / groups).
_PYTORCH = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


def _zeros(inputs: int) -> Initializer:
    return nn.initializers.zeros


def _pytorch_bias(inputs: int) -> Initializer:
    bound = inputs**-0.5
    uniform = nn.initializers.uniform(2 * bound)

    # The arguments of an initializer differ between versions of JAX.
    def initializer(*args: Any, **kwargs: Any) -> jax.Array:
        return uniform(*args, **kwargs) - bound

    return initializer


class Initialization(NamedTuple):
    """Initializers of a network's layers.

    Attributes:
      conv: kernels of convolutions.
      dense: the kernel of the output layer.
      bias: `(number of inputs) -> initializer` of the output layer's bias.
    """

    conv: Initializer
    dense: Initializer
    bias: Callable[[int], Initializer] = _zeros

    def output(self, classes: int, inputs: int, dtype: Any) -> nn.Dense:
        """The layer that computes the logits."""
        return nn.Dense(classes, kernel_init=self.dense, bias_init=self.bias(inputs), dtype=dtype)


FLAX = Initialization(nn.initializers.lecun_normal(), nn.initializers.lecun_normal())
PYTORCH = Initialization(_PYTORCH, _PYTORCH, _pytorch_bias)
# RepDistiller's networks for CIFAR, whose accuracies distillation papers compare.
RESNET = Initialization(_FAN_OUT, _PYTORCH, _pytorch_bias)
WIDE_RESNET = Initialization(_FAN_OUT, _PYTORCH)
VGG = MOBILENET = Initialization(_FAN_OUT, nn.initializers.normal(0.01))

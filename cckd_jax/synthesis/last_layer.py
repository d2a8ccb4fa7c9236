"""The last dense layer of a teacher: its kernel, and the features that enter it."""

from typing import Any

import chex
import flax.linen as nn

from cckd_jax.errors import InputError
from cckd_jax.models import Classifier, Network, apply_layers, layer_name


def kernel(network: Network) -> chex.Array:
    """The kernel `[F, C]` of a network's last layer."""
    values: chex.Array = network.module.apply(
        network.variables, method=lambda module: module.classifier()[-1].variables['params']['kernel']
    )
    return values


def logits_and_features(network: Network, images: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Logits `[B, C]` and the input `[B, F]` of the last layer, for images float `[B, H, W, C]` in [0, 1]."""

    def forward(module: Classifier, images: chex.Array) -> tuple[chex.Array, chex.Array]:
        (*hidden, last) = module.classifier()
        features = apply_layers(tuple(hidden), module.features(images)[-1], False)
        return apply_layers((last,), features, False), features

    outputs: tuple[chex.Array, chex.Array] = network.module.apply(network.variables, images, method=forward)
    return outputs


def check(module: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """Raises InputError for a network whose last layer is not known or not dense."""
    reads = 'the synthesis reads the last dense layer of the teacher'
    if not isinstance(module, Classifier):
        raise InputError(
            f'{reads}, and {type(module).__name__} has no list of layers; derive it from cckd_jax.models.Classifier, '
            'or set --config.transfer.name=kegnet'
        )
    last: Any = module.apply({}, method=lambda module: module.classifier()[-1])
    if not isinstance(last, nn.Dense):
        raise InputError(
            f'{reads}, and {type(module).__name__} ends with {layer_name(last)}; use a network that ends with a Dense '
            'layer, or set --config.transfer.name=kegnet'
        )

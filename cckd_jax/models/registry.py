"""Networks by name or import path, and the check that a network accepts images of a shape."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cckd_jax.errors import InputError
from cckd_jax.imports import resolve
from cckd_jax.models import base
from cckd_jax.models.alexnet import AlexNet
from cckd_jax.models.lenet import LeNet5
from cckd_jax.models.mobilenet import MobileNetV2
from cckd_jax.models.resnet import CIFAR_NARROW, CIFAR_X4, ResNet
from cckd_jax.models.shufflenet import ShuffleNetV1, ShuffleNetV2
from cckd_jax.models.vgg import VGG
from cckd_jax.models.wide_resnet import WideResNet

MODELS: Mapping[str, Callable[..., nn.Module]] = {
    'lenet5': LeNet5,
    'lenet5_half': functools.partial(LeNet5, width=0.5),
    'alexnet': AlexNet,
    'alexnet_half': functools.partial(AlexNet, width=0.5),
    'resnet18': functools.partial(ResNet, blocks=(2, 2, 2, 2)),
    'resnet34': functools.partial(ResNet, blocks=(3, 4, 6, 3)),
    'resnet20': functools.partial(ResNet, blocks=(3, 3, 3), **CIFAR_NARROW),
    'resnet32': functools.partial(ResNet, blocks=(5, 5, 5), **CIFAR_NARROW),
    'resnet44': functools.partial(ResNet, blocks=(7, 7, 7), **CIFAR_NARROW),
    'resnet56': functools.partial(ResNet, blocks=(9, 9, 9), **CIFAR_NARROW),
    'resnet8x4': functools.partial(ResNet, blocks=(1, 1, 1), **CIFAR_X4),
    'resnet20x4': functools.partial(ResNet, blocks=(3, 3, 3), **CIFAR_X4),
    'resnet32x4': functools.partial(ResNet, blocks=(5, 5, 5), **CIFAR_X4),
    'wrn40_2': WideResNet,
    'vgg8': VGG,
    'vgg13': functools.partial(VGG, blocks=(2, 2, 2, 2, 2)),
    'mobilenetv2': functools.partial(MobileNetV2, width=0.5),
    'shufflenetv1': ShuffleNetV1,
    'shufflenetv2': ShuffleNetV2,
}


def create(name: str, num_classes: int = 10, **options: Any) -> nn.Module:
    """Returns a network; `.init(key, images)` and `.apply(variables, images)` need no further argument.

    Args:
      name: a key of `MODELS`, or `package.module:factory` for a Flax Linen module of your own; the factory is called
        with `num_classes` and the options.
      num_classes: C.
      **options: fields of the network's class, such as `width` or `dtype`; lists, as JSON has them, become tuples.

    Raises:
      InputError: the name is unknown, the path does not resolve, or the network has no such option.

    >>> import jax, jax.numpy as jnp
    >>> lenet = create('lenet5_half')
    >>> variables = lenet.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    >>> sum(leaf.size for leaf in jax.tree.leaves(variables))
    35820
    """
    factory = resolve(name, MODELS, 'model')
    # Modules are hashed.
    options = {field: tuple(value) if isinstance(value, list) else value for field, value in options.items()}
    try:
        module = factory(num_classes=num_classes, **options)
    except TypeError as error:
        raise InputError(f'cannot create model {name!r} with num_classes={num_classes}, {options}: {error}') from None
    if not isinstance(module, nn.Module):
        raise InputError(f'model {name!r} is a {type(module).__name__}, not a Flax Linen module')
    return module


def check_image_shape(name: str, module: nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Raises InputError if a network does not accept images of this shape; only shapes are evaluated."""
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)

    def shapes(images: jax.Array) -> tuple[Any, Any]:
        variables = base.init(module, jax.random.key(0), images)
        network = base.Network(module, variables)
        return network(images), network.features(images) if isinstance(module, base.Classifier) else ()

    try:
        (logits, features) = jax.eval_shape(shapes, images)
    except Exception as error:  # a user's module may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = ' (too small for it)' if isinstance(module, base.Classifier) else ''
        raise InputError(f'{name} cannot take images of {_text(image_shape)}{hint}: {reason}') from None
    if any(0 in stage.shape for stage in features):
        raise InputError(f'{name} cannot take images of {_text(image_shape)} (too small for it): no pixels are left')
    if logits.shape != (2, num_classes):
        raise InputError(
            f'{name} returns shape {logits.shape} for 2 images; {num_classes} classes need (2, {num_classes})'
        )


def _text(shape: tuple[int, ...]) -> str:
    return 'x'.join(str(size) for size in shape)

"""What every network here offers: logits, stage features, a classifier head, and its layers one by one."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp

Layer = Callable[..., chex.Array]


class Training(NamedTuple):
    """What layers may need in training mode, and only there.

    Attributes:
      valid: bool `[B]`, false for rows that only fill up a batch.
      keys: one PRNG key for each example `[B]`.
      axis_name: the axis of devices over which batch statistics are shared, or None.
    """

    valid: chex.Array
    keys: chex.Array
    axis_name: str | None = None


Mode = Training | Literal[False]


class ModeLayer(nn.Module):
    """A layer that does something else in training: it is called with `train` as well."""


class Classifier(nn.Module):
    """A network as stages of layers and a classifier on top.

    A subclass defines `stages` and `classifier`. `module.apply(variables, images)` gives float32 logits `[B, C]` in
    inference mode; `train=Training(...)` is training mode.

    Attributes:
      num_classes: C.
      width: what channel counts are multiplied by.
      dtype: what is computed in; parameters, statistics and logits stay float32.
    """

    num_classes: int = 10
    width: float = 1.0
    dtype: Any = jnp.float32

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        """The layers of the feature extractor, by stage."""
        raise NotImplementedError

    def classifier(self) -> tuple[Layer, ...]:
        """The layers from the last feature map to the logits."""
        raise NotImplementedError

    def layers(self) -> tuple[Layer, ...]:
        """All layers in order."""
        return (*(layer for stage in self.stages() for layer in stage), *self.classifier())

    def features(self, images: chex.Array, train: Mode = False) -> tuple[chex.Array, ...]:
        """The feature map after each stage, images float `[B, H, W, C]` in [0, 1]."""
        maps = []
        images = images.astype(self.dtype)
        for stage in self.stages():
            images = through(stage, images, train)
            maps.append(images)
        return tuple(maps)

    def head(self, features: chex.Array, train: Mode = False) -> chex.Array:
        """Logits float32 `[B, C]` from the last feature map."""
        return through(self.classifier(), features, train).astype(jnp.float32)

    def __call__(self, images: chex.Array, train: Mode = False) -> chex.Array:
        return self.logits_and_features(images, train)[0]

    def logits_and_features(self, images: chex.Array, train: Mode = False) -> tuple[chex.Array, tuple[chex.Array, ...]]:
        """Both from one forward pass."""
        features = self.features(images, train)
        return self.head(features[-1], train), features

    def scaled(self, channels: int) -> int:
        """A channel count at this network's width, at least one."""
        return max(1, round(channels * self.width))


def through(layers: tuple[Layer, ...], values: chex.Array, train: Mode) -> chex.Array:
    """Values passed through layers in order; those that are of two minds are told the mode."""
    for layer in layers:
        values = layer(values, train) if isinstance(layer, ModeLayer) else layer(values)
    return values


class Network(NamedTuple):
    """A module with its variables: call it for logits, in inference mode.

    >>> import jax, jax.numpy as jnp
    >>> from cckd_jax import models
    >>> images = jnp.zeros((2, 28, 28, 1))
    >>> lenet = models.create('lenet5')
    >>> models.Network(lenet, lenet.init(jax.random.key(0), images))(images).shape
    (2, 10)
    """

    module: nn.Module
    variables: Any

    def __call__(self, images: chex.Array) -> chex.Array:
        """Logits `[B, C]` of images `[B, H, W, C]` in [0, 1]."""
        return self.module.apply(self.variables, images, **_inference(self.module))

    def features(self, images: chex.Array) -> tuple[chex.Array, ...]:
        """The feature map after each stage."""
        return self.module.apply(self.variables, images, method='features')

    def head(self, features: chex.Array) -> chex.Array:
        """Logits from the last feature map."""
        return self.module.apply(self.variables, features, method='head')


def init(module: nn.Module, key: chex.PRNGKey, images: chex.Array) -> dict[str, Any]:
    """Fresh variables of a module of this package or of a user's own."""
    return module.init(key, images, **_inference(module))


def train_forward(
    module: nn.Module, variables: Mapping[str, Any], images: chex.Array, mode: Training
) -> tuple[chex.Array, tuple[chex.Array, ...], Any]:
    """One forward pass in training mode: (logits, stage features, new batch statistics).

    A module that is not a `Classifier` has no stage features. If its `__call__` takes `train`, it gets True; its
    dropout draws from one key a device, and its own batch norm sees its device's rows, the filling ones included.
    """
    if isinstance(module, Classifier):
        (logits, features), moved = module.apply(
            variables, images, mode, method='logits_and_features', mutable=['batch_stats']
        )
        return logits, features, moved.get('batch_stats', {})
    how = {'train': True} if _takes_train(module) else {}
    (logits, moved) = module.apply(variables, images, **how, rngs={'dropout': mode.keys[0]}, mutable=['batch_stats'])
    return logits.astype(jnp.float32), (), moved.get('batch_stats', {})


def _inference(module: nn.Module) -> dict[str, Any]:
    return {'train': False} if _takes_train(module) else {}


def _takes_train(module: nn.Module) -> bool:
    return 'train' in inspect.signature(type(module).__call__).parameters

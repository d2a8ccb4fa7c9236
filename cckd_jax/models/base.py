"""What every network here offers: logits, stage features, a classifier head, and its layers one by one."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import flax.linen as nn

Layer = Callable[[chex.Array], chex.Array]


class Training(NamedTuple):
    """What layers may need in training mode, and only there.

    Attributes:
      valid: bool `[B]`, false for rows that only fill up a batch.
      keys: one PRNG key for each example `[B]`.
      axis_name: the axis of devices over which batch statistics are shared, or None.
    """

    valid: chex.Array
    keys: chex.Array
    axis_name: str | None


class Classifier(nn.Module):
    """A network as stages of layers and a classifier on top.

    A subclass defines `stages` and `classifier`. `module.apply(variables, images)` gives logits `[B, C]` in inference
    mode; `train=Training(...)` is training mode.
    """

    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        """The layers of the feature extractor, by stage."""
        raise NotImplementedError

    def classifier(self) -> tuple[Layer, ...]:
        """The layers from the last feature map to the logits."""
        raise NotImplementedError

    def layers(self) -> tuple[Layer, ...]:
        """All layers in order."""
        return (*(layer for stage in self.stages() for layer in stage), *self.classifier())

    def features(self, images: chex.Array, train: Training | Literal[False] = False) -> tuple[chex.Array, ...]:
        """The feature map after each stage, images float `[B, H, W, C]` in [0, 1]."""
        maps = []
        for stage in self.stages():
            images = _through(stage, images)
            maps.append(images)
        return tuple(maps)

    def head(self, features: chex.Array, train: Training | Literal[False] = False) -> chex.Array:
        """Logits `[B, C]` from the last feature map."""
        return _through(self.classifier(), features)

    def __call__(self, images: chex.Array, train: Training | Literal[False] = False) -> chex.Array:
        return self.head(self.features(images, train)[-1], train)

    def logits_and_features(
        self, images: chex.Array, train: Training | Literal[False] = False
    ) -> tuple[chex.Array, tuple[chex.Array, ...]]:
        """Both from one forward pass."""
        features = self.features(images, train)
        return self.head(features[-1], train), features


def _through(layers: tuple[Layer, ...], values: chex.Array) -> chex.Array:
    for layer in layers:
        values = layer(values)
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
        return self.module.apply(self.variables, images)

    def features(self, images: chex.Array) -> tuple[chex.Array, ...]:
        """The feature map after each stage."""
        return self.module.apply(self.variables, images, method='features')

    def head(self, features: chex.Array) -> chex.Array:
        """Logits from the last feature map."""
        return self.module.apply(self.variables, features, method='head')

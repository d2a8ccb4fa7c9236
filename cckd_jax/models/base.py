"""The interface of all networks: logits, stage features, a classifier head, and the list of layers."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import chex
import flax.linen as nn
import jax.numpy as jnp

Rule = TypeVar('Rule')

# `(values)` to values, or `(values, train)` of a `TrainAwareLayer`.
Layer = Callable[..., chex.Array]


class LogitsFn(Protocol):
    """A `Network`, or any other function from images `[B, H, W, C]` in [0, 1] to logits `[B, num_classes]`."""

    # Not an alias of `Callable`, which type checkers do not match with a named tuple such as `Network`.
    def __call__(self, images: chex.Array, /) -> chex.Array: ...


class TrainMode(NamedTuple):
    """What layers of a padded batch that is split over devices need in training mode.

    Attributes:
      valid: bool `[B]`, false for padding rows.
      keys: one PRNG key per example `[B]`, for dropout.
      axis_name: the mapped axis of devices over which batch statistics are shared, or None.
    """

    valid: chex.Array
    keys: chex.Array | None = None
    axis_name: str | None = None


class TrainAwareLayer(nn.Module):
    """A layer that behaves differently in training: it is called with `train` as its second argument."""


class Classifier(nn.Module):
    """A network of stages, which make feature maps, and a classifier on top.

    A subclass defines `stages` and `classifier`. `module.apply(variables, images)` returns float32 logits `[B, C]` in
    inference mode. In a training loop of your own, pass `train=True`, a key for dropout, and collect the running
    statistics of batch norm, as with any Flax module. `train=TrainMode(...)` adds what a padded batch on several
    devices needs.

    >>> import jax, jax.numpy as jnp
    >>> from cckd_jax import models
    >>> module, images = models.create('resnet18', width=0.05, blocks=(1,)), jnp.ones((4, 8, 8, 3))
    >>> variables = module.init(jax.random.key(0), images)
    >>> logits, updates = module.apply(
    ...     variables, images, train=True, rngs={'dropout': jax.random.key(1)}, mutable=['batch_stats']
    ... )
    >>> variables = {**variables, **updates}

    Attributes:
      num_classes: C.
      width: factor of all channel counts.
      dtype: of the computation; parameters, statistics and logits are float32.
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

    def features(self, images: chex.Array, train: TrainMode | bool = False) -> tuple[chex.Array, ...]:
        """The feature map after each stage, for images float `[B, H, W, C]` in [0, 1]."""
        feature_maps = []
        values = images.astype(self.dtype)
        for stage in self.stages():
            values = apply_layers(stage, values, train)
            feature_maps.append(values)
        return tuple(feature_maps)

    def head(self, features: chex.Array, train: TrainMode | bool = False) -> chex.Array:
        """Logits float32 `[B, C]` from the last feature map."""
        return apply_layers(self.classifier(), features, train).astype(jnp.float32)

    def __call__(self, images: chex.Array, train: TrainMode | bool = False) -> chex.Array:
        return self.logits_and_features(images, train)[0]

    def logits_and_features(
        self, images: chex.Array, train: TrainMode | bool = False
    ) -> tuple[chex.Array, tuple[chex.Array, ...]]:
        """Logits and stage features from one forward pass."""
        features = self.features(images, train)
        return self.head(features[-1], train), features

    def scaled(self, channels: int) -> int:
        """A channel count times `width`, at least one."""
        return max(1, round(channels * self.width))


def apply_layers(layers: tuple[Layer, ...], values: chex.Array, train: TrainMode | bool) -> chex.Array:
    """Applies layers in order, passing `train` to those that behave differently in training."""
    for layer in layers:
        values = layer(values, train) if isinstance(layer, TrainAwareLayer) else layer(values)
    return values


def find_rule(rules: Mapping[Any, Rule], layer: Layer) -> Rule | None:
    """The rule of a layer, by identity of a function or by exact type of a module; None if there is none.

    >>> find_rule({nn.relu: 'relu', nn.Dense: 'dense'}, nn.Dense(3))
    'dense'
    """
    return next((rule for key, rule in rules.items() if key is layer or key is type(layer)), None)


def layer_name(layer: Layer) -> str:
    """The name of a layer's class or function, for messages.

    >>> layer_name(nn.Dense(3)), layer_name(nn.relu)
    ('Dense', 'relu')
    """
    return type(layer).__name__ if isinstance(layer, nn.Module) else getattr(layer, '__name__', type(layer).__name__)


class Network(NamedTuple):
    """A module with its variables. Calling it returns logits, in inference mode.

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
    """Initial variables of a module of this package or of the user's own."""
    return dict(module.init(key, images, **_inference(module)))


def train_forward(
    module: nn.Module, variables: Mapping[str, Any], images: chex.Array, mode: TrainMode
) -> tuple[chex.Array, tuple[chex.Array, ...], Any]:
    """One forward pass in training mode: (logits, stage features, new batch statistics).

    A module that is not a `Classifier` has no stage features. If its `__call__` takes `train`, it receives True. Its
    dropout draws from one key per device, and its batch norm sees the rows of one device, padding included.
    """
    if isinstance(module, Classifier):
        (logits, features), updates = module.apply(
            variables, images, mode, method='logits_and_features', mutable=['batch_stats']
        )
        return logits, features, updates.get('batch_stats', {})
    options: dict[str, Any] = {'train': True} if _takes_train(module) else {}
    if mode.keys is not None:
        options['rngs'] = {'dropout': mode.keys[0]}
    (logits, updates) = module.apply(variables, images, **options, mutable=['batch_stats'])
    return logits.astype(jnp.float32), (), updates.get('batch_stats', {})


def _inference(module: nn.Module) -> dict[str, Any]:
    return {'train': False} if _takes_train(module) else {}


def _takes_train(module: nn.Module) -> bool:
    return 'train' in inspect.signature(type(module).__call__).parameters

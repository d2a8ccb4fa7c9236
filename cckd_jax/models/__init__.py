"""Flax Linen networks by name: `create('lenet5')`; each shows its stage features, its head and its layers."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from cckd_jax.errors import lookup
from cckd_jax.models.base import Classifier as Classifier
from cckd_jax.models.base import Network as Network
from cckd_jax.models.base import Training as Training
from cckd_jax.models.lenet import LeNet5 as LeNet5

MODELS: Mapping[str, Callable[..., nn.Module]] = {
    'lenet5': LeNet5,
    'lenet5_half': functools.partial(LeNet5, filters=(3, 8)),
}


def create(name: str, num_classes: int = 10, **options: Any) -> nn.Module:
    """Returns the network of that name; `.init(key, images)` and `.apply(variables, images)` need nothing more.

    Args:
      name: a key of `MODELS`.
      num_classes: C.
      **options: fields of the network's class.

    Raises:
      InputError: there is no network of that name.

    >>> import jax, jax.numpy as jnp
    >>> lenet = create('lenet5_half')
    >>> variables = lenet.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    >>> sum(leaf.size for leaf in jax.tree.leaves(variables))
    35820
    """
    return lookup(MODELS, name, 'model')(num_classes=num_classes, **options)

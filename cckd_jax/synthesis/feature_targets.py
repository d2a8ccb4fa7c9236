r"""Targets of impressions drawn in the feature space of a teacher, in place of its softmax space.

Source: Wang, "Data-Free Knowledge Distillation with Soft Targeted Transfer Set Synthesis" (arXiv:2104.04868), which we
know from notes of others alone; its author published no code. The outputs of the dense layer before the last have a
normal distribution $N(\mu, \Sigma)$, whose correlations are read from the teacher's weights. The layers after it turn
draws into targets, and an activation loss is added while images are optimised. Settings of LeNet-5 on MNIST, by these
notes: variance 1.5, weight of the activation loss 0.05.

Readings of ours: $\mu = 0$; the correlation of two units is the cosine of their incoming weights; draws are values
before the activation function; all units have one variance; the activation loss is that of DAFL, minus the mean of the
last features; the cross-entropy is multiplied by the square of the temperature. Without this factor the activation
loss decides at temperature 20, and nearly all impressions are of one class.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.errors import InputError
from cckd_jax.models import Classifier, Network, apply_layers
from cckd_jax.synthesis.system import Request


def draw_features(key: chex.PRNGKey, kernel: chex.Array, variance: float, count: int) -> chex.Array:
    r"""Draws outputs of a dense layer, before its activation function.

    $f \sim N(0, \sigma^2 R)$ with $R_{ij} = \frac{w_i^T w_j}{\|w_i\| \|w_j\|}$ and w_i the incoming weights of unit i,
    drawn as $f = \sigma \hat{W}^T \epsilon$ with unit columns of W.

    Args:
      key: typed PRNG key.
      kernel: float `[G, F]`, of the layer. A unit without weights is 0.
      variance: of each unit.
      count: N.

    Returns:
      float32 `[N, F]`.

    Source: arXiv:2104.04868, in our reading.

    >>> kernel = jnp.array([[1.0, 0.0, -2.0], [0.0, 0.0, 0.0]])
    >>> bool((draw_features(jax.random.key(0), kernel, 1.5, 4) @ jnp.array([1.0, 1.0, 1.0]) == 0).all())
    True
    """
    chex.assert_rank(kernel, 2)
    kernel = jnp.asarray(kernel, jnp.float32)
    norms = jnp.linalg.norm(kernel, axis=0, keepdims=True)
    directions = kernel / jnp.where(norms > 0, norms, 1.0)
    noise = jax.random.normal(key, (count, len(kernel)))
    return jnp.sqrt(variance) * jnp.matmul(noise, directions, precision='highest')


def draw_targets(
    key: chex.PRNGKey, network: Network, *, variance: float, temperature: float, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the distributions that impressions are optimised towards.

    Args:
      key: typed PRNG key.
      network: with a dense layer before its last one.
      variance: of each unit of this layer.
      temperature: of the distributions.
      count: N.

    Returns:
      Labels int32 `[N]`, the class of the largest entry, and targets float32 `[N, C]`.
    """

    def forward(module: Classifier) -> chex.Array:
        layers = module.classifier()
        index = _feature_layer(layers)
        features = draw_features(key, layers[index].variables['params']['kernel'], variance, count)
        return apply_layers(layers[index + 1 :], features, False)

    logits: chex.Array = network.module.apply(network.variables, method=forward)
    targets = np.asarray(jax.nn.softmax(logits / temperature), np.float32)
    return targets.argmax(1).astype(np.int32), targets


def check(request: Request) -> None:
    """Raises InputError for a teacher without a dense layer before its last one, which is dense itself."""
    if request.module.apply({}, method=lambda module: _feature_layer(module.classifier())) is None:
        raise InputError(
            f'transfer.space=features draws outputs of the dense layer before the last, and '
            f'{type(request.module).__name__} has none; set --config.transfer.space=softmax'
        )


def _feature_layer(layers: tuple[Any, ...]) -> Any:
    """Index of the last dense layer before the last layer; None if there is none."""
    return next((index for index in reversed(range(len(layers) - 1)) if isinstance(layers[index], nn.Dense)), None)

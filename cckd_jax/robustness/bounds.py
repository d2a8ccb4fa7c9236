"""What a network can say anywhere in a ball around an image, certified: logits, their differences, confidences."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from cckd_jax.errors import lookup
from cckd_jax.models import Network
from cckd_jax.robustness import propagation
from cckd_jax.robustness.inputs import check_epsilon, check_images, check_label_range, check_takes
from cckd_jax.robustness.objectives import label_log_odds, label_mask
from cckd_jax.robustness.operations import Box
from cckd_jax.robustness.translation import check_layers, operations


def logit_bounds(
    network: Network, images: chex.Array, epsilon: chex.Numeric, *, method: str = 'ibp'
) -> tuple[chex.Array, chex.Array]:
    r"""Lower and upper bounds of every logit over the l_inf ball of radius epsilon, cut to [0, 1].

    `ibp` carries intervals from layer to layer, with the last affine layers merged. `crown_ibp` bounds logits by linear
    functions of the image, with intervals for what is inside. `crown` bounds what is inside in the same way: nearly
    always tightest (its slopes adapt to what it found there), and slow for wide networks. Each of the last two is met
    with intervals, so that neither is ever looser. Bounds are of the network in float32, up to rounding, and nothing
    inside is taken to exceed 1e30. `ibp` is monotone in epsilon; the slopes of the other two adapt, and they need not
    be.

    Args:
      network: of a `models.Classifier`, whose layers are walked.
      images: float `[B, H, W, C]`, in [0, 1].
      epsilon: radius in pixel units, in [0, 1].
      method: `ibp`, `crown_ibp` or `crown`.

    Returns:
      (lower, upper), float32 `[B, classes]`.

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: a value is out of range, the network cannot take the images, or has a layer without a rule.

    Source: Gowal et al. (arXiv:1810.12715) for `ibp`, Zhang et al. (arXiv:1906.06316) for `crown_ibp`, Zhang et al.
    (arXiv:1811.00866) for `crown`; max pools and local response norm are ours (`operations.py`).

    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> network = models.Network(lenet, lenet.init(jax.random.key(0), images))
    >>> lower, upper = logit_bounds(network, images, 0.1, method='crown_ibp')
    >>> bool((lower < network(images)).all() and (network(images) < upper).all())
    True
    """
    check_ball(network, images, epsilon, method)
    return tuple(_logits(network.module, network.variables, images, epsilon, method))


def difference_bounds(
    network: Network, images: chex.Array, labels: chex.Array, epsilon: chex.Numeric, *, method: str = 'ibp'
) -> tuple[chex.Array, chex.Array]:
    r"""Bounds of how far each logit lies above the label's, $d_j = z_j - z_y$, over the ball of `logit_bounds`.

    The difference is merged into the last layer, so it is tighter than a difference of bounds. The label is certified
    where every other upper bound is below 0.

    Args:
      network: of a `models.Classifier`.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      method: `ibp`, `crown_ibp` or `crown`.

    Returns:
      (lower, upper), float32 `[B, classes]`; 0 at the label.

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: as `logit_bounds`.

    Source: Gowal et al. (arXiv:1810.12715), section 3, "elision of the last layer".

    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> network = models.Network(lenet, lenet.init(jax.random.key(0), images))
    >>> difference_bounds(network, images, jnp.array([1]), 0.1)[1][0, 1].item()
    0.0
    """
    check_label_range(labels, images, check_ball(network, images, epsilon, method))
    return tuple(_differences(network.module, network.variables, images, labels, epsilon, method))


def confidence_bounds(
    network: Network, images: chex.Array, labels: chex.Array, epsilon: chex.Numeric, *, method: str = 'ibp'
) -> tuple[chex.Array, chex.Array]:
    r"""Bounds of the probability that the network gives to the label, over the ball of `logit_bounds`.

    $\sigma(-\log \sum_{j \ne y} e^{U_j}) \le p_y \le \sigma(-\log \sum_{j \ne y} e^{L_j})$ with L and U of
    `difference_bounds`; the quotient 1 / (1 + sum) has no gradient for large differences.

    Args:
      network: of a `models.Classifier`.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      method: `ibp`, `crown_ibp` or `crown`.

    Returns:
      (lower, upper), float32 `[B]`, in [0, 1].

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: as `logit_bounds`.

    Source: a reading of Faithful KD (arXiv:2306.04431), whose body could not be had.

    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> network = models.Network(lenet, lenet.init(jax.random.key(0), images))
    >>> lower, upper = confidence_bounds(network, images, jnp.array([1]), 0.0)
    >>> bool(jnp.allclose(lower, jax.nn.softmax(network(images))[:, 1])), bool(jnp.allclose(lower, upper))
    (True, True)
    """
    odds = label_odds(Box(*difference_bounds(network, images, labels, epsilon, method=method)), labels)
    return jax.nn.sigmoid(odds.lower), jax.nn.sigmoid(odds.upper)


def label_odds(differences: Box, labels: chex.Array) -> Box:
    r"""Bounds of $\log(p_y / (1 - p_y)) = -\log \sum_{j \ne y} e^{d_j}$ from those of the differences."""
    return Box(label_log_odds(differences.upper, labels), label_log_odds(differences.lower, labels))


def check_ball(network: Network, images: chex.Array, epsilon: chex.Numeric, method: str) -> int:
    """The number of classes; raises for what no bounds can be had of."""
    lookup(propagation.PROPAGATIONS, method, 'method')
    check_images(images)
    check_epsilon(epsilon)
    check_layers(network)
    return check_takes('the network', network, images)


def ball(images: chex.Array, epsilon: chex.Numeric) -> Box:
    """The l_inf ball, cut to the range of pixels."""
    images = images.astype(jnp.float32)
    return Box(jnp.maximum(images - epsilon, 0.0), jnp.minimum(images + epsilon, 1.0))


def bounded(network: Network, images: chex.Array, epsilon: chex.Numeric, method: str) -> propagation.Bounded:
    """A network's operations with the boxes of a method."""
    return propagation.bounded(operations(network), ball(images, epsilon), propagation.PROPAGATIONS[method])


def against(labels: chex.Array, classes: int) -> propagation.Specification:
    """Of each logit over the label's."""
    own = label_mask(labels, classes)[:, None].astype(jnp.float32)
    return lambda indices: jax.nn.one_hot(indices, classes)[None] - own


# A product in less than float32 could fall outside of its bound, so no device may choose one.
exactly = functools.partial(jax.default_matmul_precision, 'highest')


@functools.partial(jax.jit, static_argnums=(0, 4))
@exactly()
def _logits(module: nn.Module, variables, images, epsilon, method) -> Box:
    part = bounded(Network(module, variables), images, epsilon, method)
    classes = part.boxes[-1].lower.shape[-1]
    each = lambda indices: jnp.broadcast_to(jax.nn.one_hot(indices, classes), (len(images), len(indices), classes))
    return propagation.functionals(part, each, classes, propagation.PROPAGATIONS[method].linear)


@functools.partial(jax.jit, static_argnums=(0, 5))
@exactly()
def _differences(module: nn.Module, variables, images, labels, epsilon, method) -> Box:
    part = bounded(Network(module, variables), images, epsilon, method)
    classes = part.boxes[-1].lower.shape[-1]
    return propagation.functionals(part, against(labels, classes), classes, propagation.PROPAGATIONS[method].linear)

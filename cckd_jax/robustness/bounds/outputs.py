"""Certified bounds of a network's outputs over a ball around an image: logits, their differences, confidences."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from cckd_jax.errors import lookup
from cckd_jax.losses import label_log_odds
from cckd_jax.models import Network
from cckd_jax.robustness.bounds import propagation
from cckd_jax.robustness.bounds.layer_rules import check_layers, to_operations
from cckd_jax.robustness.bounds.operations import Box
from cckd_jax.robustness.inputs import check_epsilon, check_images, check_label_range, infer_num_classes
from cckd_jax.robustness.objectives import label_mask


def logit_bounds(
    network: Network, images: chex.Array, epsilon: chex.Numeric, *, method: str = 'ibp'
) -> tuple[chex.Array, chex.Array]:
    r"""Lower and upper bounds of every logit over the l_inf ball of radius epsilon, clipped to [0, 1].

    `ibp` propagates intervals from layer to layer and merges the last affine layers. `crown_ibp` bounds logits by
    linear functions of the image, with intervals for hidden layers. `crown` also bounds hidden layers linearly: it is
    nearly always tightest, and slow for wide networks. The last two are intersected with intervals, so neither is ever
    looser than `ibp`.

    The bounds hold for the network in float32, up to rounding, and assume that no activation exceeds 1e30. `ibp` is
    monotone in epsilon; the other two need not be, because their slopes adapt.

    Args:
      network: of a `models.Classifier`, whose layers all have a rule.
      images: float `[B, H, W, C]`, in [0, 1].
      epsilon: radius in pixel units, in [0, 1].
      method: `ibp`, `crown_ibp` or `crown`.

    Returns:
      (lower, upper), float32 `[B, classes]`.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: a value is out of range, the network cannot take the images, or a layer has no rule.

    Source: Gowal et al. (arXiv:1810.12715) for `ibp`, Zhang et al. (arXiv:1906.06316) for `crown_ibp`, Zhang et al.
    (arXiv:1811.00866) for `crown`. The relaxations of max pools and local response norm are ours (`operations.py`).

    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> network = models.Network(lenet, lenet.init(jax.random.key(0), images))
    >>> lower, upper = logit_bounds(network, images, 0.1, method='crown_ibp')
    >>> bool((lower < network(images)).all() and (network(images) < upper).all())
    True
    """
    check_bound_inputs(network, images, epsilon, method)
    return tuple(_logit_box(network.module, network.variables, images, epsilon, method))


def difference_bounds(
    network: Network, images: chex.Array, labels: chex.Array, epsilon: chex.Numeric, *, method: str = 'ibp'
) -> tuple[chex.Array, chex.Array]:
    r"""Bounds of the differences $d_j = z_j - z_y$ between each logit and the label's, over the ball of `logit_bounds`.

    The difference is merged into the last layer, so these bounds are tighter than differences of logit bounds. The
    label is certified if every other upper bound is negative.

    Args:
      network: of a `models.Classifier`.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      method: `ibp`, `crown_ibp` or `crown`.

    Returns:
      (lower, upper), float32 `[B, classes]`; 0 at the label.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: as for `logit_bounds`.

    Source: Gowal et al. (arXiv:1810.12715), section 3, "elision of the last layer".

    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> network = models.Network(lenet, lenet.init(jax.random.key(0), images))
    >>> difference_bounds(network, images, jnp.array([1]), 0.1)[1][0, 1].item()
    0.0
    """
    check_label_range(labels, images, check_bound_inputs(network, images, epsilon, method))
    return tuple(_difference_box(network.module, network.variables, images, labels, epsilon, method))


def confidence_bounds(
    network: Network, images: chex.Array, labels: chex.Array, epsilon: chex.Numeric, *, method: str = 'ibp'
) -> tuple[chex.Array, chex.Array]:
    r"""Bounds of the probability of the label, over the ball of `logit_bounds`.

    $\sigma(-\log \sum_{j \ne y} e^{U_j}) \le p_y \le \sigma(-\log \sum_{j \ne y} e^{L_j})$ with L and U of
    `difference_bounds`. Unlike the quotient 1 / (1 + sum), this form has a gradient for large differences.

    Args:
      network: of a `models.Classifier`.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      method: `ibp`, `crown_ibp` or `crown`.

    Returns:
      (lower, upper), float32 `[B]`, in [0, 1].

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: as for `logit_bounds`.

    Source: our formulation, for the confidence gaps of `robustness.gaps`.

    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> network = models.Network(lenet, lenet.init(jax.random.key(0), images))
    >>> lower, upper = confidence_bounds(network, images, jnp.array([1]), 0.0)
    >>> bool(jnp.allclose(lower, jax.nn.softmax(network(images))[:, 1])), bool(jnp.allclose(lower, upper))
    (True, True)
    """
    odds = log_odds_box(Box(*difference_bounds(network, images, labels, epsilon, method=method)), labels)
    return jax.nn.sigmoid(odds.lower), jax.nn.sigmoid(odds.upper)


def log_odds_box(differences: Box, labels: chex.Array) -> Box:
    r"""Bounds of $\log(p_y / (1 - p_y)) = -\log \sum_{j \ne y} e^{d_j}$ from those of the differences d."""
    return Box(label_log_odds(differences.upper, labels), label_log_odds(differences.lower, labels))


def check_bound_inputs(network: Network, images: chex.Array, epsilon: chex.Numeric, method: str) -> int:
    """Checks the common arguments of certified bounds, and returns the number of classes."""
    lookup(propagation.PROPAGATIONS, method, 'method')
    check_images(images)
    check_epsilon(epsilon)
    check_layers(network)
    return infer_num_classes('the network', network, images)


def ball_box(images: chex.Array, epsilon: chex.Numeric) -> Box:
    """The l_inf ball, clipped to the pixel range."""
    images = images.astype(jnp.float32)
    epsilon = jnp.asarray(epsilon, images.dtype)
    return Box(jnp.maximum(images - epsilon, 0.0), jnp.minimum(images + epsilon, 1.0))


def bound_network(
    network: Network, images: chex.Array, epsilon: chex.Numeric, method: str
) -> propagation.BoundedOperations:
    """A network's operations with their boxes, by a method of `PROPAGATIONS`."""
    return propagation.bound_operations(
        to_operations(network), ball_box(images, epsilon), propagation.PROPAGATIONS[method]
    )


def differences_to_label(labels: chex.Array, num_classes: int) -> propagation.Specification:
    """The linear functions $z_j - z_y$."""
    label = label_mask(labels, num_classes)[:, None].astype(jnp.float32)
    return lambda indices: jax.nn.one_hot(indices, num_classes, dtype=jnp.float32)[None] - label


# A device may compute products in less than float32 by default, and those could fall outside their bounds.
full_precision = functools.partial(jax.default_matmul_precision, 'highest')


@functools.partial(jax.jit, static_argnums=(0, 4))
@full_precision()
def _logit_box(module: nn.Module, variables, images, epsilon, method) -> Box:
    bounded = bound_network(Network(module, variables), images, epsilon, method)
    classes = bounded.boxes[-1].lower.shape[-1]

    def logits(indices: chex.Array) -> chex.Array:
        rows = jax.nn.one_hot(indices, classes, dtype=jnp.float32)
        return jnp.broadcast_to(rows, (len(images), len(indices), classes))

    return propagation.bound_linear_functions(bounded, logits, classes, propagation.PROPAGATIONS[method].linear)


@functools.partial(jax.jit, static_argnums=(0, 5))
@full_precision()
def _difference_box(module: nn.Module, variables, images, labels, epsilon, method) -> Box:
    bounded = bound_network(Network(module, variables), images, epsilon, method)
    classes = bounded.boxes[-1].lower.shape[-1]
    specification = differences_to_label(labels, classes)
    return propagation.bound_linear_functions(bounded, specification, classes, propagation.PROPAGATIONS[method].linear)

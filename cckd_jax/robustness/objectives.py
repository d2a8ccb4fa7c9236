"""Functions of logits and labels that attacks maximise, written so that float32 does not round their gradients away.

The gradient of `log_softmax` at the label is p - 1. Where a network gives the label a probability p near 1, float32
rounds this difference, to 0 for p > 1 - 3e-8, while the gradients at the other classes stay exact. An attack along such
a gradient is weaker than it would be in exact arithmetic. Everything here is a function of the log odds of the label,
which have no such difference.
"""

from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_labels, check_logits
from cckd_jax.losses import cross_entropy, label_log_odds


def exact_cross_entropy(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""Cross entropy with the label whose gradient is exact in float32, however confident the network is.

    $\mathrm{softplus}(\log \sum_{j \ne y} e^{z_j - z_y}) = -\log \mathrm{softmax}(z)_y$. The value is that of
    `losses.cross_entropy` up to rounding; the gradient at the label is the negative sum of the other classes' gradients
    and not the rounded difference p - 1.

    Args:
      logits: float `[B, C]`, C > 1.
      labels: int `[B]`, in `[0, C)`.

    Returns:
      float32 `[B]`, in nats.

    Raises:
      AssertionError: a shape or type is wrong.

    Source: our formulation of the usual cross entropy.

    >>> logits, labels = jnp.array([[20.0, 0.0]]), jnp.array([0])
    >>> jax.grad(lambda z: cross_entropy(z, labels).sum())(logits)[0].tolist()
    [0.0, 2.0611537e-09]
    >>> jax.grad(lambda z: exact_cross_entropy(z, labels).sum())(logits)[0].tolist()
    [-2.0611537e-09, 2.0611537e-09]
    """
    check_logits(logits)
    check_labels(labels, logits)
    return _exact_cross_entropy(logits, labels)


def margin_loss(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""Difference between the largest other logit and the label's: positive where the label is not predicted.

    $\max_{j \ne y} z_j - z_y$. Unlike that of the cross entropy, its gradient does not vanish for any confidence.

    Args:
      logits: float `[B, C]`, C > 1.
      labels: int `[B]`, in `[0, C)`.

    Returns:
      float `[B]`, in logits.

    Raises:
      AssertionError: a shape or type is wrong.

    Source: Carlini and Wagner (arXiv:1608.04644), f_6 without its threshold and with the opposite sign.

    >>> margin_loss(jnp.array([[3.0, 1.0, 2.5]]), jnp.array([0])).tolist()
    [-0.5]
    """
    check_logits(logits)
    check_labels(labels, logits)
    return label_margin(logits, labels)


def label_mask(labels: chex.Array, num_classes: int) -> chex.Array:
    """True at the label: bool `[B, C]`.

    >>> label_mask(jnp.array([1], jnp.int8), 300).sum().item()
    1
    """
    # `one_hot` counts classes in the type of the labels, and 8 bits do not hold 300.
    return jax.nn.one_hot(labels.astype(jnp.int32), num_classes, dtype=bool)


def label_margin(logits: chex.Array, labels: chex.Array) -> chex.Array:
    """`margin_loss` without checks, for loops."""
    is_label = label_mask(labels, logits.shape[-1])
    return jnp.max(jnp.where(is_label, -jnp.inf, logits), -1) - jnp.sum(jnp.where(is_label, logits, 0), -1)


def exact_label_probability(logits: chex.Array, labels: chex.Array) -> chex.Array:
    """`losses.label_probability` with an exact gradient where it is close to 1, `[B]`."""
    # The derivative of `sigmoid` is p (1 - p), whose second factor would be rounded again.
    return jnp.exp(jax.nn.log_sigmoid(label_log_odds(logits, labels)))


def _exact_cross_entropy(logits: chex.Array, labels: chex.Array) -> chex.Array:
    return jax.nn.softplus(-label_log_odds(logits, labels))


LOSSES: Mapping[str, Callable[[chex.Array, chex.Array], chex.Array]] = {
    'cross_entropy': _exact_cross_entropy,
    'softmax_cross_entropy': cross_entropy,
    'margin': label_margin,
}

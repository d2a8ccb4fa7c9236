"""A network's probability and log odds of the label, and its logit gap."""

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_logits, class_indices


def is_distribution(labels: chex.Array) -> bool:
    """Whether labels are distributions float `[B, C]`, not classes int `[B]`."""
    return labels.ndim == 2


def label_probability(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""The probability of the label.

    $p_b = \mathrm{softmax}(z)_{b, y_b}$, or $y_b^T \mathrm{softmax}(z)_b$ for a label that is a distribution. For
    another temperature, divide the logits.

    Args:
      logits: float `[B, C]`.
      labels: int `[B]`, in `[0, C)`, or float `[B, C]`, distributions.

    Returns:
      float32 `[B]`, in [0, 1].

    Raises:
      InputError: a label is out of range.

    >>> import jax.numpy as jnp
    >>> label_probability(jnp.log(jnp.array([[3.0, 1.0]])), jnp.array([0])).tolist()
    [0.75]
    """
    check_logits(logits)
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    if is_distribution(labels):
        check_logits(logits, labels)
        return jnp.sum(labels * probabilities, axis=-1)
    indices = class_indices(labels, logits)
    return jnp.take_along_axis(probabilities, indices[:, None], axis=-1)[:, 0]


def label_gap(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""The logit gap of the label: its logit minus the mean of the other logits.

    $z_{b, y_b} - \frac{1}{C - 1} \sum_{c \ne y_b} z_{bc}$

    Args:
      logits: float `[B, C]`, C >= 2.
      labels: int `[B]`, in `[0, C)`.

    Returns:
      float32 `[B]`.

    Raises:
      InputError: a label is out of range.

    >>> import jax.numpy as jnp
    >>> label_gap(jnp.array([[3.0, 1.0, 0.0]]), jnp.array([0])).tolist()
    [2.5]
    """
    check_logits(logits)
    indices = class_indices(labels, logits)
    logits = logits.astype(jnp.float32)
    label_logits = jnp.take_along_axis(logits, indices[:, None], axis=-1)[:, 0]
    return label_logits - (jnp.sum(logits, axis=-1) - label_logits) / (logits.shape[-1] - 1)


def label_log_odds(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""The log odds of the label against all other classes.

    $\log \frac{p_b}{1 - p_b} = -\log \sum_{c \ne y_b} e^{z_{bc} - z_{b, y_b}}$. Unlike the probability, it keeps its
    precision, and its gradient, where the network is certain.

    Args:
      logits: float `[B, C]`, C >= 2.
      labels: int `[B]`, in `[0, C)`.

    Returns:
      float32 `[B]`.

    Raises:
      InputError: a label is out of range.

    >>> import jax.numpy as jnp
    >>> label_log_odds(jnp.array([[40.0, 0.0]]), jnp.array([0])).tolist()
    [40.0]
    """
    check_logits(logits)
    indices = class_indices(labels, logits)
    logits = logits.astype(jnp.float32)
    is_label = jax.nn.one_hot(indices, logits.shape[-1], dtype=bool)
    label_logits = jnp.take_along_axis(logits, indices[:, None], axis=-1)
    return -jax.nn.logsumexp(logits - label_logits, axis=-1, where=~is_label)

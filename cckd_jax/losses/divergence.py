"""How far one network's softened probabilities are from another's."""

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_logits, check_positive


def divergence(logits: chex.Array, target_logits: chex.Array, *, temperature: chex.Numeric = 1.0) -> chex.Array:
    r"""Kullback-Leibler divergence from the target's probabilities, 0 where the two are equal.

    $KL(q \| p)_b = \sum_c q_{bc} (\log q_{bc} - \log p_{bc})$ with $q = \mathrm{softmax}(z_{target} / \tau)$ and
    $p = \mathrm{softmax}(z / \tau)$. Gradients flow into both: a search for the worst point moves both networks, and a
    loss stops what is its target.

    Args:
      logits: float `[B, C]`.
      target_logits: float `[B, C]`.
      temperature: tau > 0.

    Returns:
      float32 `[B]`, in nats.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: the temperature is not above 0.

    Source: Kullback and Leibler (1951).

    >>> import jax.numpy as jnp
    >>> divergence(jnp.zeros((1, 2)), jnp.log(jnp.array([[0.75, 0.25]]))).tolist()
    [0.1308]
    """
    check_logits(logits, target_logits)
    check_positive(temperature=temperature)
    (log_p, log_q) = (jax.nn.log_softmax(each.astype(jnp.float32) / temperature) for each in (logits, target_logits))
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1)

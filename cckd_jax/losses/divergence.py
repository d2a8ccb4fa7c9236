"""Kullback-Leibler divergence between the softened distributions of two networks."""

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_hyperparameters, check_logits


def kl_divergence(logits: chex.Array, target_logits: chex.Array, *, temperature: chex.Numeric = 1.0) -> chex.Array:
    r"""Kullback-Leibler divergence of the target distribution from the predicted one.

    $KL(q \| p)_b = \sum_c q_{bc} (\log q_{bc} - \log p_{bc})$ with $q = \mathrm{softmax}(z_{target} / \tau)$ and
    $p = \mathrm{softmax}(z / \tau)$.

    Gradients flow into both arguments, because attacks differentiate through both networks. A loss applies
    `stop_gradient` to its target. The gradient with respect to float16 `target_logits` can overflow at
    temperatures below 1.

    Args:
      logits: float `[B, C]`.
      target_logits: float `[B, C]`.
      temperature: tau, in [0.001, 10000].

    Returns:
      float32 `[B]`, in nats; 0 where the distributions are equal.

    Raises:
      InputError: the temperature is out of range.

    Source: Kullback and Leibler (1951).

    >>> import jax.numpy as jnp
    >>> kl_divergence(jnp.zeros((1, 2)), jnp.log(jnp.array([[0.75, 0.25]]))).tolist()
    [0.1308]
    """
    check_logits(logits, target_logits)
    check_hyperparameters(temperature=temperature)
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
    log_q = jax.nn.log_softmax(target_logits.astype(jnp.float32) / temperature)
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1)

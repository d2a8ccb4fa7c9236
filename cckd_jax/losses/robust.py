"""Robust training by the labels alone: what makes a teacher that there is something to be faithful to."""

import chex
import jax

from cckd_jax.checks import check_labels, check_logits, check_share
from cckd_jax.losses.distillation import cross_entropy


def certified_cross_entropy(
    student_logits: chex.Array, differences: chex.Array, labels: chex.Array, *, rho: chex.Numeric = 0.5
) -> chex.Array:
    r"""Cross entropy at the sample, and of the worst logits that bounds allow anywhere near it.

    $L_b = (1 - \rho) CE(z, y)_b + \rho \log \sum_j e^{U_{bj}}$ with $U_j \ge z_j - z_y$ all over the ball: the second
    is the cross entropy of a network whose every wrong logit is at its worst at once. In a ball of radius 0 both are
    one.

    Args:
      student_logits: float `[B, C]`, at the sample.
      differences: float `[B, C]`, upper bounds U of `robustness.difference_bounds`, 0 at the label.
      labels: int `[B]`, in `[0, C)`.
      rho: in [0, 1].

    Returns:
      float32 `[B]`, in nats.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: a hyper-parameter is out of range.

    Source: the loss of Gowal et al. (arXiv:1810.12715), rho for their 1 - kappa.

    >>> import jax.numpy as jnp
    >>> certified_cross_entropy(jnp.zeros((1, 2)), jnp.array([[0.0, jnp.log(3.0)]]), jnp.array([0])).tolist()
    [1.0397]
    """
    check_logits(student_logits, differences)
    check_labels(labels, student_logits)
    check_share(rho=rho)
    return (1.0 - rho) * cross_entropy(student_logits, labels) + rho * jax.nn.logsumexp(differences, axis=-1)

"""Faithful distillation: the student imitates its teacher not at the sample alone but all around it.

Two readings of Faithful KD (arXiv:2306.04431), whose body could not be had: one against the worst disagreement that an
attack finds, one against a certified bound of it. Both mix in plain imitation at the sample, by a weight rho that their
methods ramp up over the epochs.
"""

import chex
import jax

from cckd_jax.checks import check_logits, check_share
from cckd_jax.losses.divergence import divergence


def faithful_adversarial(
    student_logits: chex.Array,
    worst_logits: chex.Array,
    teacher_logits: chex.Array,
    worst_teacher_logits: chex.Array,
    *,
    temperature: chex.Numeric = 1.0,
    rho: chex.Numeric = 0.5,
) -> chex.Array:
    r"""Imitation at the sample and at the point x' near it where the two networks disagree most.

    $L_b = (1 - \rho) KL(p_T(x) \| p_S(x))_b + \rho KL(p_T(x') \| p_S(x'))_b$: unlike ARD and RSLAD, which hold the
    teacher at x, both are at x'. At x' = x it is the divergence at the sample, whatever rho.

    Args:
      student_logits: float `[B, C]`, at the sample.
      worst_logits: float `[B, C]`, the student's at x'.
      teacher_logits: float `[B, C]`, at the sample; no gradient flows into it.
      worst_teacher_logits: float `[B, C]`, the teacher's at x'; no gradient flows into it.
      temperature: tau > 0; 1 is where confidences are compared.
      rho: in [0, 1].

    Returns:
      float32 `[B]`, in nats; 0 where the student is equal to its teacher at both points.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: a hyper-parameter is out of range.

    Source: a reading of Faithful KD (arXiv:2306.04431), whose body could not be had.

    >>> import jax.numpy as jnp
    >>> teacher, even = jnp.log(jnp.array([[0.75, 0.25]])), jnp.zeros((1, 2))
    >>> faithful_adversarial(teacher, even, teacher, teacher, rho=0.25).tolist()
    [0.0327]
    """
    check_logits(student_logits, worst_logits, teacher_logits, worst_teacher_logits)
    check_share(rho=rho)
    (teacher_logits, worst_teacher_logits) = jax.lax.stop_gradient((teacher_logits, worst_teacher_logits))
    at_sample = divergence(student_logits, teacher_logits, temperature=temperature)
    at_worst = divergence(worst_logits, worst_teacher_logits, temperature=temperature)
    return (1.0 - rho) * at_sample + rho * at_worst


def faithful_certified(
    student_logits: chex.Array,
    teacher_logits: chex.Array,
    gap: chex.Array,
    *,
    temperature: chex.Numeric = 1.0,
    rho: chex.Numeric = 0.5,
) -> chex.Array:
    r"""Imitation at the sample, and a bound of how far the two confidences are apart anywhere near it.

    $L_b = (1 - \rho) KL(p_T(x) \| p_S(x))_b + \rho \bar{D}_b$ with $\bar{D}_b \ge |p_T(x')_y - p_S(x')_y|$ all over
    the ball.

    Args:
      student_logits: float `[B, C]`, at the sample.
      teacher_logits: float `[B, C]`, at the sample; no gradient flows into it.
      gap: float `[B]`, the bound, with its gradient; the method takes a quarter of `robustness.odds_gap_bounds`.
      temperature: tau > 0, of the first term; 1 is where confidences are compared.
      rho: in [0, 1].

    Returns:
      float32 `[B]`.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: a hyper-parameter is out of range.

    Source: a reading of Faithful KD (arXiv:2306.04431), whose body could not be had; ramped as in Gowal et al.
    (arXiv:1810.12715).

    >>> import jax.numpy as jnp
    >>> teacher, even = jnp.log(jnp.array([[0.75, 0.25]])), jnp.zeros((1, 2))
    >>> faithful_certified(even, teacher, jnp.array([0.25]), rho=0.5).tolist()
    [0.1904]
    """
    check_logits(student_logits, teacher_logits)
    check_share(rho=rho)
    chex.assert_type(gap, float)
    chex.assert_shape(gap, (len(student_logits),))
    at_sample = divergence(student_logits, jax.lax.stop_gradient(teacher_logits), temperature=temperature)
    return (1.0 - rho) * at_sample + rho * gap

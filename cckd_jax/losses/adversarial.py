"""Adversarially robust distillation: what the teacher says of a sample is taught at the worst point near it.

The worst point x' is found before the gradient is taken and is fixed in these losses; `methods.py` says how.
Each is a sum over classes for each sample, as the papers write it. The official code of ARD and RSLAD takes the mean
over the classes as well, which is the same up to a factor, but for the balance of ARD's two terms below a weight of 1.
"""

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_labels, check_logits, check_non_negative, check_share
from cckd_jax.losses.distillation import cross_entropy
from cckd_jax.losses.divergence import divergence


def ard(
    student_logits: chex.Array,
    worst_logits: chex.Array,
    teacher_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 30.0,
    adversarial_weight: chex.Numeric = 1.0,
) -> chex.Array:
    r"""Adversarially robust distillation (ARD).

    $L_b = \alpha \tau^2 KL(p_T^\tau(x) \| p_S^\tau(x'))_b + (1 - \alpha) CE(p_S(x), y)_b$; with the student's logits at
    x' equal to the teacher's at x, the first term is 0.

    Args:
      student_logits: float `[B, C]`, at the sample.
      worst_logits: float `[B, C]`, the student's at x'.
      teacher_logits: float `[B, C]`, at the sample; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau > 0, of the first term.
      adversarial_weight: alpha, in [0, 1].

    Returns:
      float32 `[B]`, in nats.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: a hyper-parameter is out of range.

    Source: Goldblum et al. (arXiv:1905.09747), their loss with the settings of their official code.

    >>> import jax.numpy as jnp
    >>> teacher, even = jnp.log(jnp.array([[0.75, 0.25]])), jnp.zeros((1, 2))
    >>> ard(even, even, teacher, jnp.array([0]), temperature=1.0, adversarial_weight=0.5).tolist()
    [0.412]
    """
    check_logits(student_logits, worst_logits, teacher_logits)
    check_share(adversarial_weight=adversarial_weight)
    taught = temperature**2 * divergence(worst_logits, jax.lax.stop_gradient(teacher_logits), temperature=temperature)
    return adversarial_weight * taught + (1.0 - adversarial_weight) * cross_entropy(student_logits, labels)


def rslad(
    student_logits: chex.Array,
    worst_logits: chex.Array,
    teacher_logits: chex.Array,
    *,
    temperature: chex.Numeric = 1.0,
    adversarial_weight: chex.Numeric = 5 / 6,
) -> chex.Array:
    r"""Robust soft label adversarial distillation (RSLAD): the teacher's soft labels throughout.

    $L_b = \alpha KL(p_T(x) \| p_S(x'))_b + (1 - \alpha) KL(p_T(x) \| p_S(x))_b$; at x' = x this is one divergence,
    whatever the weight.

    Args:
      student_logits: float `[B, C]`, at the sample.
      worst_logits: float `[B, C]`, the student's at x'.
      teacher_logits: float `[B, C]`, at the sample; no gradient flows into it.
      temperature: tau > 0, of both terms; 1 in the paper.
      adversarial_weight: alpha, in [0, 1].

    Returns:
      float32 `[B]`, in nats.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: a hyper-parameter is out of range.

    Source: Zi et al. (arXiv:2108.07969), their loss with the settings of their official code.

    >>> import jax.numpy as jnp
    >>> teacher, even = jnp.log(jnp.array([[0.75, 0.25]])), jnp.zeros((1, 2))
    >>> rslad(even, even, teacher).tolist(), rslad(teacher, even, teacher).tolist()
    ([0.1308], [0.109])
    """
    check_logits(student_logits, worst_logits, teacher_logits)
    check_share(adversarial_weight=adversarial_weight)
    teacher_logits = jax.lax.stop_gradient(teacher_logits)
    (at_worst, at_sample) = (
        divergence(logits, teacher_logits, temperature=temperature) for logits in (worst_logits, student_logits)
    )
    return adversarial_weight * at_worst + (1.0 - adversarial_weight) * at_sample


def iad(
    student_logits: chex.Array,
    worst_logits: chex.Array,
    teacher_logits: chex.Array,
    worst_teacher_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 1.0,
    trust_power: chex.Numeric = 0.1,
) -> chex.Array:
    r"""Introspective adversarial distillation (IAD-I): where the teacher is not to be trusted, the student itself is.

    $L_b = \tau^2 KL(p_T^\tau(x) \| p_S^\tau(x'))_b + (1 - a_b) KL(p_S(x) \| p_S(x'))_b$ with the trust
    $a_b = p_T(x')_{y_b}^\beta$. A power of 0 trusts always, which is the official code's loss before its warm-up is
    over. As there, gradients flow into both sides of the second term.

    Args:
      student_logits: float `[B, C]`, at the sample.
      worst_logits: float `[B, C]`, the student's at x'.
      teacher_logits: float `[B, C]`, at the sample; no gradient flows into it.
      worst_teacher_logits: float `[B, C]`, the teacher's at x'; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau > 0, of the first term; 1 in the paper.
      trust_power: beta >= 0.

    Returns:
      float32 `[B]`, in nats.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: a hyper-parameter is out of range.

    Source: Zhu et al. (arXiv:2106.04928), after the official code of IAD-I.

    >>> import jax.numpy as jnp
    >>> teacher, even = jnp.log(jnp.array([[0.75, 0.25]])), jnp.zeros((1, 2))
    >>> iad(teacher, even, teacher, even, jnp.array([0]), trust_power=1.0).tolist()
    [0.1962]
    """
    check_logits(student_logits, worst_logits, teacher_logits, worst_teacher_logits)
    check_labels(labels, student_logits)
    check_non_negative(trust_power=trust_power)
    sure = jax.nn.softmax(jax.lax.stop_gradient(worst_teacher_logits).astype(jnp.float32))
    trust = jnp.take_along_axis(sure, labels[:, None], axis=-1)[:, 0] ** trust_power
    taught = temperature**2 * divergence(worst_logits, jax.lax.stop_gradient(teacher_logits), temperature=temperature)
    return taught + (1.0 - trust) * divergence(worst_logits, student_logits)

"""Losses of robust training and robust distillation, at the sample x and at an adversarial example x' near it.

The caller searches for x' before it takes the gradient; here x' is fixed. All losses sum over classes, as the papers
write them. The official code of ARD and RSLAD also divides by the number of classes. That rescales the whole loss,
except in ARD with a weight below 1, where it changes the balance of the two terms.

Faithful KD: only the abstract of arXiv:2306.04431 was available; `faithful_adversarial` and `faithful_certified` are
our interpretation.
"""

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_hyperparameters, check_logits
from cckd_jax.losses.distillation import cross_entropy
from cckd_jax.losses.divergence import kl_divergence
from cckd_jax.losses.label import label_probability


def ard(
    student_logits: chex.Array,
    adversarial_logits: chex.Array,
    teacher_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 30.0,
    adversarial_weight: chex.Numeric = 1.0,
) -> chex.Array:
    r"""Adversarially robust distillation (ARD).

    $L_b = \alpha \tau^2 KL(p_T^\tau(x) \| p_S^\tau(x'))_b + (1 - \alpha) CE(p_S(x), y)_b$

    Args:
      student_logits: float `[B, C]`, at x.
      adversarial_logits: float `[B, C]`, the student's at x'.
      teacher_logits: float `[B, C]`, at x; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau of the first term, in [0.001, 10000].
      adversarial_weight: alpha, in [0, 1].

    Returns:
      float32 `[B]`, in nats.

    Raises:
      InputError: a hyper-parameter or a label is out of range.

    Source: Goldblum et al. (arXiv:1905.09747), with the settings of their official code.

    >>> import jax.numpy as jnp
    >>> teacher, uniform = jnp.log(jnp.array([[0.75, 0.25]])), jnp.zeros((1, 2))
    >>> ard(uniform, uniform, teacher, jnp.array([0]), temperature=1.0, adversarial_weight=0.5).tolist()
    [0.412]
    """
    check_logits(student_logits, adversarial_logits, teacher_logits)
    check_hyperparameters(temperature=temperature, adversarial_weight=adversarial_weight)
    target = jax.lax.stop_gradient(teacher_logits)
    soft = temperature**2 * kl_divergence(adversarial_logits, target, temperature=temperature)
    return adversarial_weight * soft + (1.0 - adversarial_weight) * cross_entropy(student_logits, labels)


def rslad(
    student_logits: chex.Array,
    adversarial_logits: chex.Array,
    teacher_logits: chex.Array,
    *,
    temperature: chex.Numeric = 1.0,
    adversarial_weight: chex.Numeric = 5 / 6,
) -> chex.Array:
    r"""Robust soft label adversarial distillation (RSLAD): the teacher's soft labels in both terms.

    $L_b = \alpha KL(p_T(x) \| p_S(x'))_b + (1 - \alpha) KL(p_T(x) \| p_S(x))_b$

    Args:
      student_logits: float `[B, C]`, at x.
      adversarial_logits: float `[B, C]`, the student's at x'.
      teacher_logits: float `[B, C]`, at x; no gradient flows into it.
      temperature: tau of both terms, in [0.001, 10000]; 1 in the paper.
      adversarial_weight: alpha, in [0, 1].

    Returns:
      float32 `[B]`, in nats.

    Raises:
      InputError: a hyper-parameter is out of range.

    Source: Zi et al. (arXiv:2108.07969), with the settings of their official code.

    >>> import jax.numpy as jnp
    >>> teacher, uniform = jnp.log(jnp.array([[0.75, 0.25]])), jnp.zeros((1, 2))
    >>> rslad(uniform, uniform, teacher).tolist(), rslad(teacher, uniform, teacher).tolist()
    ([0.1308], [0.109])
    """
    check_logits(student_logits, adversarial_logits, teacher_logits)
    check_hyperparameters(temperature=temperature, adversarial_weight=adversarial_weight)
    target = jax.lax.stop_gradient(teacher_logits)
    adversarial = kl_divergence(adversarial_logits, target, temperature=temperature)
    clean = kl_divergence(student_logits, target, temperature=temperature)
    return adversarial_weight * adversarial + (1.0 - adversarial_weight) * clean


def iad(
    student_logits: chex.Array,
    adversarial_logits: chex.Array,
    teacher_logits: chex.Array,
    adversarial_teacher_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 1.0,
    trust_power: chex.Numeric = 0.1,
) -> chex.Array:
    r"""Introspective adversarial distillation (IAD-I): the less the teacher is trusted, the more the student is.

    $L_b = \tau^2 KL(p_T^\tau(x) \| p_S^\tau(x'))_b + (1 - a_b) KL(p_S(x) \| p_S(x'))_b$ with the trust
    $a_b = p_T(x')_{y_b}^\beta$. With beta = 0 the second term vanishes, as in the official code before its warm-up
    ends. As there, gradients flow into both sides of the second term.

    Args:
      student_logits: float `[B, C]`, at x.
      adversarial_logits: float `[B, C]`, the student's at x'.
      teacher_logits: float `[B, C]`, at x; no gradient flows into it.
      adversarial_teacher_logits: float `[B, C]`, the teacher's at x'; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau of the first term, in [0.001, 10000]; 1 in the paper.
      trust_power: beta, in [0, 10000].

    Returns:
      float32 `[B]`, in nats.

    Raises:
      InputError: a hyper-parameter or a label is out of range.

    Source: Zhu et al. (arXiv:2106.04928), after the official code of IAD-I.

    >>> import jax.numpy as jnp
    >>> teacher, uniform = jnp.log(jnp.array([[0.75, 0.25]])), jnp.zeros((1, 2))
    >>> iad(teacher, uniform, teacher, uniform, jnp.array([0]), trust_power=1.0).tolist()
    [0.1962]
    """
    check_logits(student_logits, adversarial_logits, teacher_logits, adversarial_teacher_logits)
    check_hyperparameters(temperature=temperature, trust_power=trust_power)
    (target, adversarial_teacher) = jax.lax.stop_gradient((teacher_logits, adversarial_teacher_logits))
    trust = label_probability(adversarial_teacher, labels) ** trust_power
    soft = temperature**2 * kl_divergence(adversarial_logits, target, temperature=temperature)
    return soft + (1.0 - trust) * kl_divergence(adversarial_logits, student_logits)


def faithful_adversarial(
    student_logits: chex.Array,
    adversarial_logits: chex.Array,
    teacher_logits: chex.Array,
    adversarial_teacher_logits: chex.Array,
    *,
    temperature: chex.Numeric = 1.0,
    rho: chex.Numeric = 0.5,
) -> chex.Array:
    r"""Matches the teacher at x and at the point x' where the two networks disagree most.

    $L_b = (1 - \rho) KL(p_T(x) \| p_S(x))_b + \rho KL(p_T(x') \| p_S(x'))_b$. ARD and RSLAD keep the teacher at x; here
    both networks are evaluated at x'.

    Args:
      student_logits: float `[B, C]`, at x.
      adversarial_logits: float `[B, C]`, the student's at x'.
      teacher_logits: float `[B, C]`, at x; no gradient flows into it.
      adversarial_teacher_logits: float `[B, C]`, the teacher's at x'; no gradient flows into it.
      temperature: tau, in [0.001, 10000]; confidences are compared at 1.
      rho: in [0, 1].

    Returns:
      float32 `[B]`, in nats; 0 where student and teacher agree at both points.

    Raises:
      InputError: a hyper-parameter is out of range.

    Source: Faithful KD (arXiv:2306.04431), our interpretation of the abstract.

    >>> import jax.numpy as jnp
    >>> teacher, uniform = jnp.log(jnp.array([[0.75, 0.25]])), jnp.zeros((1, 2))
    >>> faithful_adversarial(teacher, uniform, teacher, teacher, rho=0.25).tolist()
    [0.0327]
    """
    check_logits(student_logits, adversarial_logits, teacher_logits, adversarial_teacher_logits)
    check_hyperparameters(temperature=temperature, rho=rho)
    (target, adversarial_target) = jax.lax.stop_gradient((teacher_logits, adversarial_teacher_logits))
    clean = kl_divergence(student_logits, target, temperature=temperature)
    adversarial = kl_divergence(adversarial_logits, adversarial_target, temperature=temperature)
    return (1.0 - rho) * clean + rho * adversarial


def faithful_certified(
    student_logits: chex.Array,
    teacher_logits: chex.Array,
    gap: chex.Array,
    *,
    temperature: chex.Numeric = 1.0,
    rho: chex.Numeric = 0.5,
) -> chex.Array:
    r"""Matches the teacher at x, and minimises a certified bound on the gap of confidences around x.

    $L_b = (1 - \rho) KL(p_T(x) \| p_S(x))_b + \rho \bar{D}_b$ with $\bar{D}_b \ge |p_T(x')_y - p_S(x')_y|$ for every x'
    in the ball.

    Args:
      student_logits: float `[B, C]`, at x.
      teacher_logits: float `[B, C]`, at x; no gradient flows into it.
      gap: float `[B]`, the bound; gradients flow through it. The method of the same name uses a quarter of the bound
        on the gap of log odds.
      temperature: tau of the first term, in [0.001, 10000]; confidences are compared at 1.
      rho: in [0, 1].

    Returns:
      float32 `[B]`.

    Raises:
      InputError: a hyper-parameter is out of range.

    Source: Faithful KD (arXiv:2306.04431), our interpretation of the abstract; the schedule of rho follows Gowal et al.
    (arXiv:1810.12715).

    >>> import jax.numpy as jnp
    >>> teacher, uniform = jnp.log(jnp.array([[0.75, 0.25]])), jnp.zeros((1, 2))
    >>> faithful_certified(uniform, teacher, jnp.array([0.25]), rho=0.5).tolist()
    [0.1904]
    """
    check_logits(student_logits, teacher_logits)
    check_hyperparameters(temperature=temperature, rho=rho)
    chex.assert_type(gap, float)
    chex.assert_shape(gap, (len(student_logits),))
    clean = kl_divergence(student_logits, jax.lax.stop_gradient(teacher_logits), temperature=temperature)
    return (1.0 - rho) * clean + rho * gap.astype(jnp.float32)


def certified_cross_entropy(
    student_logits: chex.Array, differences: chex.Array, labels: chex.Array, *, rho: chex.Numeric = 0.5
) -> chex.Array:
    r"""Certified training from labels: cross entropy at x and of the worst logits that the bounds allow.

    $L_b = (1 - \rho) CE(z, y)_b + \rho \log \sum_j e^{U_{bj}}$ with $U_j \ge z_j - z_y$ everywhere in the ball. The
    second term is the cross entropy with every wrong logit at its upper bound at once.

    Args:
      student_logits: float `[B, C]`, at x.
      differences: float `[B, C]`, upper bounds U from `robustness.difference_bounds`, 0 at the label.
      labels: int `[B]`, in `[0, C)`.
      rho: in [0, 1].

    Returns:
      float32 `[B]`, in nats.

    Raises:
      InputError: rho or a label is out of range.

    Source: Gowal et al. (arXiv:1810.12715), with rho for their 1 - kappa.

    >>> import jax.numpy as jnp
    >>> certified_cross_entropy(jnp.zeros((1, 2)), jnp.array([[0.0, jnp.log(3.0)]]), jnp.array([0])).tolist()
    [1.0397]
    """
    check_logits(student_logits, differences)
    check_hyperparameters(rho=rho)
    worst_case = jax.nn.logsumexp(differences.astype(jnp.float32), axis=-1)
    return (1.0 - rho) * cross_entropy(student_logits, labels) + rho * worst_case

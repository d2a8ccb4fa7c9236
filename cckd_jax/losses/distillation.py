"""Distillation with one fixed loss for every sample: the baselines of the CCKD paper (arXiv:2107.06993).

The student matches the teacher's softened probabilities $y_T = \\mathrm{softmax}(z_T / \\tau)$ by soft cross entropy,
and the label by cross entropy at temperature 1. The paper has no factor $\\tau^2$, so there is none here.
"""

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_hyperparameters, check_logits, class_indices
from cckd_jax.losses.label import is_distribution


def soft_cross_entropy(
    student_logits: chex.Array, targets: chex.Array, *, temperature: chex.Numeric = 20.0
) -> chex.Array:
    r"""Cross entropy of the softened student with a target distribution.

    $L_{KD}(q, y_S)_b = -\sum_c q_{bc} \log \mathrm{softmax}(z_S / \tau)_{bc}$

    Args:
      student_logits: float `[B, C]`.
      targets: float `[B, C]`, each row a distribution; no gradient flows into it.
      temperature: tau, in [0.001, 10000].

    Returns:
      float32 `[B]`, in nats.

    Raises:
      InputError: the temperature is out of range.

    Source: L_KD of equations 1, 2 and 6 of CCKD (arXiv:2107.06993), for classification.

    >>> import jax.numpy as jnp
    >>> soft_cross_entropy(jnp.zeros((1, 4)), jnp.array([[0.5, 0.5, 0.0, 0.0]])).tolist()
    [1.3863]
    """
    check_logits(student_logits, targets)
    check_hyperparameters(temperature=temperature)
    log_student = jax.nn.log_softmax(student_logits.astype(jnp.float32) / temperature)
    return -jnp.sum(jax.lax.stop_gradient(targets.astype(jnp.float32)) * log_student, axis=-1)


def cross_entropy(student_logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""Cross entropy with the label at temperature 1: training without a teacher (`separate`).

    $L_{CE}(y, \hat{y}_S)_b = -\log \mathrm{softmax}(z_S)_{b, y_b}$

    Args:
      student_logits: float `[B, C]`.
      labels: int `[B]`, in `[0, C)`, or float `[B, C]`, distributions.

    Returns:
      float32 `[B]`, in nats.

    Raises:
      InputError: a label is out of range.

    Source: L_CE of equation 1 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])).tolist()
    [1.3863, 1.3863]
    """
    check_logits(student_logits)
    if is_distribution(labels):
        return soft_cross_entropy(student_logits, labels, temperature=1.0)
    indices = class_indices(labels, student_logits)
    log_student = jax.nn.log_softmax(student_logits.astype(jnp.float32))
    return -jnp.take_along_axis(log_student, indices[:, None], axis=-1)[:, 0]


def teacher_only(
    student_logits: chex.Array, teacher_logits: chex.Array, *, temperature: chex.Numeric = 20.0
) -> chex.Array:
    r"""Distillation from the teacher alone, without labels.

    $L_b = L_{KD}(y_T, y_S)_b$, both distributions at temperature tau.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[B, C]`; no gradient flows into it.
      temperature: tau, in [0.001, 10000].

    Returns:
      float32 `[B]`, in nats.

    Raises:
      InputError: the temperature is out of range.

    Source: equation 1 of CCKD (arXiv:2107.06993) without its second term (section 3.3).

    >>> import jax.numpy as jnp
    >>> teacher_only(jnp.zeros((1, 4)), jnp.array([[9.0, 1.0, 0.0, 0.0]])).tolist()
    [1.3863]
    """
    check_logits(student_logits, teacher_logits)
    check_hyperparameters(temperature=temperature)
    targets = jax.nn.softmax(teacher_logits.astype(jnp.float32) / temperature)
    return soft_cross_entropy(student_logits, targets, temperature=temperature)


def kd(
    student_logits: chex.Array,
    teacher_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 20.0,
    hard_weight: chex.Numeric = 0.3,
) -> chex.Array:
    r"""Knowledge distillation with one fixed mixture of teacher and label.

    $L_b = L_{KD}(y_T, y_S)_b + \lambda_{hard} L_{CE}(y, \hat{y}_S)_b$

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[B, C]`; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`, or float `[B, C]`, distributions.
      temperature: tau of the first term, in [0.001, 10000].
      hard_weight: lambda_hard, in [0, 10000].

    Returns:
      float32 `[B]`, in nats.

    Raises:
      InputError: a hyper-parameter or a label is out of range.

    Source: equation 1 of CCKD (arXiv:2107.06993), after Hinton et al. (arXiv:1503.02531) without their tau^2.

    >>> import jax.numpy as jnp
    >>> kd(jnp.zeros((1, 4)), jnp.zeros((1, 4)), jnp.array([2])).tolist()
    [1.8022]
    """
    check_logits(student_logits, teacher_logits)
    check_hyperparameters(hard_weight=hard_weight)
    soft = teacher_only(student_logits, teacher_logits, temperature=temperature)
    return soft + hard_weight * cross_entropy(student_logits, labels)

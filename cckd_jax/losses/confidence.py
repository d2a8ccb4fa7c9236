"""Confidence conditioned knowledge distillation (CCKD): the teacher's confidence weighs teacher against label.

The confidence is the teacher's probability of the right class. CCKD-L mixes two losses by it, CCKD-T mixes two targets.
Source: Mishra and Sundaram, arXiv:2107.06993, sections 3.2 and 3.3.

The temperature of the confidence matters a lot: for a logit gap of 15 among ten classes the confidence is 1.00 at
temperature 1 and 0.19 at 20. The paper uses one temperature throughout (equations 2 and 3), and so do the defaults;
`confidence_temperature` sets it apart.
"""

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_hyperparameters, check_logits, class_indices
from cckd_jax.losses.distillation import cross_entropy, soft_cross_entropy, teacher_only
from cckd_jax.losses.label import is_distribution, label_probability


def confidence(teacher_logits: chex.Array, labels: chex.Array, *, temperature: chex.Numeric = 20.0) -> chex.Array:
    r"""The teacher's probability of the right class.

    $\lambda_b = y_b^T y_{T,b}$ with $y_T = \mathrm{softmax}(z_T / \tau)$ and y one-hot.

    Args:
      teacher_logits: float `[B, C]`; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`, or float `[B, C]`, distributions.
      temperature: tau, in [0.001, 10000].

    Returns:
      float32 `[B]`, in [0, 1].

    Raises:
      InputError: the temperature or a label is out of range.

    Source: equation 3 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> confidence(jnp.array([[jnp.log(3.0), 0.0]]), jnp.array([0]), temperature=1.0).tolist()
    [0.75]
    """
    check_logits(teacher_logits)
    check_hyperparameters(temperature=temperature)
    return label_probability(jax.lax.stop_gradient(teacher_logits).astype(jnp.float32) / temperature, labels)


def confidence_targets(
    teacher_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 20.0,
    confidence_temperature: chex.Numeric | None = None,
) -> chex.Array:
    r"""The target of CCKD-T: the teacher's distribution and the label, mixed by the teacher's confidence.

    $\bar{y} = \lambda y_T + (1 - \lambda) y$ and $y_C = \bar{y} / \|\bar{y}\|_1$. Both $y_T$ and y are distributions,
    so the norm is 1 and the division is left out.

    Args:
      teacher_logits: float `[B, C]`; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`, or float `[B, C]`, distributions.
      temperature: tau of y_T, in [0.001, 10000].
      confidence_temperature: temperature of lambda, in [0.001, 10000]; None means `temperature`.

    Returns:
      float32 `[B, C]`; each row sums to 1.

    Raises:
      InputError: a temperature or a label is out of range.

    Source: equations 4 and 5 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> confidence_targets(jnp.array([[jnp.log(3.0), 0.0]]), jnp.array([1]), temperature=1.0).tolist()
    [[0.1875, 0.8125]]
    """
    check_hyperparameters(temperature=temperature, confidence_temperature=confidence_temperature)
    trust = confidence(teacher_logits, labels, temperature=_or(confidence_temperature, temperature))[:, None]
    teacher = jax.nn.softmax(jax.lax.stop_gradient(teacher_logits).astype(jnp.float32) / temperature)
    label = labels
    if not is_distribution(labels):
        label = jax.nn.one_hot(class_indices(labels, teacher_logits), teacher_logits.shape[-1])
    return trust * teacher + (1.0 - trust) * label


def cckd_l(
    student_logits: chex.Array,
    teacher_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 20.0,
    confidence_temperature: chex.Numeric | None = None,
) -> chex.Array:
    r"""CCKD-L: the loss against the teacher and the loss against the label, mixed by the teacher's confidence.

    $L_b = \lambda_b L_{KD}(y_T, y_S)_b + (1 - \lambda_b) L_{CE}(y, \hat{y}_S)_b$, the first term at temperature tau,
    the second at 1.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[B, C]`; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`, or float `[B, C]`, distributions.
      temperature: tau, in [0.001, 10000].
      confidence_temperature: temperature of lambda, in [0.001, 10000]; None means `temperature`.

    Returns:
      float32 `[B]`, in nats.

    Raises:
      InputError: a temperature or a label is out of range.

    Source: equation 2 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> cckd_l(jnp.zeros((1, 4)), jnp.zeros((1, 4)), jnp.array([2])).tolist()
    [1.3863]
    """
    check_logits(student_logits, teacher_logits)
    check_hyperparameters(temperature=temperature, confidence_temperature=confidence_temperature)
    trust = confidence(teacher_logits, labels, temperature=_or(confidence_temperature, temperature))
    soft = teacher_only(student_logits, teacher_logits, temperature=temperature)
    return trust * soft + (1.0 - trust) * cross_entropy(student_logits, labels)


def cckd_t(
    student_logits: chex.Array,
    teacher_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 20.0,
    confidence_temperature: chex.Numeric | None = None,
) -> chex.Array:
    r"""CCKD-T: one loss against a target that is mixed per sample.

    $L_b = L_{KD}(y_C, y_S)_b$ with $y_C$ from `confidence_targets` and the student at temperature tau.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[B, C]`; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`, or float `[B, C]`, distributions.
      temperature: tau, in [0.001, 10000].
      confidence_temperature: temperature of lambda, in [0.001, 10000]; None means `temperature`.

    Returns:
      float32 `[B]`, in nats.

    Raises:
      InputError: a temperature or a label is out of range.

    Source: equation 6 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> cckd_t(jnp.zeros((1, 4)), jnp.zeros((1, 4)), jnp.array([2])).tolist()
    [1.3863]
    """
    check_logits(student_logits, teacher_logits)
    targets = confidence_targets(
        teacher_logits, labels, temperature=temperature, confidence_temperature=confidence_temperature
    )
    return soft_cross_entropy(student_logits, targets, temperature=temperature)


def _or(temperature: chex.Numeric | None, default: chex.Numeric) -> chex.Numeric:
    return default if temperature is None else temperature

"""Confidence conditioned distillation: the teacher's confidence in the right class decides, sample by sample.

Where the teacher is sure of the label it is trusted, where it is not the label is. CCKD-L mixes two losses in that
proportion, CCKD-T mixes two targets. Source: Mishra and Sundaram, arXiv:2107.06993, sections 3.2 and 3.3.

Which temperature the confidence is taken at changes everything: for a logit gap of 15 among ten classes it is 1.00
at temperature 1 and 0.19 at 20. The paper's text uses one temperature for all (equations 2 and 3), and so do the
defaults; `confidence_temperature` makes the other reading available.
"""

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_labels, check_logits, check_positive
from cckd_jax.losses.distillation import cross_entropy, soft_cross_entropy, teacher_only


def confidence(teacher_logits: chex.Array, labels: chex.Array, *, temperature: chex.Numeric = 20.0) -> chex.Array:
    r"""The probability that the teacher gives to the right class.

    $\lambda_b = y_b^T y_{T,b}$ with $y_T = \mathrm{softmax}(z_T / \tau)$ and y one-hot.

    Args:
      teacher_logits: float `[B, C]`; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau > 0.

    Returns:
      float32 `[B]`, in [0, 1].

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: the temperature is not above 0.

    Source: equation 3 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> confidence(jnp.array([[jnp.log(3.0), 0.0]]), jnp.array([0]), temperature=1.0).tolist()
    [0.75]
    """
    check_logits(teacher_logits)
    check_labels(labels, teacher_logits)
    check_positive(temperature=temperature)
    teacher = jax.nn.softmax(jax.lax.stop_gradient(teacher_logits).astype(jnp.float32) / temperature)
    return jnp.take_along_axis(teacher, labels[:, None], axis=-1)[:, 0]


def confidence_targets(
    teacher_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 20.0,
    confidence_temperature: chex.Numeric | None = None,
) -> chex.Array:
    r"""The target of CCKD-T: between the teacher's distribution and the label, as far as the teacher is sure.

    $\bar{y} = \lambda y_T + (1 - \lambda) y$ and $y_C = \bar{y} / \|\bar{y}\|_1$. Both parts are distributions, so
    the norm is 1 already and no division is made.

    Args:
      teacher_logits: float `[B, C]`; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau > 0, of y_T.
      confidence_temperature: temperature of lambda, > 0; None means `temperature`.

    Returns:
      float32 `[B, C]`; each row sums to 1.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: a temperature is not above 0.

    Source: equations 4 and 5 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> confidence_targets(jnp.array([[jnp.log(3.0), 0.0]]), jnp.array([1]), temperature=1.0).tolist()
    [[0.1875, 0.8125]]
    """
    trust = confidence(teacher_logits, labels, temperature=_or(confidence_temperature, temperature))[:, None]
    check_positive(temperature=temperature)
    teacher = jax.nn.softmax(jax.lax.stop_gradient(teacher_logits).astype(jnp.float32) / temperature)
    label = jax.nn.one_hot(labels, teacher_logits.shape[-1])
    return trust * teacher + (1.0 - trust) * label


def cckd_l(
    student_logits: chex.Array,
    teacher_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 20.0,
    confidence_temperature: chex.Numeric | None = None,
) -> chex.Array:
    r"""CCKD-L: the two losses in the proportion of the teacher's confidence.

    $L_b = \lambda_b L_{KD}(y_T, y_S)_b + (1 - \lambda_b) L_{CE}(y, \hat{y}_S)_b$, the first term at temperature tau,
    the second at 1.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[B, C]`; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau > 0.
      confidence_temperature: temperature of lambda, > 0; None means `temperature`.

    Returns:
      float32 `[B]`, in nats.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: a temperature is not above 0.

    Source: equation 2 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> cckd_l(jnp.zeros((1, 4)), jnp.zeros((1, 4)), jnp.array([2])).tolist()
    [1.3863]
    """
    check_logits(student_logits, teacher_logits)
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
    r"""CCKD-T: one loss against a target of the sample's own.

    $L_b = L_{KD}(y_C, y_S)_b$ with $y_C$ of `confidence_targets` and the student at temperature tau.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[B, C]`; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau > 0.
      confidence_temperature: temperature of lambda, > 0; None means `temperature`.

    Returns:
      float32 `[B]`, in nats.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: a temperature is not above 0.

    Source: equation 6 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> cckd_t(jnp.zeros((1, 4)), jnp.zeros((1, 4)), jnp.array([2])).tolist()
    [1.3863]
    """
    check_logits(student_logits, teacher_logits)
    targets = confidence_targets(
        teacher_logits,
        labels,
        temperature=temperature,
        confidence_temperature=confidence_temperature,
    )
    return soft_cross_entropy(student_logits, targets, temperature=temperature)


def _or(temperature: chex.Numeric | None, default: chex.Numeric) -> chex.Numeric:
    return default if temperature is None else temperature

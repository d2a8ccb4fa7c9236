"""Agreement of a student with its teacher, example by example.

The paper on faithful distillation (arXiv:2306.04431) motivates `teacher_agreement` and `faithful_fraction`. Only its
abstract was available; the definitions are our interpretation.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from cckd_jax.checks import check_labels, check_logits
from cckd_jax.errors import InputError


class TeacherAgreement(NamedTuple):
    """Means over examples, float32 scalars.

    Attributes:
      agreement: fraction of examples for which both predict the same class.
      label_gap: $|p_{S,y} - p_{T,y}|$, the sum of the next two.
      over_confidence: $\\max(p_{S,y} - p_{T,y}, 0)$.
      under_confidence: $\\max(p_{T,y} - p_{S,y}, 0)$.
      total_variation: $\\frac{1}{2} \\sum_c |p_{S,c} - p_{T,c}|$, the largest gap on any set of classes.
      divergence: $KL(p_T \\| p_S)$, in nats.
    """

    agreement: chex.Array
    label_gap: chex.Array
    over_confidence: chex.Array
    under_confidence: chex.Array
    total_variation: chex.Array
    divergence: chex.Array


def teacher_agreement(teacher_logits: chex.Array, student_logits: chex.Array, labels: chex.Array) -> TeacherAgreement:
    r"""Distance of a student's probabilities from its teacher's, both at temperature 1.

    Args:
      teacher_logits: float `[N, C]`, N > 0.
      student_logits: float `[N, C]`.
      labels: int `[N]`, in `[0, C)`.

    Returns:
      `TeacherAgreement`. If the two are equal, the agreement is 1 and everything else 0.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: there are no examples.

    Source: our interpretation of "relative calibration" in Faithful KD (arXiv:2306.04431).

    >>> teacher, student = jnp.log(jnp.array([[0.75, 0.25]])), jnp.log(jnp.array([[0.5, 0.5]]))
    >>> means = teacher_agreement(teacher, student, jnp.array([0]))
    >>> [means.under_confidence.item(), means.over_confidence.item(), means.total_variation.item()]
    [0.25, 0.0, 0.25]
    """
    check_logits(teacher_logits, student_logits)
    check_labels(labels, teacher_logits)
    if not len(labels):
        raise InputError('teacher agreement is undefined for no examples: pass at least one')
    teacher, student = (jax.nn.log_softmax(logits.astype(jnp.float32)) for logits in (teacher_logits, student_logits))
    difference = jnp.exp(student) - jnp.exp(teacher)
    on_label = jnp.take_along_axis(difference, labels[:, None], 1)[:, 0]
    return TeacherAgreement(
        agreement=jnp.mean(jnp.argmax(teacher, -1) == jnp.argmax(student, -1)),
        label_gap=jnp.mean(jnp.abs(on_label)),
        over_confidence=jnp.mean(jnp.maximum(on_label, 0)),
        under_confidence=jnp.mean(jnp.maximum(-on_label, 0)),
        total_variation=jnp.mean(jnp.sum(jnp.abs(difference), -1)) / 2,
        divergence=jnp.mean(jnp.sum(jnp.exp(teacher) * (teacher - student), -1)),
    )


def faithful_fraction(gaps: np.ndarray, kappas: np.ndarray) -> np.ndarray:
    r"""Fraction of examples at which the student is $(\epsilon, \kappa)$-faithful, as a curve over kappa.

    $|\{i : D_i \le \kappa\}| / N$. Certified upper bounds of the gaps give a lower bound of the true curve; gaps that
    an attack reached give an upper bound.

    Args:
      gaps: `[N]`, confidence gaps at one epsilon, for the examples that the teacher classifies correctly.
      kappas: `[K]`, tolerances.

    Returns:
      float64 `[K]`, in [0, 1]; NaN if there are no examples.

    Raises:
      ValueError: the shapes are not `[N]` and `[K]`.

    Source: our interpretation of Faithful KD (arXiv:2306.04431).

    >>> faithful_fraction(np.array([0.1, 0.4, 0.2, 0.9]), np.array([0.0, 0.2, 1.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    gaps, kappas = np.asarray(gaps), np.asarray(kappas)
    if gaps.ndim != 1 or kappas.ndim != 1:
        raise ValueError(f'gaps must be [N] and kappas [K]; they are {gaps.shape} and {kappas.shape}')
    if not gaps.size:
        return np.full(kappas.shape, np.nan)
    return (gaps[None] <= kappas[:, None]).mean(-1)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    r"""Spearman's rank correlation; tied values get their mean rank.

    Args:
      first: `[N]`.
      second: `[N]`, of the same examples.

    Returns:
      A number in [-1, 1], or None if one of the arrays is constant.

    Raises:
      ValueError: the shapes differ or are not `[N]`.

    Source: Spearman (1904), as in `scipy.stats.spearmanr`.

    >>> round(rank_correlation(np.array([1, 2, 2, 9]), np.array([0.5, 0.7, 0.7, 0.1])), 3)
    -0.333
    """
    if np.shape(first) != np.shape(second) or np.ndim(first) != 1:
        raise ValueError(f'both must be [N]; they are {np.shape(first)} and {np.shape(second)}')
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(scipy.stats.spearmanr(first, second).statistic)

"""Is the student as sure as its teacher, example by example? Calibration of the one relative to the other."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_labels, check_logits
from cckd_jax.errors import InputError


class Imitation(NamedTuple):
    """Means over examples, float32 scalars.

    Attributes:
      agreement: share at which both choose one class.
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


def imitation(teacher_logits: chex.Array, student_logits: chex.Array, labels: chex.Array) -> Imitation:
    r"""How close a student's probabilities are to its teacher's, both at temperature 1.

    Args:
      teacher_logits: float `[N, C]`, N > 0.
      student_logits: float `[N, C]`.
      labels: int `[N]`, in `[0, C)`.

    Returns:
      `Imitation`; all 0 but for an agreement of 1 where the two are equal.

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: no examples.

    Source: a reading of what Faithful KD (arXiv:2306.04431) calls relative calibration; its body could not be had.

    >>> teacher, student = jnp.log(jnp.array([[0.75, 0.25]])), jnp.log(jnp.array([[0.5, 0.5]]))
    >>> found = imitation(teacher, student, jnp.array([0]))
    >>> [found.under_confidence.item(), found.over_confidence.item(), found.total_variation.item()]
    [0.25, 0.0, 0.25]
    """
    check_logits(teacher_logits, student_logits)
    check_labels(labels, teacher_logits)
    if not len(labels):
        raise InputError('there is no imitation on no examples: give at least one')
    teacher, student = (jax.nn.log_softmax(each.astype(jnp.float32)) for each in (teacher_logits, student_logits))
    difference = jnp.exp(student) - jnp.exp(teacher)
    on_label = jnp.take_along_axis(difference, labels[:, None], 1)[:, 0]
    return Imitation(
        agreement=jnp.mean(jnp.argmax(teacher, -1) == jnp.argmax(student, -1)),
        label_gap=jnp.mean(jnp.abs(on_label)),
        over_confidence=jnp.mean(jnp.maximum(on_label, 0)),
        under_confidence=jnp.mean(jnp.maximum(-on_label, 0)),
        total_variation=jnp.mean(jnp.sum(jnp.abs(difference), -1)) / 2,
        divergence=jnp.mean(jnp.sum(jnp.exp(teacher) * (teacher - student), -1)),
    )

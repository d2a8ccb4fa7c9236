"""Shape, type and hyper-parameter assertions of losses and selection; they cost nothing under jit."""

import chex
import jax

from cckd_jax.errors import InputError


def check_logits(*logits: chex.Array) -> None:
    """Asserts that all are float arrays of one shape `[B, C]`."""
    chex.assert_rank(logits, 2)
    chex.assert_type(logits, float)
    chex.assert_equal_shape(logits)


def check_labels(labels: chex.Array, logits: chex.Array) -> None:
    """Asserts that labels are int `[B]` for logits `[B, C]`."""
    chex.assert_type(labels, int)
    chex.assert_shape(labels, (logits.shape[0],))


def check_positive(**values: chex.Numeric) -> None:
    """Raises InputError for a hyper-parameter that is not above zero; a traced one cannot be checked."""
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and not value > 0:
            raise InputError(f'{name} must be above 0, not {value}')


def check_non_negative(**values: chex.Numeric) -> None:
    """Raises InputError for a hyper-parameter below zero; a traced one cannot be checked."""
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and not value >= 0:
            raise InputError(f'{name} must be 0 or above, not {value}')


def check_share(**values: chex.Numeric) -> None:
    """Raises InputError for a hyper-parameter outside [0, 1]; a traced one cannot be checked."""
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and not 0 <= value <= 1:
            raise InputError(f'{name} must be in [0, 1], not {value}')


def check_teachers(teacher_logits: chex.Array, student_logits: chex.Array | None = None, *, at_least: int = 1) -> None:
    """Asserts that teachers' logits are float `[K, B, C]`, and the student's `[B, C]`.

    Raises:
      InputError: there are too few teachers.
    """
    chex.assert_rank(teacher_logits, 3)
    chex.assert_type(teacher_logits, float)
    if student_logits is not None:
        check_logits(student_logits)
        chex.assert_shape(teacher_logits, (None, *student_logits.shape))
    if len(teacher_logits) < at_least:
        raise InputError(f'teachers are weighed against each other: {at_least} or more, not {len(teacher_logits)}')


def check_reduction(reduction: str) -> None:
    """Raises InputError for another reduction than `official` and `paper`."""
    if reduction not in ('official', 'paper'):
        raise InputError(f'reduction must be official or paper, not {reduction!r}')

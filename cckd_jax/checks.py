"""Checks of arguments: shapes, dtypes, labels, and the one table of hyper-parameter ranges.

Under `jax.jit` shapes and dtypes are checked while tracing, at no cost in the compiled program; traced values are not
checked.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.errors import InputError


class Range(NamedTuple):
    """The supported values of a hyper-parameter.

    Attributes:
      contains: `(value) -> bool`.
      words: completes the sentence "temperature must be ...".
    """

    contains: Callable[[Any], bool]
    words: str


def between(low: float, high: float, words: str) -> Range:
    """Numbers from low to high."""
    return Range(lambda value: bool(low <= value <= high), words)


def integers(low: int) -> Range:
    """Whole numbers from low to the largest int32."""
    contains = lambda value: bool(low <= value < 2**31) and float(value).is_integer()
    return Range(contains, f'a whole number from {low} to 2^31 - 1')


_REDUCTIONS = ('official', 'paper')
# Within these two ranges losses are finite for logits up to 1e30, and their gradients fit into float16.
_TEMPERATURE = between(1e-3, 1e4, 'in [0.001, 10000]')
_WEIGHT = between(0, 1e4, 'in [0, 10000]')
_FRACTION = between(0, 1, 'in [0, 1]')

HYPERPARAMETER_RANGES: Mapping[str, Range] = MappingProxyType(
    {
        'temperature': _TEMPERATURE,
        'confidence_temperature': _TEMPERATURE,
        'margin_temperature': _TEMPERATURE,
        'alpha': _WEIGHT,
        'hard_weight': _WEIGHT,
        'soft_weight': _WEIGHT,
        'feature_weight': _WEIGHT,
        'adversarial_weight': _FRACTION,
        'rho': _FRACTION,
        'epsilon': between(0, 1, 'in [0, 1] (pixel range)'),
        'trust_power': _WEIGHT,
        'largest_weight': Range(lambda value: bool(0 < value <= 1), 'in (0, 1]'),
        'reduction': Range(lambda value: value in _REDUCTIONS, ' or '.join(_REDUCTIONS)),
        'attack_steps': integers(1),
        'warm_up': integers(0),
        'ramp': integers(0),
        'longest_rest': integers(0),
        'gamma': _WEIGHT,
        'teacher_prior': _WEIGHT,
    }
)


def check_hyperparameters(**values: Any) -> None:
    """Raises InputError for a concrete value outside its entry of `HYPERPARAMETER_RANGES`.

    None stands for "not set" and passes, as does a traced value.

    >>> check_hyperparameters(temperature=4.0, confidence_temperature=None)
    >>> check_hyperparameters(epsilon=1.5)
    Traceback (most recent call last):
    ...
    cckd_jax.errors.InputError: epsilon=1.5 must be in [0, 1] (pixel range)
    """
    for name, value in values.items():
        (contains, words) = HYPERPARAMETER_RANGES[name]
        if value is not None and not isinstance(value, jax.core.Tracer) and not contains(value):
            raise InputError(f'{name}={value} must be {words}')


def check_positive(**values: chex.Numeric) -> None:
    """Raises InputError for a concrete value that is not above zero."""
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and not value > 0:
            raise InputError(f'{name} must be above 0, not {value}')


def check_non_negative(**values: chex.Numeric) -> None:
    """Raises InputError for a concrete value below zero."""
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and not value >= 0:
            raise InputError(f'{name} must be 0 or above, not {value}')


def check_logits(*logits: chex.Array) -> None:
    """Asserts that all arrays are float `[B, C]` and of one shape."""
    chex.assert_rank(logits, 2)
    chex.assert_type(logits, float)
    chex.assert_equal_shape(logits)


def check_labels(labels: chex.Array, examples: chex.Array) -> None:
    """Asserts that labels are int `[B]` for an array of B examples."""
    chex.assert_type(labels, int)
    chex.assert_shape(labels, (examples.shape[0],))


def class_indices(labels: chex.Array, logits: chex.Array) -> chex.Array:
    """Checks labels and returns them as int32.

    `jax.nn.one_hot` and indexing compute in the dtype of the labels, where int8 cannot tell 128 classes apart.

    Args:
      labels: int `[B]`.
      logits: `[B, C]`.

    Returns:
      int32 `[B]`.

    Raises:
      AssertionError: labels are not int `[B]`.
      InputError: a concrete label is outside `[0, C)`. Traced labels, and those of other processes, are not checked.

    >>> class_indices(np.array([0, 3]), jnp.zeros((2, 3)))
    Traceback (most recent call last):
    ...
    cckd_jax.errors.InputError: label 3 must be in [0, 3); give unlabelled examples weight 0
    """
    check_labels(labels, logits)
    classes = logits.shape[-1]
    if not isinstance(labels, jax.core.Tracer) and getattr(labels, 'is_fully_addressable', True):
        concrete = np.asarray(labels)
        outside = concrete[(concrete < 0) | (concrete >= classes)]
        if outside.size:
            raise InputError(f'label {outside[0]} must be in [0, {classes}); give unlabelled examples weight 0')
    return jnp.asarray(labels).astype(jnp.int32)


def check_teachers(teacher_logits: chex.Array, student_logits: chex.Array | None = None, *, at_least: int = 1) -> None:
    """Asserts that teacher logits are float `[K, B, C]` and match the student's `[B, C]`.

    Raises:
      InputError: there are fewer than `at_least` teachers.
    """
    chex.assert_rank(teacher_logits, 3)
    chex.assert_type(teacher_logits, float)
    if student_logits is not None:
        check_logits(student_logits)
        chex.assert_shape(teacher_logits, (None, *student_logits.shape))
    if len(teacher_logits) < at_least:
        raise InputError(f'weighting teachers needs at least {at_least} of them, not {len(teacher_logits)}')


def check_sources(
    logits: chex.Array,
    teacher_logits: chex.Array | None = None,
    *,
    teacher_prior: chex.Numeric = 1.0,
    include_self: bool = False,
) -> None:
    """Asserts that logits of students are float `[K, B, C]`, and those of a teacher `[B, C]`.

    Raises:
      InputError: there is one student, and neither a teacher nor the student itself teaches it. A traced prior of the
        teacher is not checked.
    """
    chex.assert_rank(logits, 3)
    chex.assert_type(logits, float)
    if teacher_logits is not None:
        check_logits(logits[0], teacher_logits)
    if len(logits) > 1 or include_self:
        return
    if teacher_logits is None:
        raise InputError(f'students teach each other, so there must be at least 2 of them, not {len(logits)}')
    if not isinstance(teacher_prior, jax.core.Tracer) and teacher_prior == 0:
        raise InputError(f'teacher_prior={teacher_prior} leaves the only student without a source; set it above 0')


def check_largest_weight(largest_weight: float, teachers: int) -> None:
    """Raises InputError if that many weights up to `largest_weight` cannot sum to 1."""
    if largest_weight * teachers < 1 - 1e-6:
        raise InputError(f'largest_weight={largest_weight} must be at least {1 / teachers:g} for {teachers} teachers')

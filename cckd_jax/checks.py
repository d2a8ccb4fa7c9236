"""Shape, type and hyper-parameter assertions of losses and selection; they cost nothing under jit."""

import chex
import jax


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
    """Raises ValueError for a hyper-parameter that is not above zero; a traced one cannot be checked."""
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and not value > 0:
            raise ValueError(f'{name} must be above 0, not {value}')


def check_non_negative(**values: chex.Numeric) -> None:
    """Raises ValueError for a hyper-parameter below zero; a traced one cannot be checked."""
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and not value >= 0:
            raise ValueError(f'{name} must be 0 or above, not {value}')

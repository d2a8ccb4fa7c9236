"""AEKD: the teachers are weighted so that the student moves where they agree.

The gradients that the teachers' losses have in the student's logits, averaged over the batch, are mixed to the smallest
vector that can be had: a direction in which no teacher's loss rises. Source: Du et al. (NeurIPS 2020), as the code of
CA-MKD (arXiv:2201.00007) has it, whose one-class support vector machine solves the same problem outside the step.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_positive, check_teachers
from cckd_jax.losses.multi_teacher import divergences

Mean = Callable[[chex.Array], chex.Array]

# Differences of slopes, as shares of the largest squared length: those that end the search, and those that float32
# cannot tell.
_ACCURACY = 1e-6
_TIED = 1e-7
_AT_BOUND = 1e-6
_MOST_STEPS = 1000


def smallest_mixture(vectors: chex.Array, *, most: float = 1.0) -> chex.Array:
    r"""The weights of the mixture of vectors that is nearest to zero, none of them above a bound.

    $\min_a \| \sum_k a_k g_k \|^2$ with $\sum_k a_k = 1$ and $0 \le a_k \le a_{max}$. Beginning with equal weights,
    those that are worth most and least are changed together by the step that is best for them, until no change is
    worth it (sequential minimal optimization, Platt 1998): to about 1e-6 of the largest squared length, where there
    are no more vectors than dimensions. Equal vectors stay of equal weight.

    Args:
      vectors: float `[K, D]`; no gradient flows into it.
      most: the bound, at least 1 / K.

    Returns:
      float32 `[K]`; 1 / K each where the vectors are equal.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: weights within the bound cannot sum to 1.

    >>> import jax.numpy as jnp
    >>> smallest_mixture(jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
    [0.8, 0.2]
    >>> smallest_mixture(jnp.array([[1.0, 0.0], [0.0, 2.0]]), most=0.6).tolist()
    [0.6, 0.4]
    """
    chex.assert_rank(vectors, 2)
    chex.assert_type(vectors, float)
    count = len(vectors)
    if most * count < 1 - _AT_BOUND:
        raise ValueError(f'{count} weights of at most {most} do not sum to 1; the bound must be at least {1 / count:g}')
    vectors = jax.lax.stop_gradient(vectors).astype(jnp.float32)
    vectors = vectors / jnp.maximum(jnp.max(jnp.abs(vectors)), 1e-30)
    scale = jnp.max(jnp.sum(jnp.square(vectors), axis=-1))

    # Sums of products, since accelerators multiply matrices with fewer digits.
    mixed = lambda weights: jnp.sum(weights[:, None] * vectors, axis=0, keepdims=True)

    def best(weights: chex.Array) -> tuple[chex.Array, chex.Array]:
        slope = jnp.sum(vectors * mixed(weights), axis=-1)
        (may_rise, may_fall) = (weights < most - _AT_BOUND, weights > _AT_BOUND)
        lowest = jnp.min(slope, where=may_rise, initial=jnp.inf)
        highest = jnp.max(slope, where=may_fall, initial=-jnp.inf)
        rise = may_rise & (slope <= lowest + _TIED * scale)
        fall = may_fall & (slope >= highest - _TIED * scale)
        return rise / jnp.sum(rise) - fall / jnp.sum(fall), highest - lowest

    def unfinished(carry: tuple[chex.Array, chex.Array]) -> chex.Array:
        (weights, steps) = carry
        return (best(weights)[1] > _ACCURACY * scale) & (steps < _MOST_STEPS)

    def better(carry: tuple[chex.Array, chex.Array]) -> tuple[chex.Array, chex.Array]:
        (weights, steps) = carry
        (direction, _) = best(weights)
        along = mixed(direction)
        length = -jnp.sum(along * mixed(weights)) / jnp.sum(jnp.square(along))
        room = jnp.where(direction > 0, most - weights, weights) / jnp.abs(direction)
        room = jnp.min(room, where=direction != 0, initial=jnp.inf)
        return weights + jnp.minimum(length, room) * direction, steps + 1

    return jax.lax.while_loop(unfinished, better, (jnp.full(count, 1 / count), 0))[0]


def aekd_weights(
    student_logits: chex.Array,
    teacher_logits: chex.Array,
    *,
    mean: Mean,
    temperature: chex.Numeric = 4.0,
    largest_weight: float = 0.6,
) -> chex.Array:
    r"""The weight of each teacher, one for the whole batch.

    `smallest_mixture` of $g_k = \frac{1}{B} \sum_b \nabla_{z_S} D_{kb}$, where
    $\nabla_{z_S} D_{kb} = \tau (\mathrm{softmax}(z_S / \tau) - \mathrm{softmax}(z_{T_k} / \tau))_b$.

    Args:
      student_logits: float `[B, C]`; no gradient flows into it.
      teacher_logits: float `[K, B, C]`; no gradient flows into it.
      mean: `[B, ...] -> [...]`, over the whole batch, whatever devices it is split over.
      temperature: tau > 0.
      largest_weight: what no weight exceeds, at least 1 / K.

    Returns:
      float32 `[K]`, in [0, largest_weight], of sum 1.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: the temperature is not above 0, or weights within the bound cannot sum to 1.

    Source: Du et al. (NeurIPS 2020), as in CA-MKD's code; `largest_weight` is its tolerance C, 0.6.

    >>> import jax.numpy as jnp
    >>> student, teachers = jnp.zeros((1, 2)), jnp.array([[[9.0, 0.0]], [[0.0, 9.0]], [[0.0, 9.0]]])
    >>> aekd_weights(student, teachers, mean=lambda values: values.mean(0)).tolist()
    [0.5, 0.25, 0.25]
    """
    check_teachers(teacher_logits, student_logits)
    check_positive(temperature=temperature)
    soft = lambda logits: jax.nn.softmax(jax.lax.stop_gradient(logits).astype(jnp.float32) / temperature)
    each = temperature * (soft(student_logits)[None] - soft(teacher_logits))
    return smallest_mixture(mean(jnp.moveaxis(each, 0, 1)), most=largest_weight)


def aekd(
    student_logits: chex.Array,
    teacher_logits: chex.Array,
    *,
    mean: Mean,
    temperature: chex.Numeric = 4.0,
    largest_weight: float = 0.6,
) -> chex.Array:
    r"""AEKD: the teachers are weighted so that their gradients agree.

    $L_b = \sum_k a_k D_{kb}$ with a of `aekd_weights` and D of `divergences`.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[K, B, C]`; no gradient flows into it.
      mean: `[B, ...] -> [...]`, over the whole batch, whatever devices it is split over.
      temperature: tau > 0.
      largest_weight: what no weight exceeds, at least 1 / K.

    Returns:
      float32 `[B]`, in nats times tau^2.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: the temperature is not above 0, or weights within the bound cannot sum to 1.

    Source: Du et al. (NeurIPS 2020), as in CA-MKD's code.

    >>> import jax.numpy as jnp
    >>> student, teachers = jnp.zeros((1, 2)), jnp.log(jnp.array([[[3.0, 1.0]], [[1.0, 3.0]]]))
    >>> aekd(student, teachers, mean=lambda values: values.mean(0), temperature=1.0).tolist()
    [0.1308]
    """
    weights = aekd_weights(
        student_logits, teacher_logits, mean=mean, temperature=temperature, largest_weight=largest_weight
    )
    apart = divergences(student_logits, teacher_logits, temperature=temperature)
    return jnp.sum(weights[:, None] * apart, axis=0)

"""AEKD: teachers weighted so that the student's update does not increase any teacher's loss.

The gradients of the teachers' losses with respect to the student's logits, averaged over the batch, are combined into
the convex combination of least norm. Source: Du et al. (NeurIPS 2020), with the settings of CA-MKD's code
(arXiv:2201.00007).

That code hands the same problem to libsvm's one-class support vector machine, whose tolerance of 1e-6 is absolute. The
gradients' inner products are of that size (temperature 4, batch size 64), so with three teachers the solver stops at
its starting point, (0.6, 0.4, 0), whatever the gradients. The weights here are the optimum of the stated problem.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_hyperparameters, check_largest_weight, check_teachers
from cckd_jax.losses.multi_teacher import distillation_kl

Mean = Callable[[chex.Array], chex.Array]

# Both relative to the largest squared norm: the search stops at the first, and float32 cannot resolve the second.
_TOLERANCE = 1e-6
_TIE = 1e-7
_AT_BOUND = 1e-6
_MAX_STEPS = 1000


def smallest_mixture(vectors: chex.Array, *, largest_weight: float = 1.0) -> chex.Array:
    r"""The weights of the convex combination of least norm, with an upper bound on each weight.

    $\min_a \| \sum_k a_k g_k \|^2$ with $\sum_k a_k = 1$ and $0 \le a_k \le a_{max}$.

    Sequential minimal optimization (Platt 1998): starting from equal weights, each step moves weight between the
    coordinates with the lowest and the highest slope, by the step length that is optimal for them. It ends when the
    slopes differ by less than 1e-6 of the largest squared norm. Equal vectors keep equal weights.

    Args:
      vectors: float `[K, D]`; no gradient flows into it.
      largest_weight: a_max, at least 1 / K.

    Returns:
      float32 `[K]`; 1 / K each if all vectors are equal.

    Raises:
      InputError: weights within the bound cannot sum to 1.

    >>> import jax.numpy as jnp
    >>> smallest_mixture(jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
    [0.8, 0.2]
    >>> smallest_mixture(jnp.array([[1.0, 0.0], [0.0, 2.0]]), largest_weight=0.6).tolist()
    [0.6, 0.4]
    """
    chex.assert_rank(vectors, 2)
    chex.assert_type(vectors, float)
    count = len(vectors)
    check_largest_weight(largest_weight, count)
    vectors = jax.lax.stop_gradient(vectors).astype(jnp.float32)
    vectors = vectors / jnp.maximum(jnp.max(jnp.abs(vectors)), 1e-30)
    scale = jnp.max(jnp.sum(jnp.square(vectors), axis=-1))

    # Elementwise products and sums, because accelerators multiply matrices at lower precision.
    combine = lambda weights: jnp.sum(weights[:, None] * vectors, axis=0, keepdims=True)

    def direction_and_gap(weights: chex.Array) -> tuple[chex.Array, chex.Array]:
        slope = jnp.sum(vectors * combine(weights), axis=-1)
        (can_rise, can_fall) = (weights < largest_weight - _AT_BOUND, weights > _AT_BOUND)
        lowest = jnp.min(slope, where=can_rise, initial=jnp.inf)
        highest = jnp.max(slope, where=can_fall, initial=-jnp.inf)
        rise = can_rise & (slope <= lowest + _TIE * scale)
        fall = can_fall & (slope >= highest - _TIE * scale)
        return rise / jnp.sum(rise) - fall / jnp.sum(fall), highest - lowest

    def unconverged(carry: tuple[chex.Array, chex.Array]) -> chex.Array:
        (weights, steps) = carry
        return (direction_and_gap(weights)[1] > _TOLERANCE * scale) & (steps < _MAX_STEPS)

    def update(carry: tuple[chex.Array, chex.Array]) -> tuple[chex.Array, chex.Array]:
        (weights, steps) = carry
        (direction, _) = direction_and_gap(weights)
        change = combine(direction)
        optimal = -jnp.sum(change * combine(weights)) / jnp.sum(jnp.square(change))
        room = jnp.where(direction > 0, largest_weight - weights, weights) / jnp.abs(direction)
        feasible = jnp.min(room, where=direction != 0, initial=jnp.inf)
        return weights + jnp.minimum(optimal, feasible) * direction, steps + 1

    return jax.lax.while_loop(unconverged, update, (jnp.full(count, 1 / count), 0))[0]


def aekd_weights(
    student_logits: chex.Array,
    teacher_logits: chex.Array,
    *,
    mean: Mean,
    temperature: chex.Numeric = 4.0,
    largest_weight: float = 0.6,
) -> chex.Array:
    r"""One weight per teacher for the whole batch.

    `smallest_mixture` of $g_k = \frac{1}{B} \sum_b \nabla_{z_S} D_{kb}$ with
    $\nabla_{z_S} D_{kb} = \tau (\mathrm{softmax}(z_S / \tau) - \mathrm{softmax}(z_{T_k} / \tau))_b$.

    Args:
      student_logits: float `[B, C]`; no gradient flows into it.
      teacher_logits: float `[K, B, C]`; no gradient flows into it.
      mean: `[B, ...] -> [...]`, the mean over the global batch, on all devices.
      temperature: tau, in [0.001, 10000].
      largest_weight: upper bound of each weight, in [1 / K, 1].

    Returns:
      float32 `[K]`, in [0, largest_weight]; sums to 1.

    Raises:
      InputError: a hyper-parameter is out of range.

    Source: Du et al. (NeurIPS 2020); `largest_weight` is the tolerance C of CA-MKD's code, 0.6.

    >>> import jax.numpy as jnp
    >>> student, teachers = jnp.zeros((1, 2)), jnp.array([[[9.0, 0.0]], [[0.0, 9.0]], [[0.0, 9.0]]])
    >>> aekd_weights(student, teachers, mean=lambda values: values.mean(0)).tolist()
    [0.5, 0.25, 0.25]
    """
    check_teachers(teacher_logits, student_logits)
    check_hyperparameters(temperature=temperature, largest_weight=largest_weight)
    soften = lambda logits: jax.nn.softmax(jax.lax.stop_gradient(logits).astype(jnp.float32) / temperature)
    gradients = temperature * (soften(student_logits)[None] - soften(teacher_logits))
    return smallest_mixture(mean(jnp.moveaxis(gradients, 0, 1)), largest_weight=largest_weight)


def aekd(
    student_logits: chex.Array,
    teacher_logits: chex.Array,
    *,
    mean: Mean,
    temperature: chex.Numeric = 4.0,
    largest_weight: float = 0.6,
) -> chex.Array:
    r"""AEKD: teachers weighted so that their gradients agree.

    $L_b = \sum_k a_k D_{kb}$ with a from `aekd_weights` and D from `distillation_kl`.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[K, B, C]`; no gradient flows into it.
      mean: `[B, ...] -> [...]`, the mean over the global batch, on all devices.
      temperature: tau, in [0.001, 10000].
      largest_weight: upper bound of each weight, in [1 / K, 1].

    Returns:
      float32 `[B]`, in nats times tau^2.

    Raises:
      InputError: a hyper-parameter is out of range.

    Source: Du et al. (NeurIPS 2020), with the settings of CA-MKD's code.

    >>> import jax.numpy as jnp
    >>> student, teachers = jnp.zeros((1, 2)), jnp.log(jnp.array([[[3.0, 1.0]], [[1.0, 3.0]]]))
    >>> aekd(student, teachers, mean=lambda values: values.mean(0), temperature=1.0).tolist()
    [0.1308]
    """
    weights = aekd_weights(
        student_logits, teacher_logits, mean=mean, temperature=temperature, largest_weight=largest_weight
    )
    divergences = distillation_kl(student_logits, teacher_logits, temperature=temperature)
    return jnp.sum(weights[:, None] * divergences, axis=0)

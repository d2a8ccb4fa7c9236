"""Certified confidence gaps: upper bounds of the distance between teacher and student over a ball around an image.

The paper on faithful distillation (arXiv:2306.04431) is the motivation. Only its abstract was available; the
definitions are our interpretation.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from cckd_jax.models import Network
from cckd_jax.robustness.bounds import outputs, propagation
from cckd_jax.robustness.bounds.operations import Box, backward_chain, concretize
from cckd_jax.robustness.inputs import check_label_range, infer_common_classes
from cckd_jax.robustness.objectives import label_mask


class SignedGaps(NamedTuple):
    """Confidence gaps on the label, each float `[B]`.

    Attributes:
      over: over-confidence of the student, the largest $p_S - p_T$.
      under: under-confidence of the student, the largest $p_T - p_S$.
    """

    over: chex.Array
    under: chex.Array


def confidence_gap_bounds(
    teacher: Network,
    student: Network,
    images: chex.Array,
    labels: chex.Array,
    epsilon: chex.Numeric,
    *,
    method: str = 'crown',
) -> chex.Array:
    r"""Upper bound of $|p_T(x')_y - p_S(x')_y|$ over the l_inf ball around x, clipped to [0, 1].

    The larger of `signed_gap_bounds`. If it is at most kappa, the student is $(\epsilon, \kappa)$-faithful at x.

    Args:
      teacher: of a `models.Classifier`.
      student: of a `models.Classifier` for the same images and classes.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      method: `ibp`, `crown_ibp` or `crown`, as in `logit_bounds`.

    Returns:
      float32 `[B]`, in [0, 1]; at epsilon 0 the gap at x.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: as for `logit_bounds`, or the networks differ in images or classes.

    Source: our interpretation of Faithful KD (arXiv:2306.04431).

    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> pair = [models.Network(lenet, lenet.init(jax.random.key(seed), images)) for seed in range(2)]
    >>> clean = [jax.nn.softmax(network(images))[:, 1] for network in pair]
    >>> bound = confidence_gap_bounds(*pair, images, jnp.array([1]), 0.0, method='ibp')
    >>> bool(jnp.allclose(bound, jnp.abs(clean[0] - clean[1]), atol=1e-6))
    True
    """
    return jnp.maximum(*signed_gap_bounds(teacher, student, images, labels, epsilon, method=method))


def log_odds_gap_bounds(
    teacher: Network,
    student: Network,
    images: chex.Array,
    labels: chex.Array,
    epsilon: chex.Numeric,
    *,
    method: str = 'ibp',
) -> chex.Array:
    r"""Upper bound of the gap between the log odds that teacher and student give the label, over the ball.

    $|a_T(x') - a_S(x')|$ with $p_y = \sigma(a)$. Because the slope of the sigmoid is at most 1/4,
    $|p_T - p_S| \le |a_T - a_S| / 4$. A quarter of this bound is looser than `confidence_gap_bounds` and better for
    training: it has a gradient even if the student's bounds are wide, where the tighter bound saturates at the value
    that the teacher's bounds alone allow.

    Args:
      teacher: of a `models.Classifier`.
      student: of a `models.Classifier` for the same images and classes.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      method: `ibp`, `crown_ibp` or `crown`, as in `logit_bounds`.

    Returns:
      float32 `[B]`, >= 0; at epsilon 0 the gap at x.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: as for `logit_bounds`, or the networks differ in images or classes.

    Source: ours, for certified training in our interpretation of Faithful KD (arXiv:2306.04431).

    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> pair = [models.Network(lenet, lenet.init(jax.random.key(seed), images)) for seed in range(2)]
    >>> log_odds = log_odds_gap_bounds(*pair, images, jnp.array([1]), 0.01, method='ibp')
    >>> confidence = confidence_gap_bounds(*pair, images, jnp.array([1]), 0.01, method='ibp')
    >>> bool(confidence <= log_odds / 4)
    True
    """
    return jnp.maximum(*_checked_gaps(teacher, student, images, labels, epsilon, method, jnp.subtract))


def signed_gap_bounds(
    teacher: Network,
    student: Network,
    images: chex.Array,
    labels: chex.Array,
    epsilon: chex.Numeric,
    *,
    method: str = 'crown',
) -> SignedGaps:
    r"""Upper bounds of the student's over- and under-confidence on the label, over the ball.

    Each confidence is $\sigma(a)$ with log odds $a = -\log \sum_{j \ne y} e^{d_j}$, bounded as in `confidence_bounds`.
    Both confidences are of the same image. With $e_j = d^T_j - d^S_j$, whose bounds treat the pair as one network,
    $a_S - a_T = \log \sum_j e^{d^T_j} - \log \sum_j e^{d^S_j}$ lies between $\min_j e_j$ and $\max_j e_j$. The result
    is the largest difference of sigmoids under all three constraints, at most that under the first two.

    Args:
      teacher: of a `models.Classifier`.
      student: of a `models.Classifier` for the same images and classes.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      method: `ibp`, `crown_ibp` or `crown`, as in `logit_bounds`.

    Returns:
      `SignedGaps`, float32 `[B]` each, in [-1, 1]. A negative value certifies the sign of the gap over the whole ball.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: as for `logit_bounds`, or the networks differ in images or classes.

    Source: our interpretation of Faithful KD (arXiv:2306.04431); the constraint on the pair is ours.

    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> network = models.Network(lenet, lenet.init(jax.random.key(0), images))
    >>> bool(jnp.allclose(signed_gap_bounds(network, network, images, jnp.array([1]), 0.0, method='ibp').over, 0.0))
    True
    """
    return _checked_gaps(teacher, student, images, labels, epsilon, method, _sigmoid_difference)


def max_difference(
    first: Box,
    second: Box,
    excess: chex.Array,
    score: Callable[[chex.Array, chex.Array], chex.Array] | None = None,
) -> chex.Array:
    r"""The maximum of $\sigma(a) - \sigma(b)$ over a and b in their boxes with $a - b \le excess$, all `[B]`.

    Where the constraint is active, a = b + excess, and $\sigma(b + \delta) - \sigma(b)$ has one extremum, at
    $-\delta / 2$.

    Args:
      first: of a.
      second: of b.
      excess: upper bound of a - b.
      score: another function to maximise, increasing in a and decreasing in b, such as a - b.
    """
    score = score or _sigmoid_difference
    low = jnp.maximum(second.lower, first.lower - excess)
    high = jnp.maximum(low, jnp.minimum(second.upper, first.upper - excess))
    gap = lambda b: score(jnp.minimum(first.upper, b + excess), b)
    constrained = functools.reduce(jnp.maximum, map(gap, (low, high, jnp.clip(-excess / 2, low, high))))
    corner = score(first.upper, second.lower)
    return jnp.where(first.upper - second.lower <= excess, corner, constrained)


def _sigmoid_difference(first: chex.Array, second: chex.Array) -> chex.Array:
    return jax.nn.sigmoid(first) - jax.nn.sigmoid(second)


def _checked_gaps(teacher, student, images, labels, epsilon, method, score) -> SignedGaps:
    check_label_range(labels, images, infer_common_classes(teacher, student, images))
    for network in (teacher, student):
        outputs.check_bound_inputs(network, images, epsilon, method)
    modules, variables = zip(teacher, student, strict=True)
    return _gaps(modules, variables, images, labels, epsilon, method, score)


@functools.partial(jax.jit, static_argnums=(0, 5, 6))
@outputs.full_precision()
def _gaps(modules: tuple[nn.Module, nn.Module], variables, images, labels, epsilon, method, score) -> SignedGaps:
    pair = [
        outputs.bound_network(Network(module, weights), images, epsilon, method)
        for module, weights in zip(modules, variables, strict=True)
    ]
    linear = propagation.PROPAGATIONS[method].linear
    classes = pair[0].boxes[-1].lower.shape[-1]
    specification = outputs.differences_to_label(labels, classes)
    teacher, student = (propagation.bound_linear_functions(bounded, specification, classes, linear) for bounded in pair)
    pair_gap = Box(teacher.lower - student.upper, teacher.upper - student.lower)
    if linear:
        pair_gap = pair_gap.intersect(_bound_pair(pair[0], pair[1], specification, classes))
    others = ~label_mask(labels, classes)
    least = jnp.min(jnp.where(others, pair_gap.lower, jnp.inf), -1)
    most = jnp.max(jnp.where(others, pair_gap.upper, -jnp.inf), -1)
    teacher_odds, student_odds = outputs.log_odds_box(teacher, labels), outputs.log_odds_box(student, labels)
    return SignedGaps(
        over=max_difference(student_odds, teacher_odds, most, score),
        under=max_difference(teacher_odds, student_odds, -least, score),
    )


def _bound_pair(
    teacher: propagation.BoundedOperations,
    student: propagation.BoundedOperations,
    specification: propagation.Specification,
    count: int,
) -> Box:
    """Bounds of the teacher's outputs minus the student's, both linear functions of the same input."""

    def bound(indices: chex.Array) -> Box:
        coefficients = specification(indices)
        both_signs = jnp.concatenate([coefficients, -coefficients], 1)
        teacher_coefficients, constants = backward_chain(teacher.operations, teacher.boxes, both_signs)
        student_coefficients, more = backward_chain(student.operations, student.boxes, -both_signs)
        minimum = concretize(teacher_coefficients + student_coefficients, constants + more, teacher.boxes[0])
        return propagation.box_from_minima(minimum)

    return propagation.map_in_chunks(bound, count, [*teacher.boxes, *student.boxes])

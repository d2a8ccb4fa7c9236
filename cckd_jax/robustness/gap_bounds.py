"""How far a student's confidence can be from its teacher's anywhere in a ball around an image, certified."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from cckd_jax.models import Network
from cckd_jax.robustness import bounds, propagation
from cckd_jax.robustness.inputs import check_label_range, check_pair
from cckd_jax.robustness.objectives import label_mask
from cckd_jax.robustness.operations import Box, backward, concretised


class SignedGaps(NamedTuple):
    """Gaps of confidence on the label, each float `[B]`.

    Attributes:
      over: of the student above the teacher, the largest $p_S - p_T$.
      under: of the student below the teacher, the largest $p_T - p_S$.
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
    r"""Upper bound of $|p_T(x')_y - p_S(x')_y|$ over the l_inf ball around x, cut to [0, 1].

    The larger of `signed_gap_bounds`. The pair is $(\epsilon, \kappa)$-faithful at x where this is at most kappa.

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
      AssertionError: shapes or types are wrong.
      InputError: as `logit_bounds`; or the networks differ in images or classes.

    Source: a reading of Faithful KD (arXiv:2306.04431), whose body could not be had.

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


def odds_gap_bounds(
    teacher: Network,
    student: Network,
    images: chex.Array,
    labels: chex.Array,
    epsilon: chex.Numeric,
    *,
    method: str = 'ibp',
) -> chex.Array:
    r"""Upper bound of the gap between the log odds that teacher and student give the label, over the ball.

    $|a_T(x') - a_S(x')|$ with $p_y = \sigma(a)$, and $|p_T - p_S| \le |a_T - a_S| / 4$, since the sigmoid is nowhere
    steeper. A quarter of this is looser than `confidence_gap_bounds`, but one to train by: it has a gradient however
    wide the bounds of a network are, where the other is within rounding of what the teacher's alone allow.

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
      AssertionError: shapes or types are wrong.
      InputError: as `logit_bounds`; or the networks differ in images or classes.

    Source: ours, for the certified reading of Faithful KD (arXiv:2306.04431), whose body could not be had.

    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> pair = [models.Network(lenet, lenet.init(jax.random.key(seed), images)) for seed in range(2)]
    >>> (of_odds, of_confidence) = (
    ...     bounds(*pair, images, jnp.array([1]), 0.01, method='ibp')
    ...     for bounds in (odds_gap_bounds, confidence_gap_bounds)
    ... )
    >>> bool(of_confidence <= of_odds / 4)
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
    r"""Upper bounds of over- and under-confidence of the student on the label, over the ball.

    Each confidence is $\sigma(a)$ of log odds $a = -\log \sum_{j \ne y} e^{d_j}$, bounded as in `confidence_bounds`.
    The two are of one image: with $e_j = d^T_j - d^S_j$, whose bounds treat the pair as one network,
    $a_S - a_T = \log \sum_j e^{d^T_j} - \log \sum_j e^{d^S_j}$ lies between $\min_j e_j$ and $\max_j e_j$. The bound is
    the largest difference of sigmoids under all three constraints, never above that from the first two alone.

    Args:
      teacher: of a `models.Classifier`.
      student: of a `models.Classifier` for the same images and classes.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      method: `ibp`, `crown_ibp` or `crown`, as in `logit_bounds`.

    Returns:
      `SignedGaps`, float32 `[B]` each, in [-1, 1]; one is negative where the student is above, or below, everywhere.

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: as `logit_bounds`; or the networks differ in images or classes.

    Source: a reading of Faithful KD (arXiv:2306.04431), whose body could not be had; the shared constraint is ours.

    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> network = models.Network(lenet, lenet.init(jax.random.key(0), images))
    >>> bool(jnp.allclose(signed_gap_bounds(network, network, images, jnp.array([1]), 0.0, method='ibp').over, 0.0))
    True
    """
    return _checked_gaps(teacher, student, images, labels, epsilon, method, _difference)


def _difference(first: chex.Array, second: chex.Array) -> chex.Array:
    return jax.nn.sigmoid(first) - jax.nn.sigmoid(second)


def _checked_gaps(teacher, student, images, labels, epsilon, method, score) -> SignedGaps:
    check_label_range(labels, images, check_pair(teacher, student, images))
    for network in (teacher, student):
        bounds.check_ball(network, images, epsilon, method)
    modules, variables = zip(teacher, student, strict=True)
    return _gaps(modules, variables, images, labels, epsilon, method, score)


@functools.partial(jax.jit, static_argnums=(0, 5, 6))
@bounds.exactly()
def _gaps(modules: tuple[nn.Module, nn.Module], variables, images, labels, epsilon, method, score) -> SignedGaps:
    pair = [
        bounds.bounded(Network(*network), images, epsilon, method) for network in zip(modules, variables, strict=True)
    ]
    linear = propagation.PROPAGATIONS[method].linear
    classes = pair[0].boxes[-1].lower.shape[-1]
    specification = bounds.against(labels, classes)
    teacher, student = (propagation.functionals(part, specification, classes, linear) for part in pair)
    shared = Box(teacher.lower - student.upper, teacher.upper - student.lower)
    if linear:
        shared = shared.meet(_shared(*pair, specification, classes))
    others = ~label_mask(labels, classes)
    least = jnp.min(jnp.where(others, shared.lower, jnp.inf), -1)
    most = jnp.max(jnp.where(others, shared.upper, -jnp.inf), -1)
    of_teacher, of_student = bounds.label_odds(teacher, labels), bounds.label_odds(student, labels)
    return SignedGaps(
        over=largest_difference(of_student, of_teacher, most, score),
        under=largest_difference(of_teacher, of_student, -least, score),
    )


def largest_difference(
    first: Box, second: Box, excess: chex.Array, score: Callable[..., chex.Array] = _difference
) -> chex.Array:
    r"""The largest $\sigma(a) - \sigma(b)$, or $a - b$, for a and b in their boxes with $a - b \le excess$, all `[B]`.

    Where the constraint binds, a = b + excess, and $\sigma(b + \delta) - \sigma(b)$ has one extremum, at $-\delta / 2$.
    """
    low = jnp.maximum(second.lower, first.lower - excess)
    high = jnp.maximum(low, jnp.minimum(second.upper, first.upper - excess))
    gap = lambda b: score(jnp.minimum(first.upper, b + excess), b)
    bound = functools.reduce(jnp.maximum, map(gap, (low, high, jnp.clip(-excess / 2, low, high))))
    corner = score(first.upper, second.lower)
    return jnp.where(first.upper - second.lower <= excess, corner, bound)


def _shared(
    teacher: propagation.Bounded, student: propagation.Bounded, specification: propagation.Specification, count: int
) -> Box:
    """Bounds of the teacher's outputs less the student's, as linear functions of their one input."""

    def some(indices: chex.Array) -> Box:
        coefficients = specification(indices)
        both = jnp.concatenate([coefficients, -coefficients], 1)
        (of_teacher, constants) = backward(teacher.operations, teacher.boxes, both)
        (of_student, more) = backward(student.operations, student.boxes, -both)
        lowest = concretised(of_teacher + of_student, constants + more, teacher.boxes[0])
        (lower, negative) = jnp.split(lowest, 2, axis=1)
        return Box(lower, jnp.maximum(lower, -negative))

    return propagation.in_chunks(some, count, [*teacher.boxes, *student.boxes])

"""How far a student's confidence can be from its teacher's anywhere in a ball around an image, certified."""

import functools
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_labels
from cckd_jax.evaluation import bounds, propagation
from cckd_jax.evaluation.inputs import check_pair
from cckd_jax.evaluation.operations import Box, backward
from cckd_jax.models import Network


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
    check_pair(teacher, student, images)
    for network in (teacher, student):
        bounds.check_ball(network, images, epsilon, method)
    check_labels(labels, images)
    modules, variables = zip(teacher, student, strict=True)
    return _gaps(modules, variables, images, labels, epsilon, method)


@functools.partial(jax.jit, static_argnums=(0, 5))
@bounds.exactly()
def _gaps(modules: tuple[nn.Module, nn.Module], variables, images, labels, epsilon, method) -> SignedGaps:
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
    others = ~jax.nn.one_hot(labels, classes, dtype=bool)
    least = jnp.min(jnp.where(others, shared.lower, jnp.inf), -1)
    most = jnp.max(jnp.where(others, shared.upper, -jnp.inf), -1)
    of_teacher, of_student = bounds.label_odds(teacher, labels), bounds.label_odds(student, labels)
    return SignedGaps(
        over=largest_difference(of_student, of_teacher, most), under=largest_difference(of_teacher, of_student, -least)
    )


def largest_difference(first: Box, second: Box, excess: chex.Array) -> chex.Array:
    r"""The largest $\sigma(a) - \sigma(b)$ for a and b in their boxes with $a - b \le excess$, all `[B]`.

    Where the constraint binds, a = b + excess, and $\sigma(b + \delta) - \sigma(b)$ has one extremum, at $-\delta / 2$.
    """
    low = jnp.maximum(second.lower, first.lower - excess)
    high = jnp.maximum(low, jnp.minimum(second.upper, first.upper - excess))
    gap = lambda b: jax.nn.sigmoid(jnp.minimum(first.upper, b + excess)) - jax.nn.sigmoid(b)
    bound = functools.reduce(jnp.maximum, map(gap, (low, high, jnp.clip(-excess / 2, low, high))))
    corner = jax.nn.sigmoid(first.upper) - jax.nn.sigmoid(second.lower)
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
        lowest = propagation.concretised(of_teacher + of_student, constants + more, teacher.boxes[0])
        (lower, negative) = jnp.split(lowest, 2, axis=1)
        return Box(lower, jnp.maximum(lower, -negative))

    return propagation.in_chunks(some, count, [*teacher.boxes, *student.boxes])

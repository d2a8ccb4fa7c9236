"""Attacked confidence gaps: lower bounds of the distance between teacher and student over a ball around an image.

The paper on faithful distillation (arXiv:2306.04431) is the motivation. Only its abstract was available; the
definitions are our interpretation.
"""

from collections.abc import Callable

import chex
import jax.numpy as jnp

from cckd_jax.losses import label_log_odds
from cckd_jax.robustness.attacks.ascent import Objective, ascend
from cckd_jax.robustness.attacks.balls import BALLS
from cckd_jax.robustness.gaps.certified import SignedGaps
from cckd_jax.robustness.inputs import (
    LogitsFn,
    check_attack_steps,
    check_epsilon,
    check_images,
    check_label_range,
    infer_common_classes,
    start_keys,
)
from cckd_jax.robustness.objectives import exact_label_probability


def attack_gap(
    teacher: LogitsFn,
    student: LogitsFn,
    images: chex.Array,
    labels: chex.Array,
    epsilon: chex.Numeric,
    *,
    key: chex.PRNGKey | None = None,
    steps: chex.Numeric = 20,
    step_size: chex.Numeric | None = None,
    restarts: chex.Numeric = 1,
) -> chex.Array:
    r"""Lower bound of the largest $|p_T(x')_y - p_S(x')_y|$ over the l_inf ball around x, clipped to [0, 1].

    The larger of `signed_attack_gaps`.

    Args:
      teacher: `[B, H, W, C] -> [B, classes]`, for example a `models.Network`.
      student: for the same images and classes.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      key: for random starts in addition to the image. Either one key, which is folded with each example's position in
        the batch, or one key per example `[B]`.
      steps: number of steps, from 1 to 2**31 - 1.
      step_size: in pixel units; 2.5 epsilon / steps if None.
      restarts: number of random starts, if there is a key.

    Returns:
      float32 `[B]`, in [0, 1], at least the gap at x.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: a value is out of range, or the networks differ in images or classes.

    Source: our interpretation of Faithful KD (arXiv:2306.04431).

    >>> teacher = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    >>> constant = lambda x: 0 * teacher(x)
    >>> attack_gap(teacher, constant, jnp.zeros((1, 1, 1, 1)), jnp.array([0]), 0.5, steps=4).tolist()
    [0.2311]
    """
    return jnp.maximum(
        *signed_attack_gaps(
            teacher, student, images, labels, epsilon, key=key, steps=steps, step_size=step_size, restarts=restarts
        )
    )


def signed_attack_gaps(
    teacher: LogitsFn,
    student: LogitsFn,
    images: chex.Array,
    labels: chex.Array,
    epsilon: chex.Numeric,
    *,
    key: chex.PRNGKey | None = None,
    steps: chex.Numeric = 20,
    step_size: chex.Numeric | None = None,
    restarts: chex.Numeric = 1,
) -> SignedGaps:
    r"""Lower bounds of the student's over- and under-confidence on the label, over the ball.

    Projected sign ascent on each signed gap, from the image itself and from random starts, twice: along the gradient of
    the gap, and along that of the gap between the log odds $\log p_y / (1 - p_y)$. The second is needed where a
    confidence saturates at 0 or 1, as for a network trained at a high temperature, and has no gradient. The best point
    counts.

    Args:
      teacher: `[B, H, W, C] -> [B, classes]`, for example a `models.Network`.
      student: for the same images and classes.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      key: for random starts in addition to the image. Either one key, which is folded with each example's position in
        the batch, or one key per example `[B]`.
      steps: number of steps, from 1 to 2**31 - 1.
      step_size: in pixel units; 2.5 epsilon / steps if None.
      restarts: number of random starts, if there is a key.

    Returns:
      `SignedGaps`, float32 `[B]` each, in [-1, 1].

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: a value is out of range, or the networks differ in images or classes.

    Source: our interpretation of Faithful KD (arXiv:2306.04431).

    >>> teacher = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    >>> constant = lambda x: 0 * teacher(x)
    >>> signed_attack_gaps(teacher, constant, jnp.zeros((1, 1, 1, 1)), jnp.array([0]), 0.5, steps=4).over.tolist()
    [0.0]
    """
    check_pair_attack(teacher, student, images, epsilon, steps, step_size, restarts, labels)

    def gap_of(measure: Callable[[chex.Array, chex.Array], chex.Array], sign: float) -> Objective:
        return lambda points: sign * (measure(student(points), labels) - measure(teacher(points), labels))

    def largest(sign: float) -> chex.Array:
        gap, guide = gap_of(exact_label_probability, sign), gap_of(label_log_odds, sign)
        search = {'key': key, 'steps': steps, 'step_size': step_size, 'restarts': restarts}
        return jnp.maximum(
            maximize(gap, images, epsilon, **search), maximize(gap, images, epsilon, guide=guide, **search)
        )

    return SignedGaps(over=largest(1.0), under=largest(-1.0))


def check_pair_attack(teacher, student, images, epsilon, steps, step_size, restarts, labels=None) -> None:
    """Checks the arguments of an attack on a teacher and a student."""
    check_images(images)
    check_epsilon(epsilon)
    check_attack_steps(steps, step_size, restarts)
    num_classes = infer_common_classes(teacher, student, images)
    if labels is not None:
        check_label_range(labels, images, num_classes)


def maximize(
    objective: Objective,
    images: chex.Array,
    epsilon: chex.Numeric,
    *,
    key: chex.PRNGKey | None,
    steps: chex.Numeric,
    step_size: chex.Numeric | None,
    restarts: chex.Numeric,
    guide: Objective | None = None,
) -> chex.Array:
    """The largest value `[B]` that ascent reaches in the l_inf ball, from the image and, with a key, random starts."""
    images = images.astype(jnp.float32)
    search = {'ball': BALLS['linf'], 'epsilon': epsilon, 'steps': steps, 'step_size': step_size, 'guide': guide}
    (_, value) = ascend(objective, images, **search)
    if key is None:
        return value
    (_, from_starts) = ascend(objective, images, **search, keys=start_keys(key, len(images)), restarts=restarts)
    return jnp.maximum(value, from_starts)

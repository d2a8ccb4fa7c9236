"""The columns of the methods that look around a sample, whose rows are in `methods.METHODS`."""

from collections.abc import Callable

import chex

from cckd_jax import losses, robustness
from cckd_jax.context import Batch, Context, Outputs, Points


def worst_for_label(context: Context, batch: Batch, *, epsilon: float = 8 / 255, attack_steps: int = 10) -> Points:
    """Looks where the student's cross entropy with the label is largest."""
    objective = lambda points: losses.cross_entropy(context.student(points), batch.label)
    return {'worst': _highest(objective, context, batch, epsilon, attack_steps)}


def worst_for_teacher(
    context: Context, batch: Batch, *, epsilon: float = 8 / 255, attack_steps: int = 10, temperature: float = 1.0
) -> Points:
    """Looks where the student is furthest from what the teacher says of the sample."""
    teacher = batch.aux['teacher_logits'][:, 0]
    objective = lambda points: losses.divergence(context.student(points), teacher, temperature=temperature)
    return {'worst': _highest(objective, context, batch, epsilon, attack_steps)}


def worst_for_both(
    context: Context, batch: Batch, *, epsilon: float = 8 / 255, attack_steps: int = 10, temperature: float = 1.0
) -> Points:
    """Looks where the student is furthest from what the teacher says there."""
    (teacher,) = context.teachers
    objective = lambda points: losses.divergence(context.student(points), teacher(points), temperature=temperature)
    return {'worst': _highest(objective, context, batch, epsilon, attack_steps)}


def _highest(objective: Callable[..., chex.Array], context: Context, batch: Batch, epsilon, steps: int) -> chex.Array:
    """The best of one projected ascent from a random point of the ball, a function of the example's key alone."""
    (points, _) = robustness.ascend(
        objective,
        batch.image,
        ball=robustness.BALLS['linf'],
        epsilon=epsilon,
        steps=steps,
        step_size=2.5 * epsilon / steps,
        keys=context.keys,
    )
    return points


def certified_gap(
    context: Context,
    batch: Batch,
    points: Points,
    outputs: Outputs,
    *,
    epsilon: float = 8 / 255,
    bounds: str = 'ibp',
    temperature: float = 1.0,
    rho: float = 0.5,
) -> chex.Array:
    """`losses.faithful_certified`, of a bound through the student in training and its teacher.

    A quarter of the gap of log odds bounds that of confidences, and has a gradient where bounds are wide.
    """
    of_odds = robustness.odds_gap_bounds(
        context.teachers[0], context.student, batch.image, batch.label, epsilon, method=bounds
    )
    teacher = batch.aux['teacher_logits'][:, 0]
    return losses.faithful_certified(outputs.logits, teacher, of_odds / 4, temperature=temperature, rho=rho)


def certified_label(
    context: Context,
    batch: Batch,
    points: Points,
    outputs: Outputs,
    *,
    epsilon: float = 8 / 255,
    bounds: str = 'ibp',
    rho: float = 0.5,
) -> chex.Array:
    """`losses.certified_cross_entropy`, of bounds through the network in training."""
    (_, upper) = robustness.difference_bounds(context.student, batch.image, batch.label, epsilon, method=bounds)
    return losses.certified_cross_entropy(outputs.logits, upper, batch.label, rho=rho)

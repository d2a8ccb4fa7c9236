"""The columns of the methods of several teachers, whose rows are in `methods.METHODS`.

CA-MKD (arXiv:2201.00007) and those that it is compared with, as its code has them: the label's cross entropy, plus what
the teachers say, plus in two of them feature maps, which join after the first epoch. Those of one column share the
hyper-parameters: `soft_weight` is the paper's alpha, `feature_weight` its beta, `hard_weight` the label's.
"""

from collections.abc import Callable, Mapping

import chex
import flax.linen as nn
import jax.numpy as jnp

from cckd_jax import losses, models
from cckd_jax.context import Batch, Context, Outputs, Points

# The stages whose feature maps are matched: the last, and the second, as in CA-MKD's code.
MAP_STAGES = {'teacher_features': -1, 'teacher_hints': 1}


def teacher_logits(teachers: tuple[models.Network, ...], images: chex.Array) -> chex.Array:
    """Logits of all teachers, `[B, K, C]`."""
    return jnp.stack([teacher(images) for teacher in teachers], axis=1)


def feature_maps(name: str) -> Callable[[tuple[models.Network, ...], chex.Array], tuple[chex.Array, ...]]:
    """Makes `(teachers, images)` to each teacher's map of that name, `[B, H, W, C]` of its own."""
    return lambda teachers, images: tuple(teacher.features(images)[MAP_STAGES[name]] for teacher in teachers)


def aver(
    context: Context,
    batch: Batch,
    points: Points,
    outputs: Outputs,
    *,
    temperature: float = 4.0,
    soft_weight: float = 1.0,
    hard_weight: float = 1.0,
) -> chex.Array:
    """The label, and all teachers alike (`losses.aver`)."""
    soft = losses.aver(outputs.logits, _by_teacher(batch), temperature=temperature)
    return hard_weight * losses.cross_entropy(outputs.logits, batch.label) + soft_weight * soft


def ebkd(
    context: Context,
    batch: Batch,
    points: Points,
    outputs: Outputs,
    *,
    temperature: float = 4.0,
    soft_weight: float = 1.0,
    hard_weight: float = 1.0,
) -> chex.Array:
    """The label, and the teachers by how sure they are (`losses.ebkd`)."""
    soft = losses.ebkd(outputs.logits, _by_teacher(batch), temperature=temperature)
    return hard_weight * losses.cross_entropy(outputs.logits, batch.label) + soft_weight * soft


def aekd(
    context: Context,
    batch: Batch,
    points: Points,
    outputs: Outputs,
    *,
    temperature: float = 4.0,
    soft_weight: float = 1.0,
    hard_weight: float = 1.0,
    largest_weight: float = 0.6,
) -> chex.Array:
    """The label, and the teachers by how far they agree over the kept examples of all devices (`losses.aekd`)."""
    soft = losses.aekd(
        outputs.logits,
        _by_teacher(batch),
        mean=context.mean,
        temperature=temperature,
        largest_weight=largest_weight,
    )
    return hard_weight * losses.cross_entropy(outputs.logits, batch.label) + soft_weight * soft


def fitnet_mkd(
    context: Context,
    batch: Batch,
    points: Points,
    outputs: Outputs,
    *,
    temperature: float = 4.0,
    soft_weight: float = 1.0,
    hard_weight: float = 1.0,
    feature_weight: float = 100.0,
) -> chex.Array:
    """As `aver`, plus the teachers' feature maps after the second stage, from the second epoch on."""
    loss = aver(
        context,
        batch,
        points,
        outputs,
        temperature=temperature,
        soft_weight=soft_weight,
        hard_weight=hard_weight,
    )
    if feature_weight == 0:
        return loss
    hints = losses.fitnet_hints(outputs.extra, batch.aux['teacher_hints'])
    return loss + feature_weight * jnp.where(context.epoch > 0, hints, 0.0)


def ca_mkd(
    context: Context,
    batch: Batch,
    points: Points,
    outputs: Outputs,
    *,
    temperature: float = 4.0,
    soft_weight: float = 1.0,
    hard_weight: float = 1.0,
    feature_weight: float = 50.0,
    reduction: str = 'official',
    weights_gradient: bool = True,
) -> chex.Array:
    """The label, the teachers by how right they are, and their last feature maps by how well they read the student's.

    Equation 8 of CA-MKD. Its feature weight of 50 belongs to the reduction `official`, which has the maps join in the
    second epoch; with `paper` they are there from the first.
    """
    soft = losses.ca_mkd_logits(
        outputs.logits, _by_teacher(batch), batch.label, temperature=temperature, reduction=reduction
    )
    loss = hard_weight * losses.cross_entropy(outputs.logits, batch.label) + soft_weight * soft
    if feature_weight == 0:
        return loss
    maps = losses.ca_mkd_features(
        outputs.extra,
        batch.aux['teacher_features'],
        _read_by_teachers(context, outputs),
        batch.label,
        reduction=reduction,
        weights_gradient=weights_gradient,
    )
    if reduction == 'official':
        maps = jnp.where(context.epoch > 0, maps, 0.0)
    return loss + feature_weight * maps


def last_maps(*, feature_weight: float = 50.0) -> frozenset[str]:
    """The teachers' last feature maps, where they have any weight."""
    return frozenset({'teacher_features'} if feature_weight else ())


def middle_maps(*, feature_weight: float = 100.0) -> frozenset[str]:
    """The teachers' feature maps after the second stage, where they have any weight."""
    return frozenset({'teacher_hints'} if feature_weight else ())


def alignments(
    student: nn.Module,
    teachers: tuple[nn.Module, ...],
    image_shape: tuple[int, int, int],
    *,
    feature_weight: float = 50.0,
) -> nn.Module | None:
    """What brings the student's last feature map to the teachers' shapes."""
    return models.Alignments(_shapes('teacher_features', teachers, image_shape)) if feature_weight else None


def regressors(
    student: nn.Module,
    teachers: tuple[nn.Module, ...],
    image_shape: tuple[int, int, int],
    *,
    feature_weight: float = 100.0,
) -> nn.Module | None:
    """What brings the student's feature map after its second stage to the teachers' shapes."""
    if feature_weight == 0:
        return None
    return models.Regressors(_shapes('teacher_hints', teachers, image_shape), MAP_STAGES['teacher_hints'])


def by_entropy(context: Context, batch: Batch, points: Points, outputs: Outputs) -> Mapping[str, chex.Array]:
    """How much each teacher counts in `ebkd`."""
    return {'logits': losses.ebkd_weights(_by_teacher(batch))}


def by_agreement(
    context: Context,
    batch: Batch,
    points: Points,
    outputs: Outputs,
    *,
    temperature: float = 4.0,
    largest_weight: float = 0.6,
) -> Mapping[str, chex.Array]:
    """How much each teacher counts in `aekd`: the same for all examples of a batch."""
    teachers = _by_teacher(batch)
    weights = losses.aekd_weights(
        outputs.logits, teachers, mean=context.mean, temperature=temperature, largest_weight=largest_weight
    )
    return {'logits': jnp.broadcast_to(weights[:, None], teachers.shape[:2])}


def by_label(
    context: Context,
    batch: Batch,
    points: Points,
    outputs: Outputs,
    *,
    feature_weight: float = 50.0,
    reduction: str = 'official',
) -> Mapping[str, chex.Array]:
    """How much each teacher, and its feature map, counts in `ca_mkd`; maps that have not joined count nothing."""
    weights = {'logits': losses.ca_mkd_weights(_by_teacher(batch), batch.label)}
    if feature_weight == 0:
        return weights
    read = _read_by_teachers(context, outputs)
    joined = (reduction == 'paper') | (context.epoch > 0)
    return {**weights, 'maps': jnp.where(joined, losses.ca_mkd_feature_weights(read, batch.label), 0.0)}


def _shapes(name: str, teachers: tuple[nn.Module, ...], image_shape: tuple[int, int, int]) -> tuple[tuple, ...]:
    return tuple(models.feature_shapes(teacher, image_shape)[MAP_STAGES[name]] for teacher in teachers)


def _by_teacher(batch: Batch) -> chex.Array:
    return jnp.moveaxis(batch.aux['teacher_logits'], 1, 0)


def _read_by_teachers(context: Context, outputs: Outputs) -> chex.Array:
    """What each teacher's own classifier makes of the student's features aligned to it, `[K, B, C]` (equation 4)."""
    return jnp.stack([teacher.head(maps) for teacher, maps in zip(context.teachers, outputs.extra, strict=True)])

"""Columns of methods with several teachers: CA-MKD (arXiv:2201.00007) and the methods that its paper compares.

Their losses follow CA-MKD's official code: the label's cross entropy, plus a term on the teachers' logits, plus in two
methods a term on feature maps, which joins after the first epoch. `soft_weight` is the paper's alpha, `feature_weight`
its beta, `hard_weight` weighs the label.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from cckd_jax import losses, models
from cckd_jax.methods.inputs import Inputs
from cckd_jax.methods.method import FeatureMatching

LAST_STAGE = FeatureMatching(-1, models.Alignments)
HINT_STAGE = FeatureMatching(1, lambda shapes: models.Regressors(shapes, 1))


def aver(inputs: Inputs) -> jax.Array:
    """The label, and all teachers with equal weight (`losses.aver`)."""
    soft = losses.aver(inputs.logits, inputs.all_teacher_logits, temperature=inputs.hyper.temperature)
    return _with_label(inputs, soft)


def ebkd(inputs: Inputs) -> jax.Array:
    """The label, and the teachers weighted by the entropy of their predictions (`losses.ebkd`)."""
    soft = losses.ebkd(inputs.logits, inputs.all_teacher_logits, temperature=inputs.hyper.temperature)
    return _with_label(inputs, soft)


def aekd(inputs: Inputs) -> jax.Array:
    """The label, and the teachers weighted by the agreement of their gradients over the batch (`losses.aekd`)."""
    hyper = inputs.hyper
    soft = losses.aekd(
        inputs.logits,
        inputs.all_teacher_logits,
        mean=inputs.mean,
        temperature=hyper.temperature,
        largest_weight=hyper.largest_weight,
    )
    return _with_label(inputs, soft)


def fitnet_mkd(inputs: Inputs) -> jax.Array:
    """As `aver`, plus the teachers' feature maps after the second stage, from the second epoch on."""
    loss = aver(inputs)
    weight = inputs.hyper.feature_weight
    if weight == 0:
        return loss
    hints = losses.fitnet_hints(inputs.adapted, inputs.teacher_features)
    return loss + weight * jnp.where(inputs.epoch > 0, hints, 0.0)


def ca_mkd(inputs: Inputs) -> jax.Array:
    """The label, the teachers weighted by their confidence in it, and their last feature maps (equation 8 of CA-MKD).

    The feature weight of 50 belongs to the reduction `official`, in which feature maps join in the second epoch; with
    `paper` they are there from the first.
    """
    hyper = inputs.hyper
    soft = losses.ca_mkd_logits(
        inputs.logits,
        inputs.all_teacher_logits,
        inputs.labels,
        temperature=hyper.temperature,
        reduction=hyper.reduction,
    )
    loss = _with_label(inputs, soft)
    if hyper.feature_weight == 0:
        return loss
    features = losses.ca_mkd_features(
        inputs.adapted,
        inputs.teacher_features,
        _student_through_teachers(inputs),
        inputs.labels,
        reduction=hyper.reduction,
        weights_gradient=hyper.weights_gradient,
    )
    if hyper.reduction == 'official':
        features = jnp.where(inputs.epoch > 0, features, 0.0)
    return loss + hyper.feature_weight * features


def ebkd_weights(inputs: Inputs) -> Mapping[str, jax.Array]:
    """Weights of the teachers in `ebkd`."""
    return {'logits': losses.ebkd_weights(inputs.all_teacher_logits)}


def aekd_weights(inputs: Inputs) -> Mapping[str, jax.Array]:
    """Weights of the teachers in `aekd`: the same for all examples of a batch."""
    teachers, hyper = inputs.all_teacher_logits, inputs.hyper
    weights = losses.aekd_weights(
        inputs.logits,
        teachers,
        mean=inputs.mean,
        temperature=hyper.temperature,
        largest_weight=hyper.largest_weight,
    )
    return {'logits': jnp.broadcast_to(weights[:, None], teachers.shape[:2])}


def ca_mkd_weights(inputs: Inputs) -> Mapping[str, jax.Array]:
    """Weights of the teachers and of their feature maps in `ca_mkd`; 0 for feature maps that have not joined yet."""
    hyper = inputs.hyper
    weights = {'logits': losses.ca_mkd_weights(inputs.all_teacher_logits, inputs.labels)}
    if hyper.feature_weight == 0:
        return weights
    joined = (hyper.reduction == 'paper') | (inputs.epoch > 0)
    feature_weights = losses.ca_mkd_feature_weights(_student_through_teachers(inputs), inputs.labels)
    return {**weights, 'maps': jnp.where(joined, feature_weights, 0.0)}


def _with_label(inputs: Inputs, soft: jax.Array) -> jax.Array:
    hyper = inputs.hyper
    return hyper.hard_weight * losses.cross_entropy(inputs.logits, inputs.labels) + hyper.soft_weight * soft


def _student_through_teachers(inputs: Inputs) -> jax.Array:
    """Logits `[K, B, C]` of each teacher's classifier on the student's adapted features (equation 4 of CA-MKD)."""
    pairs = zip(inputs.teachers, inputs.adapted, strict=True)
    return jnp.stack([teacher.head(features) for teacher, features in pairs])

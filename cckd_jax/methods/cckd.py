"""Columns of methods with one teacher: losses on logits, the self-regulating gate, weights by significance."""

import jax
import numpy as np

from cckd_jax import losses, selection
from cckd_jax.methods.inputs import Hyperparameters, Inputs
from cckd_jax.methods.method import Gate, Weighting


def cross_entropy(inputs: Inputs) -> jax.Array:
    """The label alone."""
    return losses.cross_entropy(inputs.logits, inputs.label_targets)


def kd(inputs: Inputs) -> jax.Array:
    """`losses.kd`: the teacher at a temperature, plus the label."""
    hyper = inputs.hyper
    return losses.kd(
        inputs.logits,
        inputs.teacher_logits,
        inputs.label_targets,
        temperature=hyper.temperature,
        hard_weight=hyper.hard_weight,
    )


def teacher_only(inputs: Inputs) -> jax.Array:
    """`losses.teacher_only`: the teacher at a temperature."""
    return losses.teacher_only(inputs.logits, inputs.teacher_logits, temperature=inputs.hyper.temperature)


def cckd_l(inputs: Inputs) -> jax.Array:
    """`losses.cckd_l`: two losses mixed by the teacher's confidence in the label."""
    return losses.cckd_l(inputs.logits, inputs.teacher_logits, inputs.label_targets, **_temperatures(inputs.hyper))


def cckd_t(inputs: Inputs) -> jax.Array:
    """`losses.cckd_t`: one target mixed by the teacher's confidence in the label."""
    return losses.cckd_t(inputs.logits, inputs.teacher_logits, inputs.label_targets, **_temperatures(inputs.hyper))


def _temperatures(hyper: Hyperparameters) -> dict[str, float | None]:
    return {'temperature': hyper.temperature, 'confidence_temperature': hyper.confidence_temperature}


def _below_margin(inputs: Inputs) -> jax.Array:
    hyper = inputs.hyper
    return selection.self_regulate(
        inputs.logits,
        inputs.labels,
        inputs.epoch,
        alpha=hyper.alpha,
        temperature=_margin_temperature(hyper),
    )


def _when_threshold_reaches_margin(inputs: Inputs) -> jax.Array:
    hyper = inputs.hyper
    return selection.next_visit(
        inputs.logits,
        inputs.epoch,
        alpha=hyper.alpha,
        longest_rest=hyper.longest_rest,
        temperature=_margin_temperature(hyper),
    )


def _margin_temperature(hyper: Hyperparameters) -> float:
    """The temperature of the margin: that of the method, unless the row sets `margin_temperature`."""
    margin_temperature, temperature = hyper.margin_temperature, hyper.temperature
    return temperature if margin_temperature is None else margin_temperature


# A sample trains until the student is right about it by the epoch's margin (`selection.self_regulate`).
SELF_REGULATED = Gate(
    _below_margin,
    {'alpha': 0.01, 'temperature': 20.0, 'margin_temperature': None},
    threshold=lambda epoch, hyper: selection.threshold(epoch, alpha=hyper.alpha),
)

# The same; a dropped sample also skips its forward pass until the threshold could have caught up with its margin.
SELF_REGULATED_RECHECK = Gate(
    _below_margin,
    {**SELF_REGULATED.hyperparameters, 'longest_rest': 5},
    threshold=SELF_REGULATED.threshold,
    next_epoch=_when_threshold_reaches_margin,
)


def _significant(labels: np.ndarray, aux) -> np.ndarray:
    return np.flatnonzero(aux['significance'] > 0)


# A sample counts by its significance to the teacher (`selection.significance`); those of zero cost no forward pass.
BY_SIGNIFICANCE = Weighting(lambda batch: batch.aux['significance'], _significant)

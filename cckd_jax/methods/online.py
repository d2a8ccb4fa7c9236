"""Columns of methods that train several students together: DML, KDCL, and CCKD among students, our proposal."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from cckd_jax import losses
from cckd_jax.methods.inputs import Inputs
from cckd_jax.methods.method import Column, Measures


def dml(inputs: Inputs) -> jax.Array:
    """`losses.dml`: the label, and the other students."""
    hyper = inputs.hyper
    values = losses.dml(
        inputs.peer_logits,
        inputs.labels,
        temperature=hyper.temperature,
        soft_weight=hyper.soft_weight,
        hard_weight=hyper.hard_weight,
    )
    return values[inputs.peer]


def dml_measures(inputs: Inputs) -> Mapping[str, jax.Array]:
    """The mass that the other students leave to classes other than the label, `soft_mass`."""
    probabilities = _label_probabilities(inputs)
    others = (jnp.sum(probabilities, axis=0) - probabilities[inputs.peer]) / (len(probabilities) - 1)
    return {'soft_mass': 1.0 - others}


def kdcl(combine: Callable[[jax.Array, jax.Array], jax.Array]) -> tuple[Column, Measures]:
    """The columns `loss` and `measures` of KDCL with one of its targets.

    Args:
      combine: `(logits [K, B, C], labels [B]) -> [B, C]`, such as `losses.kdcl_naive`.
    """

    def loss(inputs: Inputs) -> jax.Array:
        hyper = inputs.hyper
        values = losses.kdcl(
            inputs.peer_logits,
            combine(inputs.group_logits, inputs.labels),
            inputs.labels,
            temperature=hyper.temperature,
            soft_weight=hyper.soft_weight,
            hard_weight=hyper.hard_weight,
        )
        return values[inputs.peer]

    def measures(inputs: Inputs) -> Mapping[str, jax.Array]:
        target = combine(inputs.group_logits, inputs.labels) / inputs.hyper.temperature
        return {'soft_mass': 1.0 - losses.label_probability(target, inputs.labels)}

    return loss, measures


def cckd_online_t(inputs: Inputs) -> jax.Array:
    """`losses.cckd_online_t`: one target, mixed by the trust in the others."""
    values = losses.cckd_online_t(
        inputs.peer_logits,
        inputs.labels,
        temperature=inputs.hyper.temperature,
        hard_weight=inputs.hyper.hard_weight,
        **_options(inputs),
    )
    return values[inputs.peer]


def cckd_online_l(inputs: Inputs) -> jax.Array:
    """`losses.cckd_online_l`: two losses, mixed by the trust in the others."""
    values = losses.cckd_online_l(
        inputs.peer_logits, inputs.labels, temperature=inputs.hyper.temperature, **_options(inputs)
    )
    return values[inputs.peer]


def source_weights(inputs: Inputs) -> Mapping[str, jax.Array]:
    """Weights of the teacher, if there is one, and of all students, as sources of this student."""
    return {'logits': _mixtures(inputs).weights[inputs.peer]}


def cckd_measures(inputs: Inputs) -> Mapping[str, jax.Array]:
    """The trust of the student in its sources, and the mass of its target on classes other than the label."""
    mixtures = _mixtures(inputs)
    (trust, distribution) = (mixtures.trust[inputs.peer], mixtures.distributions[inputs.peer])
    label = jnp.take_along_axis(distribution, inputs.labels[:, None], axis=-1)[:, 0]
    return {'trust': trust, 'soft_mass': trust * (1.0 - label)}


def _mixtures(inputs: Inputs) -> losses.Mixtures:
    return losses.online_mixtures(
        inputs.peer_logits, inputs.labels, temperature=inputs.hyper.temperature, **_options(inputs)
    )


def _options(inputs: Inputs) -> losses.SourceOptions:
    hyper = inputs.hyper
    return {
        'teacher_logits': inputs.optional_teacher_logits,
        'confidence_temperature': hyper.confidence_temperature,
        'gamma': hyper.gamma,
        'teacher_prior': hyper.teacher_prior,
        'include_self': hyper.include_self,
        'relative_trust': hyper.relative_trust,
    }


def _label_probabilities(inputs: Inputs) -> jax.Array:
    """The students' probabilities of the label at the method's temperature, `[K, B]`."""
    confidence = lambda logits: losses.confidence(logits, inputs.labels, temperature=inputs.hyper.temperature)
    return jax.vmap(confidence)(inputs.group_logits)

"""Columns of methods that look near a sample: adversarial images, and certified bounds around it."""

from collections.abc import Callable

import jax

from cckd_jax import losses, robustness
from cckd_jax.methods.inputs import Hyperparameters, Inputs


def pgd_on_label(inputs: Inputs) -> jax.Array:
    """Images near the samples with the largest cross entropy of the student on the label."""
    return _ascend(inputs, lambda images: robustness.exact_cross_entropy(inputs.student(images), inputs.labels))


def pgd_on_teacher(inputs: Inputs) -> jax.Array:
    """Images near the samples where the student is farthest from the teacher's answer at the sample."""
    temperature = inputs.hyper.temperature
    return _ascend(
        inputs,
        lambda images: losses.kl_divergence(inputs.student(images), inputs.teacher_logits, temperature=temperature),
    )


def pgd_on_disagreement(inputs: Inputs) -> jax.Array:
    """Images near the samples where the student is farthest from the teacher's answer at the same image."""
    temperature = inputs.hyper.temperature
    return _ascend(
        inputs,
        lambda images: losses.kl_divergence(inputs.student(images), inputs.teacher(images), temperature=temperature),
    )


def _ascend(inputs: Inputs, objective: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """One projected ascent from a random point of the ball, a function of the example's key alone."""
    hyper = inputs.hyper
    (images, _) = robustness.ascend(
        objective,
        inputs.images,
        ball=robustness.BALLS['linf'],
        epsilon=hyper.epsilon,
        steps=hyper.attack_steps,
        keys=inputs.keys,
    )
    return images


def ard(inputs: Inputs) -> jax.Array:
    """`losses.ard`."""
    hyper = inputs.hyper
    return losses.ard(
        inputs.logits,
        inputs.student(inputs.adversarial),
        inputs.teacher_logits,
        inputs.labels,
        temperature=hyper.temperature,
        adversarial_weight=hyper.adversarial_weight,
    )


def rslad(inputs: Inputs) -> jax.Array:
    """`losses.rslad`."""
    hyper = inputs.hyper
    return losses.rslad(
        inputs.logits,
        inputs.student(inputs.adversarial),
        inputs.teacher_logits,
        temperature=hyper.temperature,
        adversarial_weight=hyper.adversarial_weight,
    )


def iad(inputs: Inputs) -> jax.Array:
    """`losses.iad`."""
    hyper = inputs.hyper
    return losses.iad(
        inputs.logits,
        inputs.student(inputs.adversarial),
        inputs.teacher_logits,
        inputs.teacher(inputs.adversarial),
        inputs.labels,
        temperature=hyper.temperature,
        trust_power=hyper.trust_power,
    )


def faithful_adversarial(inputs: Inputs) -> jax.Array:
    """`losses.faithful_adversarial`."""
    hyper = inputs.hyper
    return losses.faithful_adversarial(
        inputs.logits,
        inputs.student(inputs.adversarial),
        inputs.teacher_logits,
        inputs.teacher(inputs.adversarial),
        temperature=hyper.temperature,
        rho=hyper.rho,
    )


def faithful_certified(inputs: Inputs) -> jax.Array:
    """`losses.faithful_certified`, of a bound through the student and its teacher.

    A quarter of the bound on the gap of log odds bounds the gap of confidences, and it has a gradient where bounds are
    wide.
    """
    hyper = inputs.hyper
    log_odds_gap = robustness.log_odds_gap_bounds(
        inputs.teacher, inputs.student, inputs.images, inputs.labels, hyper.epsilon, method=hyper.bounds
    )
    return losses.faithful_certified(
        inputs.logits, inputs.teacher_logits, log_odds_gap / 4, temperature=hyper.temperature, rho=hyper.rho
    )


def adversarial_cross_entropy(inputs: Inputs) -> jax.Array:
    """The label's cross entropy at the adversarial images."""
    return losses.cross_entropy(inputs.student(inputs.adversarial), inputs.labels)


def certified_cross_entropy(inputs: Inputs) -> jax.Array:
    """`losses.certified_cross_entropy`, of bounds through the network in training."""
    hyper = inputs.hyper
    (_, upper) = robustness.difference_bounds(
        inputs.student, inputs.images, inputs.labels, hyper.epsilon, method=hyper.bounds
    )
    return losses.certified_cross_entropy(inputs.logits, upper, inputs.labels, rho=hyper.rho)


def ramp(epoch: jax.Array, hyper: Hyperparameters) -> jax.Array:
    """The factor of a hyper-parameter that grows from 0 to its value (`robustness.ramp`)."""
    return robustness.ramp(epoch, warm_up=hyper.warm_up, length=hyper.ramp)

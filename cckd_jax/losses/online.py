r"""Confidence conditioned distillation among students that train together: our proposal, which no paper describes.

The CCKD paper (arXiv:2107.06993) names collaborative distillation as future work. Here every student learns from the
others, and from a frozen teacher if there is one, as a CCKD student learns from its teacher. A *source* of student i is
another student, or the teacher. With $c_j = \mathrm{softmax}(z_j / \tau_c)_y$, the confidence of source j in the label,

$w_{ij} = \omega_j c_j^\gamma / \sum_l \omega_l c_l^\gamma, \quad q_i = \sum_j w_{ij}\, \mathrm{softmax}(z_j / \tau),
\quad \Lambda_i = \sum_j w_{ij} c_j$

and $\omega_j$ is `teacher_prior` for the teacher and 1 for a student. The mixture $q_i$ takes the place of the
teacher's distribution, and the trust $\Lambda_i$ that of its confidence. One student with one teacher is CCKD.
"""

from typing import NamedTuple, TypedDict, Unpack

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_hyperparameters, check_sources, class_indices
from cckd_jax.losses.confidence import confidence
from cckd_jax.losses.distillation import cross_entropy, soft_cross_entropy


class Mixtures(NamedTuple):
    """The mixed distribution of every student's sources, and the trust in it.

    Attributes:
      weights: float32 `[K, S, B]`, of every source for every student. The S sources are the teacher, if there is one,
        and then the K students. They sum to 1, or to 0 where a student has no source that counts.
      distributions: float32 `[K, B, C]`, q: the weighted mean of the sources' softened distributions.
      trust: float32 `[K, B]`, Lambda: the weighted mean of the sources' confidences in the label.
    """

    weights: chex.Array
    distributions: chex.Array
    trust: chex.Array


class SourceOptions(TypedDict, total=False):
    """The arguments of `online_mixtures` beside the temperature, with its defaults."""

    teacher_logits: chex.Array | None
    confidence_temperature: chex.Numeric | None
    gamma: chex.Numeric
    teacher_prior: chex.Numeric
    include_self: bool
    relative_trust: bool


def online_mixtures(
    logits: chex.Array,
    labels: chex.Array,
    *,
    teacher_logits: chex.Array | None = None,
    temperature: chex.Numeric = 20.0,
    confidence_temperature: chex.Numeric | None = None,
    gamma: chex.Numeric = 1.0,
    teacher_prior: chex.Numeric = 1.0,
    include_self: bool = False,
    relative_trust: bool = False,
) -> Mixtures:
    r"""Weighs the sources of every student by their confidence in the label, and mixes their distributions.

    The formulas are in the module's docstring. With `relative_trust`, a student learns only from sources that are more
    confident than itself: $w_{ij} = a_{ij} / \sum_l a_{il}$ with $a_{ij} = \omega_j \max(c_j - c_i, 0)$. Where there
    is no such source, weights and trust are 0, so that the student learns the label alone; `gamma` and `include_self`
    have no effect. Weights and trust are also 0 where a traced `teacher_prior` of 0 leaves a student without a source.

    Args:
      logits: float `[K, B, C]`, of the students; no gradient flows into them.
      labels: int `[B]`, in `[0, C)`.
      teacher_logits: float `[B, C]`, or None without a teacher; no gradient flows into them.
      temperature: tau of the distributions, in [0.001, 10000].
      confidence_temperature: tau_c of the confidences, in [0.001, 10000]; None means `temperature`.
      gamma: how strongly confidence decides; 0 weighs all sources equally. In [0, 10000].
      teacher_prior: omega of the teacher; 0 leaves it out. In [0, 10000].
      include_self: whether a student is among its own sources; no effect with `relative_trust`.
      relative_trust: whether only sources that are more confident than the student count.

    Returns:
      Weights, distributions and trust.

    Raises:
      InputError: a hyper-parameter or a label is out of range, or a student has no source.

    Source: our proposal.

    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([[[1.0, 3.0]], [[3.0, 1.0]], [[1.0, 1.0]]]))
    >>> mixtures = online_mixtures(logits, jnp.array([0]), temperature=1.0)
    >>> mixtures.weights[:, :, 0].round(4).tolist()
    [[0.0, 0.6, 0.4], [0.3333, 0.0, 0.6667], [0.25, 0.75, 0.0]]
    >>> mixtures.trust[:, 0].round(4).tolist()
    [0.65, 0.4167, 0.625]
    """
    check_sources(logits, teacher_logits, teacher_prior=teacher_prior, include_self=include_self)
    check_hyperparameters(
        temperature=temperature,
        confidence_temperature=confidence_temperature,
        gamma=gamma,
        teacher_prior=teacher_prior,
    )
    confidence_temperature = temperature if confidence_temperature is None else confidence_temperature
    sources = jax.lax.stop_gradient(logits).astype(jnp.float32)
    priors = jnp.ones(len(logits))
    if teacher_logits is not None:
        teacher = jax.lax.stop_gradient(teacher_logits).astype(jnp.float32)
        sources = jnp.concatenate([teacher[None], sources])
        priors = jnp.concatenate([jnp.full(1, teacher_prior, jnp.float32), priors])
    confidences = jax.vmap(lambda values: confidence(values, labels, temperature=confidence_temperature))(sources)
    # float32 [K, S]: who may teach whom, with its prior.
    priors = jnp.tile(priors, (len(logits), 1)) if include_self else _without_self(priors, len(logits))
    if relative_trust:
        own = confidences[-len(logits) :]
        ahead = priors[:, :, None] * jnp.maximum(confidences[None] - own[:, None], 0.0)
        total = jnp.sum(ahead, axis=1, keepdims=True)
        weights = ahead / jnp.where(total > 0, total, 1.0)
    else:
        # In logarithms, so that sources that are all wrong with certainty still have weights.
        log_confidences = jax.vmap(lambda values: -cross_entropy(values / confidence_temperature, labels))(sources)
        weights = _weigh(priors, gamma * log_confidences)
    distributions = jax.nn.softmax(sources / temperature)
    return Mixtures(
        weights,
        jnp.sum(weights[..., None] * distributions[None], axis=1),
        jnp.sum(weights * confidences[None], axis=1),
    )


def online_targets(
    logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 20.0,
    **options: Unpack[SourceOptions],
) -> tuple[chex.Array, chex.Array]:
    r"""The target of each student: the mixture of its sources and the label, weighted by trust.

    $y_{C,i} = \Lambda_i q_i + (1 - \Lambda_i) y$, with q and Lambda of `online_mixtures`. With one student and a
    teacher this is `confidence_targets`. If both temperatures are equal, Lambda is the mass of the label in q, so that
    the label keeps a mass of $1 - \Lambda + \Lambda^2 \ge 3/4$.

    Args:
      logits: float `[K, B, C]`, of the students; no gradient flows into them.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau of the distributions, in [0.001, 10000].
      **options: `teacher_logits`, `confidence_temperature`, `gamma`, `teacher_prior`, `include_self` and
        `relative_trust`, the other arguments of `online_mixtures`.

    Returns:
      Targets float32 `[K, B, C]`, whose rows sum to 1, and trust float32 `[K, B]`.

    Raises:
      InputError: a hyper-parameter or a label is out of range, or a student has no source.

    Source: our proposal, after equations 4 and 5 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([[[1.0, 3.0]], [[3.0, 1.0]]]))
    >>> targets, trust = online_targets(logits, jnp.array([0]), temperature=1.0)
    >>> targets.tolist(), trust.tolist()
    ([[[0.8125, 0.1875]], [[0.8125, 0.1875]]], [[0.75], [0.25]])
    """
    mixtures = online_mixtures(logits, labels, temperature=temperature, **options)
    trust = mixtures.trust[..., None]
    label = jax.nn.one_hot(class_indices(labels, logits[0]), logits.shape[-1])[None]
    return trust * mixtures.distributions + (1.0 - trust) * label, mixtures.trust


def cckd_online_t(
    logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 20.0,
    hard_weight: chex.Numeric = 0.0,
    **options: Unpack[SourceOptions],
) -> chex.Array:
    r"""CCKD-T among students: one loss of each student against its target.

    $L_{ib} = L_{KD}(y_{C,i}, y_i)_b + \mu L_{CE}(y, \hat{y}_i)_b$, the first term at temperature tau without a factor
    tau^2, as in CCKD, the second at 1. No gradient of a student's loss flows into another student.

    Args:
      logits: float `[K, B, C]`, of the students.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau, in [0.001, 10000].
      hard_weight: mu, in [0, 10000].
      **options: the other arguments of `online_mixtures`.

    Returns:
      float32 `[K, B]`, in nats.

    Raises:
      InputError: a hyper-parameter or a label is out of range, or a student has no source.

    Source: our proposal, after equation 6 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> cckd_online_t(jnp.zeros((2, 1, 4)), jnp.array([2])).tolist()
    [[1.3863], [1.3863]]
    """
    (targets, _) = online_targets(logits, labels, temperature=temperature, **options)
    check_hyperparameters(hard_weight=hard_weight)
    soft = _soft(logits, targets, temperature)
    return soft + hard_weight * jax.vmap(lambda values: cross_entropy(values, labels))(logits)


def cckd_online_l(
    logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 20.0,
    **options: Unpack[SourceOptions],
) -> chex.Array:
    r"""CCKD-L among students: the loss against the others and the loss against the label, mixed by trust.

    $L_{ib} = \Lambda_{ib} L_{KD}(q_i, y_i)_b + (1 - \Lambda_{ib}) L_{CE}(y, \hat{y}_i)_b$, the first term at
    temperature tau, the second at 1. No gradient of a student's loss flows into another student. The loss against the
    mixture has the gradient of the weighted sum of the losses against each source.

    Args:
      logits: float `[K, B, C]`, of the students.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau, in [0.001, 10000].
      **options: the other arguments of `online_mixtures`.

    Returns:
      float32 `[K, B]`, in nats.

    Raises:
      InputError: a hyper-parameter or a label is out of range, or a student has no source.

    Source: our proposal, after equation 2 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> cckd_online_l(jnp.zeros((2, 1, 4)), jnp.array([2])).tolist()
    [[1.3863], [1.3863]]
    """
    mixtures = online_mixtures(logits, labels, temperature=temperature, **options)
    soft = _soft(logits, mixtures.distributions, temperature)
    hard = jax.vmap(lambda values: cross_entropy(values, labels))(logits)
    return mixtures.trust * soft + (1.0 - mixtures.trust) * hard


def _without_self(priors: chex.Array, students: int) -> chex.Array:
    """Priors `[K, S]`, with 0 for a student as its own source."""
    others = len(priors) - students
    is_self = jnp.concatenate([jnp.zeros((students, others), bool), jnp.eye(students, dtype=bool)], axis=1)
    return jnp.where(is_self, 0.0, priors[None])


def _weigh(priors: chex.Array, log_confidences: chex.Array) -> chex.Array:
    """Weights `[K, S, B]`, proportional to prior `[K, S]` times confidence `[S, B]`; 0 where all priors are."""
    allowed = (priors > 0)[:, :, None]
    has_source = jnp.any(allowed, axis=1, keepdims=True)
    scores = jnp.log(jnp.where(priors > 0, priors, 1.0))[:, :, None] + log_confidences[None]
    # A softmax of minus infinities alone is NaN, and so is its gradient, even where the result is not selected.
    scores = jnp.where(has_source, jnp.where(allowed, scores, -jnp.inf), 0.0)
    return jnp.where(has_source, jax.nn.softmax(scores, axis=1), 0.0)


def _soft(logits: chex.Array, targets: chex.Array, temperature: chex.Numeric) -> chex.Array:
    return jax.vmap(lambda values, target: soft_cross_entropy(values, target, temperature=temperature))(logits, targets)

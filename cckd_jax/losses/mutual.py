"""Students that teach each other with one fixed loss for every sample: DML (arXiv:1706.00384) and KDCL (CVPR 2020).

Logits are `[K, B, C]`, those of K students. Every student learns the label, and its target is the other students or a
combination of all. Targets are constant: no gradient of a student's loss flows into another student.
"""

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_hyperparameters, check_sources, class_indices
from cckd_jax.losses.distillation import cross_entropy
from cckd_jax.losses.divergence import kl_divergence

# After 24 halvings the interval is as narrow as float32 resolves in [0, 1].
_HALVINGS = 24


def dml(
    logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 1.0,
    soft_weight: chex.Numeric = 1.0,
    hard_weight: chex.Numeric = 1.0,
) -> chex.Array:
    r"""Deep mutual learning: the label, and the mean divergence from the other students.

    $L_{ib} = \mu L_{CE}(y, \hat{y}_i)_b + \frac{\alpha}{K - 1} \sum_{j \ne i} \tau^2 \mathrm{KL}(p_j \| p_i)_b$

    The paper has tau = 1 and updates the students in turn; here all take their step at the same time. Its code sums
    over the other students without the factor 1 / (K - 1) of the paper, which is used here.

    Args:
      logits: float `[K, B, C]`, K >= 2.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau, in [0.001, 10000].
      soft_weight: alpha, in [0, 10000].
      hard_weight: mu, in [0, 10000].

    Returns:
      float32 `[K, B]`, in nats.

    Raises:
      InputError: a hyper-parameter or a label is out of range, or there is one student.

    Source: Zhang et al., arXiv:1706.00384, section on the extension to larger cohorts.

    >>> import jax.numpy as jnp
    >>> dml(jnp.log(jnp.array([[[3.0, 1.0]], [[1.0, 1.0]]])), jnp.array([0])).tolist()
    [[0.4315], [0.8239]]
    """
    check_sources(logits)
    check_hyperparameters(temperature=temperature, soft_weight=soft_weight, hard_weight=hard_weight)
    targets = jax.lax.stop_gradient(logits)

    def student(values: chex.Array) -> chex.Array:
        divergences = jax.vmap(lambda target: kl_divergence(values, target, temperature=temperature))(targets)
        # A student does not diverge from itself, so the sum over all is that over the others.
        soft = temperature**2 * jnp.sum(divergences, axis=0) / (len(logits) - 1)
        return hard_weight * cross_entropy(values, labels) + soft_weight * soft

    return jax.vmap(student)(logits)


def kdcl(
    logits: chex.Array,
    target_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 2.0,
    soft_weight: chex.Numeric = 1.0,
    hard_weight: chex.Numeric = 1.0,
) -> chex.Array:
    r"""Knowledge distillation via collaborative learning: the label, and one target for all students.

    $L_{ib} = \mu L_{CE}(y, \hat{y}_i)_b + \lambda \tau^2 \mathrm{KL}(p_t \| p_i)_b$, the divergence at temperature tau.

    Args:
      logits: float `[K, B, C]`, K >= 2.
      target_logits: float `[B, C]`, of `kdcl_naive`, `kdcl_minlogit` or `kdcl_linear`; no gradient flows into them.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau, in [0.001, 10000]. Sources differ on the paper's value: 2, or 4 on ImageNet.
      soft_weight: lambda, in [0, 10000].
      hard_weight: mu, in [0, 10000].

    Returns:
      float32 `[K, B]`, in nats.

    Raises:
      InputError: a hyper-parameter or a label is out of range, or there is one student.

    Source: Guo et al., Online knowledge distillation via collaborative learning, CVPR 2020, from descriptions of
    others: there is no official code.

    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([[[3.0, 1.0]], [[1.0, 1.0]]]))
    >>> kdcl(logits, kdcl_naive(logits, jnp.array([0])), jnp.array([0]), temperature=1.0).tolist()
    [[0.2877], [0.8239]]
    """
    check_sources(logits)
    check_hyperparameters(temperature=temperature, soft_weight=soft_weight, hard_weight=hard_weight)
    target = jax.lax.stop_gradient(target_logits)

    def student(values: chex.Array) -> chex.Array:
        soft = temperature**2 * kl_divergence(values, target, temperature=temperature)
        return hard_weight * cross_entropy(values, labels) + soft_weight * soft

    return jax.vmap(student)(logits)


def kdcl_naive(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""The target of KDCL-Naive: for every sample the logits of the student with the smallest cross entropy.

    Args:
      logits: float `[K, B, C]`, K >= 2.
      labels: int `[B]`, in `[0, C)`.

    Returns:
      float32 `[B, C]`.

    Raises:
      InputError: a label is out of range, or there is one student.

    Source: Guo et al., CVPR 2020.

    >>> import jax.numpy as jnp
    >>> kdcl_naive(jnp.array([[[2.0, 0.0]], [[0.0, 1.0]]]), jnp.array([1])).tolist()
    [[0.0, 1.0]]
    """
    check_sources(logits)
    best = jnp.argmin(jax.vmap(lambda values: cross_entropy(values, labels))(logits), axis=0)
    return jnp.take_along_axis(logits.astype(jnp.float32), best[None, :, None], axis=0)[0]


def kdcl_minlogit(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""The target of KDCL-MinLogit: relative to the label, every logit is as small as any student has it.

    $z_{t,bc} = \min_i (z_{ibc} - z_{i b y_b})$. Its cross entropy is at most that of the best student.

    Args:
      logits: float `[K, B, C]`, K >= 2.
      labels: int `[B]`, in `[0, C)`.

    Returns:
      float32 `[B, C]`, 0 at the label.

    Raises:
      InputError: a label is out of range, or there is one student.

    Source: Guo et al., CVPR 2020.

    >>> import jax.numpy as jnp
    >>> kdcl_minlogit(jnp.array([[[2.0, 0.0, 1.0]], [[0.0, 1.0, 3.0]]]), jnp.array([1])).tolist()
    [[-1.0, 0.0, 1.0]]
    """
    check_sources(logits)
    return jnp.min(_relative_to_label(logits, labels), axis=0)


def kdcl_linear(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""The target of KDCL-Linear: the convex combination of the students' logits with the smallest cross entropy.

    $z_t = \sum_i a_i z_i$ with $a = \arg\min_a L_{CE}(y, \sum_i a_i z_i)$, $a_i \ge 0$ and $\sum_i a_i = 1$, for every
    sample on its own. The problem is convex. Each step moves weight from the worst student that has some to the best
    one, as far as the loss falls. With two students one step is exact; with three or more the result is approximate,
    after 4 K steps.

    Args:
      logits: float `[K, B, C]`, K >= 2.
      labels: int `[B]`, in `[0, C)`.

    Returns:
      float32 `[B, C]`, relative to the label's logit.

    Raises:
      InputError: a label is out of range, or there is one student.

    Source: Guo et al., CVPR 2020. One combination for each sample, and not for a batch, is our interpretation.

    >>> import jax.numpy as jnp
    >>> kdcl_linear(jnp.array([[[0.0, 2.0, 0.0]], [[2.0, 0.0, 0.0]]]), jnp.array([2])).tolist()
    [[1.0, 1.0, 0.0]]
    """
    check_sources(logits)
    shifted = jax.lax.stop_gradient(_relative_to_label(logits, labels))
    (students, examples, _) = shifted.shape

    def move(_: int, weights: chex.Array) -> chex.Array:
        mixed = jnp.sum(weights[..., None] * shifted, axis=0)
        slopes = jnp.sum(jax.nn.softmax(mixed)[None] * shifted, axis=-1)
        worst = jnp.argmax(jnp.where(weights > 0, slopes, -jnp.inf), axis=0)
        direction = _one_hot(jnp.argmin(slopes, axis=0), students) - _one_hot(worst, students)
        along = jnp.sum(direction[..., None] * shifted, axis=0)
        room = jnp.take_along_axis(weights, worst[None], axis=0)[0]
        return jnp.maximum(weights + direction * _line_search(mixed, along, room)[None], 0.0)

    weights = jax.lax.fori_loop(
        0, 1 if students == 2 else 4 * students, move, jnp.full((students, examples), 1 / students)
    )
    return jnp.sum(weights[..., None] * shifted, axis=0)


def _line_search(start: chex.Array, along: chex.Array, room: chex.Array) -> chex.Array:
    """The step `[B]` in [0, room] with the smallest logsumexp of `start + step * along`, of `[B, C]`, by bisection."""

    def halve(_: int, bounds: tuple[chex.Array, chex.Array]) -> tuple[chex.Array, chex.Array]:
        (low, high) = bounds
        middle = (low + high) / 2
        falls = jnp.sum(jax.nn.softmax(start + middle[:, None] * along) * along, axis=-1) < 0
        return jnp.where(falls, middle, low), jnp.where(falls, high, middle)

    (low, high) = jax.lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(room), room))
    # At the ends of the interval bisection never arrives.
    return jnp.where(high >= room, room, jnp.where(low <= 0, 0.0, (low + high) / 2))


def _relative_to_label(logits: chex.Array, labels: chex.Array) -> chex.Array:
    """Logits `[K, B, C]` minus that of the label."""
    indices = class_indices(labels, logits[0])
    logits = logits.astype(jnp.float32)
    return logits - jnp.take_along_axis(logits, indices[None, :, None], axis=-1)


def _one_hot(indices: chex.Array, students: int) -> chex.Array:
    """Float32 `[K, B]`, 1 at the student `[B]`."""
    return jnp.moveaxis(jax.nn.one_hot(indices, students), -1, 0)

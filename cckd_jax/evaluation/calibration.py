"""Is a network as often right as it is sure?"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_labels, check_logits
from cckd_jax.errors import InputError
from cckd_jax.losses import cross_entropy


class Reliability(NamedTuple):
    """A reliability diagram: examples by how sure the network is of its choice, each `[bins]` but for the edges.

    Attributes:
      edges: `[bins + 1]`, from 0 to 1; bin m holds confidences in `(edges[m], edges[m + 1]]`.
      count: int, how many examples.
      confidence: their mean confidence; NaN where there are none.
      accuracy: the share that is right; NaN where there are none.
    """

    edges: chex.Array
    count: chex.Array
    confidence: chex.Array
    accuracy: chex.Array


def reliability(logits: chex.Array, labels: chex.Array, *, bins: int = 15) -> Reliability:
    r"""The data of a reliability diagram, over bins of equal width.

    Args:
      logits: float `[N, C]`, N > 0.
      labels: int `[N]`, in `[0, C)`.
      bins: >= 1.

    Returns:
      `Reliability`.

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: no examples, or no bins.

    Source: Guo et al. (arXiv:1706.04599), section 2.

    >>> diagram = reliability(jnp.log(jnp.array([[0.9, 0.1], [0.3, 0.7]])), jnp.array([0, 0]), bins=4)
    >>> diagram.count.tolist(), diagram.accuracy.tolist()
    ([0, 0, 1, 1], [nan, nan, 0.0, 1.0])
    """
    (confidence, right) = _confidence(logits, labels, bins)
    edges = jnp.linspace(0.0, 1.0, bins + 1)
    place = jnp.clip(jnp.searchsorted(edges, confidence, side='left') - 1, 0, bins - 1)
    (count, sure, correct) = _sums(place, confidence, right, bins)
    empty = count == 0
    mean = lambda total: jnp.where(empty, jnp.nan, total / jnp.maximum(count, 1))
    return Reliability(edges, count, mean(sure), mean(correct))


def expected_calibration_error(logits: chex.Array, labels: chex.Array, *, bins: int = 15) -> chex.Array:
    r"""Mean distance of accuracy from confidence, over bins of equal width (ECE).

    $\sum_m \frac{|B_m|}{N} |acc(B_m) - conf(B_m)|$, confidence that of the chosen class, bins $((m-1)/M, m/M]$.

    Args:
      logits: float `[N, C]`, N > 0.
      labels: int `[N]`, in `[0, C)`.
      bins: M >= 1.

    Returns:
      float32 scalar, in [0, 1].

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: no examples, or no bins.

    Source: equation 3 of Guo et al. (arXiv:1706.04599), after Naeini et al. (2015).

    >>> round(expected_calibration_error(jnp.log(jnp.array([[0.9, 0.1], [0.3, 0.7]])), jnp.array([0, 0])).item(), 4)
    0.4
    """
    diagram = reliability(logits, labels, bins=bins)
    distance = jnp.where(diagram.count == 0, 0.0, jnp.abs(diagram.accuracy - diagram.confidence))
    return jnp.sum(diagram.count * distance) / len(labels)


def adaptive_calibration_error(logits: chex.Array, labels: chex.Array, *, bins: int = 15) -> chex.Array:
    r"""ECE over bins that hold equally many examples, which a saturated network does not crowd into one.

    Example i is in bin $\lfloor M\, |\{j : conf_j < conf_i\}| / N \rfloor$; equal confidences share a bin, so the order
    of the examples does not matter.

    Args:
      logits: float `[N, C]`, N > 0.
      labels: int `[N]`, in `[0, C)`.
      bins: M >= 1.

    Returns:
      float32 scalar, in [0, 1].

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: no examples, or no bins.

    Source: Nguyen and O'Connor (arXiv:1508.05154), section 4.1; of the chosen class alone, as ECE; the ties are ours.

    >>> probabilities = jnp.array([[0.9, 0.1], [0.3, 0.7]])
    >>> round(adaptive_calibration_error(jnp.log(probabilities), jnp.array([0, 0]), bins=1).item(), 4)
    0.3
    """
    (confidence, right) = _confidence(logits, labels, bins)
    below = jnp.searchsorted(jnp.sort(confidence), confidence, side='left')
    (_, sure, correct) = _sums(below * bins // len(labels), confidence, right, bins)
    return jnp.sum(jnp.abs(correct - sure)) / len(labels)


def negative_log_likelihood(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""Mean cross entropy with the label, $-\frac{1}{N} \sum_i \log p_{i, y_i}$.

    Args:
      logits: float `[N, C]`, N > 0.
      labels: int `[N]`, in `[0, C)`.

    Returns:
      float32 scalar, in nats.

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: no examples.

    Source: Guo et al. (arXiv:1706.04599), section 2.

    >>> negative_log_likelihood(jnp.zeros((2, 4)), jnp.array([0, 3])).item()
    1.3863
    """
    _confidence(logits, labels)
    return jnp.mean(cross_entropy(logits, labels))


def brier_score(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""Mean squared distance of the probabilities from the label, $\frac{1}{N} \sum_i \|p_i - y_i\|_2^2$.

    Args:
      logits: float `[N, C]`, N > 0.
      labels: int `[N]`, in `[0, C)`.

    Returns:
      float32 scalar, in [0, 2].

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: no examples.

    Source: Brier, Monthly Weather Review 78 (1950), equation 2.

    >>> brier_score(jnp.zeros((2, 4)), jnp.array([0, 3])).item()
    0.75
    """
    _confidence(logits, labels)
    label = jax.nn.one_hot(labels.astype(jnp.int32), logits.shape[-1])
    return jnp.mean(jnp.sum(jnp.square(jax.nn.softmax(logits.astype(jnp.float32)) - label), -1))


def _confidence(logits: chex.Array, labels: chex.Array, bins: int = 1) -> tuple[chex.Array, chex.Array]:
    check_logits(logits)
    check_labels(labels, logits)
    if not len(labels):
        raise InputError('there is no calibration of no examples: give at least one')
    if bins < 1:
        raise InputError(f'bins must be 1 or above, not {bins}')
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    return probabilities.max(-1), jnp.argmax(logits, -1) == labels


def _sums(place: chex.Array, confidence: chex.Array, right: chex.Array, bins: int) -> list[chex.Array]:
    """How many examples each bin holds, how sure they are in total, and how many are right."""
    rows = (jnp.ones_like(place), confidence, right.astype(jnp.float32))
    return [jax.ops.segment_sum(values, place, bins) for values in rows]

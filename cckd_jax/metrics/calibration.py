"""Calibration: does a network's confidence match its accuracy?"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_labels, check_logits
from cckd_jax.errors import InputError
from cckd_jax.losses import cross_entropy


class Reliability(NamedTuple):
    """A reliability diagram: examples binned by confidence. All `[bins]`, except the edges.

    Attributes:
      edges: `[bins + 1]`, from 0 to 1; bin m holds confidences in `(edges[m], edges[m + 1]]`.
      count: int, number of examples.
      confidence: mean confidence; NaN in an empty bin.
      accuracy: fraction of correct predictions; NaN in an empty bin.
    """

    edges: chex.Array
    count: chex.Array
    confidence: chex.Array
    accuracy: chex.Array


def reliability(logits: chex.Array, labels: chex.Array, *, bins: int = 15) -> Reliability:
    r"""The data of a reliability diagram, with bins of equal width.

    Args:
      logits: float `[N, C]`, N > 0.
      labels: int `[N]`, in `[0, C)`.
      bins: >= 1.

    Returns:
      `Reliability`.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: there are no examples, or no bins.

    Source: Guo et al. (arXiv:1706.04599), section 2.

    >>> diagram = reliability(jnp.log(jnp.array([[0.9, 0.1], [0.3, 0.7]])), jnp.array([0, 0]), bins=4)
    >>> diagram.count.tolist(), diagram.accuracy.tolist()
    ([0, 0, 1, 1], [nan, nan, 0.0, 1.0])
    """
    _check(logits, labels, bins)
    confidence, is_correct = _confidence(logits, labels)
    edges = jnp.linspace(0.0, 1.0, bins + 1)
    bin_index = jnp.clip(jnp.searchsorted(edges, confidence, side='left') - 1, 0, bins - 1)
    count, confidence_sum, correct_sum = _bin_sums(bin_index, confidence, is_correct, bins)
    mean = lambda total: jnp.where(count == 0, jnp.nan, total / jnp.maximum(count, 1))
    return Reliability(edges, count, mean(confidence_sum), mean(correct_sum))


def expected_calibration_error(logits: chex.Array, labels: chex.Array, *, bins: int = 15) -> chex.Array:
    r"""Expected calibration error (ECE): mean gap between accuracy and confidence, over bins of equal width.

    $\sum_m \frac{|B_m|}{N} |acc(B_m) - conf(B_m)|$, where the confidence is the probability of the predicted class and
    bin m is $((m-1)/M, m/M]$.

    Args:
      logits: float `[N, C]`, N > 0.
      labels: int `[N]`, in `[0, C)`.
      bins: M >= 1.

    Returns:
      float32 scalar, in [0, 1].

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: there are no examples, or no bins.

    Source: equation 3 of Guo et al. (arXiv:1706.04599), after Naeini et al. (2015).

    >>> round(expected_calibration_error(jnp.log(jnp.array([[0.9, 0.1], [0.3, 0.7]])), jnp.array([0, 0])).item(), 4)
    0.4
    """
    diagram = reliability(logits, labels, bins=bins)
    gap = jnp.where(diagram.count == 0, 0.0, jnp.abs(diagram.accuracy - diagram.confidence))
    return jnp.sum(diagram.count * gap) / len(labels)


def adaptive_calibration_error(logits: chex.Array, labels: chex.Array, *, bins: int = 15) -> chex.Array:
    r"""ECE over bins with equal numbers of examples, which also resolves very confident networks.

    Example i is in bin $\lfloor M\, |\{j : conf_j < conf_i\}| / N \rfloor$. Equal confidences share a bin, so the order
    of the examples does not matter.

    Args:
      logits: float `[N, C]`, N > 0.
      labels: int `[N]`, in `[0, C)`.
      bins: M >= 1.

    Returns:
      float32 scalar, in [0, 1].

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: there are no examples, or no bins.

    Source: Nguyen and O'Connor (arXiv:1508.05154), section 4.1, for the predicted class only, as in ECE; the treatment
    of ties is ours.

    >>> probabilities = jnp.array([[0.9, 0.1], [0.3, 0.7]])
    >>> round(adaptive_calibration_error(jnp.log(probabilities), jnp.array([0, 0]), bins=1).item(), 4)
    0.3
    """
    _check(logits, labels, bins)
    confidence, is_correct = _confidence(logits, labels)
    rank = jnp.searchsorted(jnp.sort(confidence), confidence, side='left')
    _, confidence_sum, correct_sum = _bin_sums(rank * bins // len(labels), confidence, is_correct, bins)
    return jnp.sum(jnp.abs(correct_sum - confidence_sum)) / len(labels)


def negative_log_likelihood(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""Mean cross entropy with the label, $-\frac{1}{N} \sum_i \log p_{i, y_i}$.

    Args:
      logits: float `[N, C]`, N > 0.
      labels: int `[N]`, in `[0, C)`.

    Returns:
      float32 scalar, in nats.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: there are no examples.

    Source: Guo et al. (arXiv:1706.04599), section 2.

    >>> negative_log_likelihood(jnp.zeros((2, 4)), jnp.array([0, 3])).item()
    1.3863
    """
    _check(logits, labels)
    return jnp.mean(cross_entropy(logits, labels))


def brier_score(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""Mean squared distance between probabilities and one-hot label, $\frac{1}{N} \sum_i \|p_i - y_i\|_2^2$.

    Args:
      logits: float `[N, C]`, N > 0.
      labels: int `[N]`, in `[0, C)`.

    Returns:
      float32 scalar, in [0, 2].

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: there are no examples.

    Source: Brier, Monthly Weather Review 78 (1950), equation 2.

    >>> brier_score(jnp.zeros((2, 4)), jnp.array([0, 3])).item()
    0.75
    """
    _check(logits, labels)
    # `one_hot` counts classes in the type of the labels, and 8 bits do not hold 300.
    targets = jax.nn.one_hot(labels.astype(jnp.int32), logits.shape[-1])
    return jnp.mean(jnp.sum(jnp.square(jax.nn.softmax(logits.astype(jnp.float32)) - targets), -1))


def _check(logits: chex.Array, labels: chex.Array, bins: int = 1) -> None:
    check_logits(logits)
    check_labels(labels, logits)
    if not len(labels):
        raise InputError('calibration is undefined for no examples: pass at least one')
    if bins < 1:
        raise InputError(f'bins must be 1 or above, not {bins}')


def _confidence(logits: chex.Array, labels: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Probability of the predicted class, and whether that class is the label."""
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    return probabilities.max(-1), jnp.argmax(logits, -1) == labels


def _bin_sums(bin_index: chex.Array, confidence: chex.Array, is_correct: chex.Array, bins: int) -> list[chex.Array]:
    """Number of examples, sum of confidences and number of correct predictions in each bin."""
    columns = (jnp.ones_like(bin_index), confidence, is_correct.astype(jnp.float32))
    return [jax.ops.segment_sum(values, bin_index, bins) for values in columns]

"""Which samples train, and with what weight.

Self-regulation drops a sample once the model classifies it correctly with enough margin, the difference of the two
largest probabilities; the threshold rises with the epoch. Significance is the number of epochs in which a sample took
part while a teacher trained with this gate.

Sources: Mishra and Sundaram, arXiv:2107.06993, section 3.4 and Algorithm 1, and arXiv:2102.07125 by the same authors.
Only the abstract of arXiv:2102.07125 was available; `significance` is our interpretation.
"""

from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.checks import check_hyperparameters, check_logits, class_indices
from cckd_jax.errors import InputError, lookup


def margin(logits: chex.Array, *, temperature: chex.Numeric = 20.0) -> chex.Array:
    r"""The largest probability minus the second largest.

    $\delta_b = p_{(1)} - p_{(2)}$ with $p = \mathrm{softmax}(z / \tau)$. A logit gap of 15 among ten classes is a
    margin of 0.10 at tau = 20, and of 1.00 at tau = 1. Algorithm 1 of the paper computes it from y_S, which is at tau.

    Args:
      logits: float `[B, C]`, C >= 2.
      temperature: tau, in [0.001, 10000].

    Returns:
      float32 `[B]`, in [0, 1].

    Raises:
      InputError: the temperature is out of range, or there are fewer than two classes.

    Source: section 3.4 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> margin(jnp.log(jnp.array([[0.125, 0.25, 0.625]])), temperature=1.0).tolist()
    [0.375]
    """
    check_logits(logits)
    check_hyperparameters(temperature=temperature)
    if logits.shape[-1] < 2:
        raise InputError(f'a margin needs at least two classes, not {logits.shape[-1]}')
    probabilities = jax.nn.softmax(logits.astype(jnp.float32) / temperature)
    (first, second) = jnp.moveaxis(jax.lax.top_k(probabilities, 2)[0], -1, 0)
    return first - second


def threshold(epoch: chex.Numeric, *, alpha: chex.Numeric) -> chex.Array:
    r"""The margin at which a sample is dropped in an epoch.

    $\eta = 1 - \exp(-\alpha n)$. (Algorithm 1 prints the exponent without its sign; the text has it.)

    Args:
      epoch: n, counted from 0; may be traced.
      alpha: rate of self-regulation, in [0, 10000].

    Returns:
      float32 scalar in [0, 1].

    Raises:
      InputError: alpha is out of range.

    Source: section 3.4 of CCKD (arXiv:2107.06993).

    >>> [round(float(threshold(epoch, alpha=0.01)), 4) for epoch in (0, 100, 199)]
    [0.0, 0.6321, 0.8633]
    """
    check_hyperparameters(alpha=alpha)
    return -jnp.expm1(-alpha * jnp.asarray(epoch, jnp.float32))


def self_regulate(
    logits: chex.Array,
    labels: chex.Array,
    epoch: chex.Numeric,
    *,
    alpha: chex.Numeric,
    temperature: chex.Numeric = 20.0,
) -> chex.Array:
    r"""Keeps samples that are misclassified, or classified with a margin below the threshold.

    $m_b = [\arg\max z_b \neq y_b] \lor [\delta_b < \eta]$

    The predicted class is the first of the largest logits. In bfloat16 and float16, logits that float32 tells apart can
    be equal, so the dtype of the logits can decide whether a sample counts as misclassified.

    Args:
      logits: float `[B, C]` of the model in training.
      labels: int `[B]`, in `[0, C)`.
      epoch: n, counted from 0; may be traced.
      alpha: rate of self-regulation, in [0, 10000]. At 0 only misclassified samples are kept.
      temperature: temperature of the margin, in [0.001, 10000].

    Returns:
      bool `[B]`, true for samples that train.

    Raises:
      InputError: a hyper-parameter or a label is out of range.

    Source: Algorithm 1, line 9, of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[9.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> self_regulate(logits, jnp.array([0, 0, 0]), 100, alpha=0.01, temperature=1.0).tolist()
    [False, True, True]
    """
    misclassified = jnp.argmax(logits, axis=-1) != class_indices(labels, logits)
    return misclassified | (margin(logits, temperature=temperature) < threshold(epoch, alpha=alpha))


def next_visit(
    logits: chex.Array,
    epoch: chex.Numeric,
    *,
    alpha: chex.Numeric,
    longest_rest: int,
    temperature: chex.Numeric = 20.0,
) -> chex.Array:
    r"""The epoch of a dropped sample's next forward pass.

    $\min(n + 1 + r, \min\{n' > n : 1 - \exp(-\alpha n') > \delta_b\})$: the first epoch whose threshold exceeds the
    present margin, but no more than r epochs are skipped. In between, the gate cannot notice that the model has become
    less certain of the sample. This trade of accuracy for time is not from the paper.

    Args:
      logits: float `[B, C]` of the model in training.
      epoch: n, counted from 0; may be traced.
      alpha: rate of self-regulation, in [0, 10000]. At 0 the threshold never exceeds a margin.
      longest_rest: r, the largest number of skipped epochs, a whole number from 0 to 2^31 - 1.
      temperature: temperature of the margin, in [0.001, 10000].

    Returns:
      int32 `[B]`, above `epoch`.

    Raises:
      InputError: a hyper-parameter is out of range.

    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([[0.125, 0.25, 0.625], [0.4, 0.4, 0.2], [0.01, 0.01, 0.98]]))
    >>> next_visit(logits, 3, alpha=0.1, longest_rest=5, temperature=1.0).tolist()
    [5, 4, 9]
    """
    check_hyperparameters(alpha=alpha, longest_rest=longest_rest)
    # Epochs saturate at 2^30, so that sums of two of them fit into int32.
    reached = -jnp.log1p(-margin(logits, temperature=temperature)) / jnp.maximum(alpha, 1e-30)
    visit = jnp.minimum(reached, 2.0**30).astype(jnp.int32) + 1
    return jnp.clip(visit, epoch + 1, epoch + 1 + jnp.minimum(longest_rest, 2**30))


NORMALIZATIONS: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = {
    'epochs': lambda counts, epochs: counts / epochs,
    'max': lambda counts, epochs: counts / counts.max(),
    'mean_one': lambda counts, epochs: counts * (len(counts) / counts.sum()),
}


def significance(counts: chex.Array, *, epochs: int, normalization: str = 'epochs') -> np.ndarray:
    r"""The weight of each sample, from its number of epochs in a teacher's self-regulated training.

    With $c_i$ the count of sample i, N the epochs and |D| the samples:

    `epochs`: $s_i = c_i / N$. `max`: $s_i = c_i / \max_j c_j$. `mean_one`: $s_i = c_i |D| / \sum_j c_j$.

    They differ by a constant factor, which hardly matters under Adam. Computed on the host, once.

    Args:
      counts: int `[N]`, from 0 to `epochs`.
      epochs: the number of epochs counted, > 0.
      normalization: a key of `NORMALIZATIONS`.

    Returns:
      float32 `[N]`, >= 0; zero where the count is zero.

    Raises:
      InputError: the normalization is unknown, or the counts are not ints `[N]` in that range, or all are zero.

    Source: the abstract of arXiv:2102.07125 defines significance as the number of times a sample takes part. The
    normalization is our interpretation; the fraction of epochs is the default.

    >>> significance([0, 1, 4], epochs=4).tolist()
    [0.0, 0.25, 1.0]
    """
    normalize = lookup(NORMALIZATIONS, normalization, 'normalization of significance')
    counts = np.asarray(counts)
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer):
        raise InputError(f'counts of significance must be ints [N], not {counts.dtype} {list(counts.shape)}')
    if not counts.any():
        raise InputError(
            f'all {len(counts)} counts of significance are zero, so no sample would train; '
            'count again with a larger alpha or more epochs'
        )
    if counts.min() < 0 or counts.max() > epochs:
        raise InputError(
            f'counts of significance must be from 0 to the {epochs} epochs that were counted; '
            f'they are from {counts.min()} to {counts.max()}'
        )
    return normalize(counts, epochs).astype(np.float32)

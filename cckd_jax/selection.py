"""Who takes part, and with what weight.

Self-regulation lets a sample rest once the model is right about it and sure enough: once the margin between its two
largest probabilities has reached a threshold that rises with the epoch. How often a sample took part while a teacher
trained so is its significance. Sources: Mishra and Sundaram, arXiv:2107.06993, section 3.4 and Algorithm 1; the same
authors, arXiv:2102.07125, of which the abstract alone could be had.
"""

from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.checks import check_labels, check_logits, check_non_negative, check_positive
from cckd_jax.errors import InputError, lookup


def margin(logits: chex.Array, *, temperature: chex.Numeric = 20.0) -> chex.Array:
    r"""The largest probability less the second largest.

    $\delta_b = p_{(1)} - p_{(2)}$ of $p = \mathrm{softmax}(z / \tau)$. At tau = 20 a logit gap of 15 among ten classes
    is a margin of 0.10, at tau = 1 one of 1.00; the paper's Algorithm 1 takes it from y_S, that is at tau.

    Args:
      logits: float `[B, C]`, C >= 2.
      temperature: tau > 0.

    Returns:
      float32 `[B]`, in [0, 1].

    Raises:
      AssertionError: shape or type is wrong.
      ValueError: the temperature is not above 0, or there are fewer than two classes.

    Source: section 3.4 of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> margin(jnp.log(jnp.array([[0.125, 0.25, 0.625]])), temperature=1.0).tolist()
    [0.375]
    """
    check_logits(logits)
    check_positive(temperature=temperature)
    if logits.shape[-1] < 2:
        raise ValueError(f'a margin needs at least two classes, not {logits.shape[-1]}')
    probabilities = jax.nn.softmax(logits.astype(jnp.float32) / temperature)
    (first, second) = jnp.moveaxis(jax.lax.top_k(probabilities, 2)[0], -1, 0)
    return first - second


def threshold(epoch: chex.Numeric, *, alpha: chex.Numeric) -> chex.Array:
    r"""The margin that a sample must reach in an epoch to be left out.

    $\eta = 1 - \exp(-\alpha n)$. (Algorithm 1 prints the exponent without its sign; the text has it.)

    Args:
      epoch: n, counted from 0; may be traced.
      alpha: rate of self-regulation, >= 0.

    Returns:
      float32 scalar in [0, 1).

    Raises:
      ValueError: alpha is below 0.

    Source: section 3.4 of CCKD (arXiv:2107.06993).

    >>> [round(float(threshold(epoch, alpha=0.01)), 4) for epoch in (0, 100, 199)]
    [0.0, 0.6321, 0.8633]
    """
    check_non_negative(alpha=alpha)
    return -jnp.expm1(-alpha * jnp.asarray(epoch, jnp.float32))


def self_regulate(
    logits: chex.Array,
    labels: chex.Array,
    epoch: chex.Numeric,
    *,
    alpha: chex.Numeric,
    temperature: chex.Numeric = 20.0,
) -> chex.Array:
    r"""Keeps the samples that are misclassified, or right with too small a margin.

    $m_b = [\arg\max z_b \neq y_b] \lor [\delta_b < \eta]$

    Args:
      logits: float `[B, C]` of the model in training.
      labels: int `[B]`, in `[0, C)`.
      epoch: n, counted from 0; may be traced.
      alpha: rate of self-regulation, >= 0. At 0 only the misclassified are kept.
      temperature: temperature of the margin, > 0.

    Returns:
      bool `[B]`, true where the sample takes part.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: the temperature is not above 0, or alpha is below 0.

    Source: Algorithm 1, line 9, of CCKD (arXiv:2107.06993).

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[9.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> self_regulate(logits, jnp.array([0, 0, 0]), 100, alpha=0.01, temperature=1.0).tolist()
    [False, True, True]
    """
    check_labels(labels, logits)
    wrong = jnp.argmax(logits, axis=-1) != labels
    return wrong | (margin(logits, temperature=temperature) < threshold(epoch, alpha=alpha))


def next_look(
    logits: chex.Array,
    epoch: chex.Numeric,
    *,
    alpha: chex.Numeric,
    longest_rest: int,
    temperature: chex.Numeric = 20.0,
) -> chex.Array:
    r"""The first epoch whose threshold exceeds the present margin, or the one after the longest rest.

    $\min(n + 1 + r, \min\{n' > n : 1 - \exp(-\alpha n') > \delta_b\})$. Until then a sample that the model is right
    about would be kept only if the model had become less sure of it, which goes unseen: a trade of accuracy for time,
    and this project's own.

    Args:
      logits: float `[B, C]` of the model in training.
      epoch: n, counted from 0; may be traced.
      alpha: rate of self-regulation, >= 0. At 0 the threshold reaches no margin.
      longest_rest: r >= 0, the most epochs without a look; 0 looks in every epoch.
      temperature: temperature of the margin, > 0.

    Returns:
      int32 `[B]`, above `epoch`.

    Raises:
      ValueError: alpha or the longest rest is below 0, or the temperature is not above 0.

    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([[0.125, 0.25, 0.625], [0.4, 0.4, 0.2], [0.01, 0.01, 0.98]]))
    >>> next_look(logits, 3, alpha=0.1, longest_rest=5, temperature=1.0).tolist()
    [5, 4, 9]
    """
    check_non_negative(alpha=alpha, longest_rest=longest_rest)
    reached = -jnp.log1p(-margin(logits, temperature=temperature)) / jnp.maximum(alpha, 1e-30)
    after = jnp.minimum(reached, 2.0**30).astype(jnp.int32) + 1
    return jnp.clip(after, epoch + 1, epoch + 1 + longest_rest)


NORMALIZATIONS: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = {
    'epochs': lambda counts, epochs: counts / epochs,
    'max': lambda counts, epochs: counts / counts.max(),
    'mean_one': lambda counts, epochs: counts * (len(counts) / counts.sum()),
}


def significance(counts: chex.Array, *, epochs: int, normalization: str = 'epochs') -> np.ndarray:
    r"""The weight of each sample, from how often it took part in a teacher's self-regulated training.

    With $c_i$ the count of sample i, N the epochs and |D| the samples:

    `epochs`: $s_i = c_i / N$. `max`: $s_i = c_i / \max_j c_j$. `mean_one`: $s_i = c_i |D| / \sum_j c_j$.

    They differ by a factor that all samples share, which hardly matters under Adam. Computed on the host, once.

    Args:
      counts: int `[N]`, from 0 to `epochs`.
      epochs: how many epochs were counted, > 0.
      normalization: a key of `NORMALIZATIONS`.

    Returns:
      float32 `[N]`, >= 0; zero where the count is zero.

    Raises:
      InputError: the normalisation is unknown, or the counts are not ints `[N]` in that range, or all are zero.

    Source: the abstract of arXiv:2102.07125 has significance as the number of times that a sample takes part; how it is
    normalised is not known. A reading of ours, with the share of epochs as the default.

    >>> significance([0, 1, 4], epochs=4).tolist()
    [0.0, 0.25, 1.0]
    """
    normalize = lookup(NORMALIZATIONS, normalization, 'normalization of significance')
    counts = np.asarray(counts)
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer):
        raise InputError(f'counts of significance must be ints [N], not {counts.dtype} {list(counts.shape)}')
    if not counts.any():
        raise InputError(
            f'all {len(counts)} counts of significance are zero, so no sample would be left to train on; '
            'raise the alpha or the epochs that they were counted with'
        )
    if counts.min() < 0 or counts.max() > epochs:
        raise InputError(
            f'counts of significance must be from 0 to the {epochs} epochs that were counted; '
            f'they are from {counts.min()} to {counts.max()}'
        )
    return normalize(counts, epochs).astype(np.float32)

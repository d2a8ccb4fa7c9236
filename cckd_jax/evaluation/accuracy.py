"""Which examples a network gets right, and what several networks say together."""

import numpy as np


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the largest logit is the label's: bool `[N]`, of logits `[N, C]` and labels int `[N]`.

    >>> correct(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([0, 0])).tolist()
    [True, False]
    """
    return logits.argmax(-1) == labels


def ensemble(logits: np.ndarray) -> np.ndarray:
    """Logits of K networks together: the logarithm of the mean of their probabilities, at temperature 1.

    Args:
      logits: float `[N, K, C]`.

    Returns:
      float `[N, C]`; those of the one network, up to a constant, where K = 1.

    >>> np.exp(ensemble(np.log([[[0.75, 0.25], [0.25, 0.75]]]))).tolist()
    [[0.5, 0.5]]
    """
    log_sum = lambda values, axis: np.logaddexp.reduce(values, axis=axis, keepdims=True)
    return log_sum(logits - log_sum(logits, -1), 1)[:, 0] - np.log(logits.shape[1])

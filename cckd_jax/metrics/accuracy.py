"""Correctness of predictions, and the combined prediction of several networks."""

import numpy as np
import scipy.special


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the predicted class is the label: bool `[N]` from logits `[N, C]` and labels int `[N]`.

    >>> correct(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([0, 0])).tolist()
    [True, False]
    """
    return logits.argmax(-1) == labels


def ensemble(logits: np.ndarray) -> np.ndarray:
    """Logits of an ensemble of K networks: the logarithm of their mean probabilities at temperature 1.

    Args:
      logits: float `[N, K, C]`.

    Returns:
      float `[N, C]`. With K = 1, the network's own logits up to a constant.

    >>> np.exp(ensemble(np.log([[[0.75, 0.25], [0.25, 0.75]]]))).tolist()
    [[0.5, 0.5]]
    """
    log_probabilities = scipy.special.log_softmax(logits, axis=-1)
    return scipy.special.logsumexp(log_probabilities, axis=1) - np.log(logits.shape[1])

"""Which examples a network gets right."""

import numpy as np


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the largest logit is the label's: bool `[N]`, of logits `[N, C]` and labels int `[N]`.

    >>> correct(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([0, 0])).tolist()
    [True, False]
    """
    return logits.argmax(-1) == labels

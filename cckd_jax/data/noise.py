"""Label noise."""

import zlib

import numpy as np

# Separates these draws from the order of epochs, in one of which the noisy examples would otherwise come first.
_STREAM = zlib.crc32(b'label noise')


def shuffled_labels(labels: np.ndarray, rate: float, *, seed: int) -> np.ndarray:
    """Permutes a fraction of the labels among the examples that they belong to.

    The class counts stay the same. Of C classes of equal size, about one in C shuffled labels is still correct.

    Args:
      labels: int `[N]`.
      rate: fraction of the labels to shuffle, in [0, 1].
      seed: of the choice and the permutation.

    Returns:
      int `[N]`, of the same dtype.

    >>> labels = np.arange(10)
    >>> int((shuffled_labels(labels, 0.5, seed=0) != labels).sum()) <= 5
    True
    """
    random = np.random.default_rng([seed, _STREAM])
    chosen = random.permutation(len(labels))[: round(rate * len(labels))]
    noisy = labels.copy()
    noisy[chosen] = labels[random.permutation(chosen)]
    return noisy

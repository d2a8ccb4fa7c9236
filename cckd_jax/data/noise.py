"""Labels that are wrong on purpose."""

import zlib

import numpy as np

# Apart from the seeds of the epochs' orders, in one of which the noisy examples would come first.
_PURPOSE = zlib.crc32(b'label noise')


def shuffled_labels(labels: np.ndarray, rate: float, *, seed: int) -> np.ndarray:
    """Labels of which a share is dealt out anew among the examples that it is drawn from.

    How often each class occurs stays as it was, and some of the shuffled labels are right by chance: of C classes alike
    in number, about one in C.

    Args:
      labels: int `[N]`.
      rate: share of the labels that are shuffled, in [0, 1].
      seed: decides which, and how.

    Returns:
      int `[N]`, of the same dtype.

    >>> labels = np.arange(10)
    >>> int((shuffled_labels(labels, 0.5, seed=0) != labels).sum()) <= 5
    True
    """
    random = np.random.default_rng([seed, _PURPOSE])
    chosen = random.permutation(len(labels))[: round(rate * len(labels))]
    noisy = labels.copy()
    noisy[chosen] = labels[random.permutation(chosen)]
    return noisy

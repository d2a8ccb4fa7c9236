"""Do two things about the examples of a set rise together?"""

import numpy as np


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    r"""Spearman's coefficient, ties at their mean rank.

    $\rho = \mathrm{corr}(\mathrm{rank}(a), \mathrm{rank}(b))$

    Args:
      first: `[N]`.
      second: `[N]`.

    Returns:
      A number in [-1, 1], or None where one of them is the same for all examples.

    Raises:
      ValueError: the shapes differ or are not `[N]`.

    Source: Spearman (1904), the textbook's.

    >>> round(rank_correlation(np.array([1, 2, 2, 9]), np.array([0.5, 0.7, 0.7, 0.1])), 3)
    -0.333
    """
    if np.shape(first) != np.shape(second) or np.ndim(first) != 1:
        raise ValueError(f'both must be [N]; they are {np.shape(first)} and {np.shape(second)}')
    (first, second) = (_ranks(values) for values in (first, second))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    (_, place, counts) = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]

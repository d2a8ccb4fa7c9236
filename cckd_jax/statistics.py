"""What a few numbers, one a seed, say about their mean."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
    """A mean of `count` numbers, and half the width of its 95 % confidence interval, or None where there is one."""

    mean: float
    half_width: float | None
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    r"""The mean and its 95 % confidence interval by Student's t, for independent normal numbers.

    $\bar{x} \pm t_{.975, n-1}\, s / \sqrt{n}$

    Args:
      values: at least one.

    Source: Student (1908), the textbook's.

    >>> estimate([1.0, 2.0, 3.0])
    Estimate(mean=2.0, half_width=2.484, count=3)
    """
    count = len(values)
    if count < 2:
        return Estimate(float(values[0]), None, count)
    error = np.std(values, ddof=1) / np.sqrt(count)
    return Estimate(float(np.mean(values)), float(stats.t.ppf(0.975, count - 1) * error), count)


def verdict(difference: Estimate) -> str:
    """What a difference's interval allows to be said.

    >>> verdict(Estimate(0.02, 0.01, 3)), verdict(Estimate(0.02, 0.03, 3))
    ('higher', 'not told apart')
    """
    if difference.half_width is None:
        return 'one seed: nothing can be said'
    if abs(difference.mean) <= difference.half_width:
        return 'not told apart'
    return 'higher' if difference.mean > 0 else 'lower'

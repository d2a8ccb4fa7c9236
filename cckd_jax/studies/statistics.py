"""Means over seeds, their 95 % confidence intervals, and paired differences."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The mean of `count` values and half the width of its 95 % confidence interval, None for a single value."""

    mean: float
    half_width: float | None
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    r"""Estimates the mean of independent, normally distributed values.

    The 95 % confidence interval is Student's, $\bar{x} \pm t_{.975, n-1}\, s / \sqrt{n}$.

    Args:
      values: at least one value.

    Returns:
      The mean, half the width of its interval, and the number of values.

    Source: Student (1908), in its textbook form.

    >>> estimate([1.0, 2.0, 3.0])
    Estimate(mean=2.0, half_width=2.484, count=3)
    """
    count = len(values)
    if count < 2:
        return Estimate(float(values[0]), None, count)
    error = np.std(values, ddof=1) / np.sqrt(count)
    return Estimate(float(np.mean(values)), float(stats.t.ppf(0.975, count - 1) * error), count)


def paired_difference(first: Mapping[int, float | None], second: Mapping[int, float | None]) -> Estimate | None:
    r"""Estimates the mean of `first - second` over the seeds that both have.

    Runs of one seed share their teacher and their initialisation, so the difference within a seed varies less than the
    difference of the means.

    Args:
      first: values by seed; None where a run has no value.
      second: values by seed, likewise.

    Returns:
      The estimate of the mean difference, or None if no seed has both values.

    >>> paired_difference({0: 0.9, 1: 0.8}, {0: 0.8, 1: 0.7, 2: 0.6})
    Estimate(mean=0.1, half_width=0.0, count=2)
    """
    pairs = [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]
    differences = [
        minuend - subtrahend for minuend, subtrahend in pairs if minuend is not None and subtrahend is not None
    ]
    return estimate(differences) if differences else None


def verdict(difference: Estimate) -> str:
    """Describes whether the 95 % confidence interval of a difference excludes zero.

    Args:
      difference: an estimate, for example of `paired_difference`.

    Returns:
      `higher`, `lower`, `not significant`, or `one seed: undecided`.

    >>> verdict(Estimate(0.02, 0.01, 3)), verdict(Estimate(0.02, 0.03, 3))
    ('higher', 'not significant')
    """
    if difference.half_width is None:
        return 'one seed: undecided'
    if abs(difference.mean) <= difference.half_width:
        return 'not significant'
    return 'higher' if difference.mean > 0 else 'lower'

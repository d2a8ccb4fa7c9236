"""Paired tests between methods that share their teacher and their seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from cckd_jax.report import markdown
from cckd_jax.studies.reproduction.records import Record, values
from cckd_jax.studies.statistics import Estimate, estimate

_PAIRS = (
    *((row, 'kd') for row in ('cckd_l', 'cckd_t', 'cckd_t_reg')),
    *((row, 'separate') for row in ('kd', 'cckd_l', 'cckd_t', 'cckd_t_reg')),
    *((row, 'separate_1e-2') for row in ('kd', 'cckd_l', 'cckd_t', 'cckd_t_reg')),
    ('cckd_t_reg', 'cckd_t'),
    ('teacher_only', 'kd'),
    ('separate_1e-2', 'separate'),
)
# Values that are shown in percentage points.
_MEASURES = {
    'accuracy': 'test accuracy',
    'success_rate': 'success rate',
    'failure_rate': 'failure rate',
    'adversarial_accuracy': 'accuracy on adversarial samples',
}
LEVEL = 0.05
_ROUNDING = 1e-9


class Comparison(NamedTuple):
    """The difference of two rows within seeds.

    Attributes:
      measure: key of a record.
      row: the minuend.
      against: the subtrahend.
      difference: mean with 95 % interval.
      p_value: of the paired t-test, adjusted for all comparisons of the data set; None if it is undefined.
    """

    measure: str
    row: str
    against: str
    difference: Estimate
    p_value: float | None

    @property
    def verdict(self) -> str:
        """`higher`, `lower` or `not significant` at the level of 5 %."""
        if self.p_value is None or self.p_value > LEVEL:
            return 'not significant'
        return 'higher' if self.difference.mean > 0 else 'lower'


def compare(records: Sequence[Record], dataset: str) -> list[Comparison]:
    """Compares methods on one data set by paired t-tests.

    The p-values of all comparisons are adjusted together with the procedure of Benjamini and Hochberg, which bounds the
    expected share of false discoveries by 5 %.

    Args:
      records: of `records.read`.
      dataset: key of the data set.

    Returns:
      A comparison for each pair of methods and each measure that share at least two seeds.
    """
    comparisons, raw = [], []
    for measure in _MEASURES:
        for row, against in _PAIRS:
            (first, second) = (values(records, dataset, name, measure) for name in (row, against))
            seeds = sorted(first.keys() & second.keys())
            if len(seeds) < 2:
                continue
            differences = np.array([first[seed] - second[seed] for seed in seeds])
            comparisons.append(Comparison(measure, row, against, estimate(list(differences)), None))
            # Without a spread, up to rounding, the statistic is undefined.
            varied = np.ptp(differences) > _ROUNDING
            raw.append(float(stats.ttest_1samp(differences, 0.0).pvalue) if varied else None)
    defined = [p_value for p_value in raw if p_value is not None]
    adjusted = iter(stats.false_discovery_control(defined) if defined else ())
    return [
        comparison if p_value is None else comparison._replace(p_value=float(next(adjusted)))
        for comparison, p_value in zip(comparisons, raw, strict=True)
    ]


def render(comparisons: Sequence[Comparison]) -> str:
    """Formats comparisons as Markdown, one table for each measure."""
    blocks = []
    for measure, title in _MEASURES.items():
        rows = [
            [
                f'{comparison.row} minus {comparison.against}',
                f'{100 * comparison.difference.mean:+.3f} ± {100 * (comparison.difference.half_width or 0):.3f}',
                f'{comparison.difference.count}',
                markdown.cell(comparison.p_value, '.3f', missing='undefined'),
                comparison.verdict,
            ]
            for comparison in comparisons
            if comparison.measure == measure
        ]
        if rows:
            header = [f'{title}, percentage points', 'difference within seeds', 'seeds', 'adjusted p', 'verdict']
            blocks.append(markdown.table(header, rows))
    return '\n\n'.join(blocks)

"""The study of distillation without the data as two short tables: accuracies by samples, and tested expectations."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cckd_jax.report import markdown
from cckd_jax.studies import figures
from cckd_jax.studies.statistics import Estimate, paired_difference, verdict

# Differences of accuracy within two points count as equal; our choice.
_MARGIN = 0.02
_MISSING = ''


class Expectation(NamedTuple):
    """A difference between two runs of a seed, and what we expect of it.

    Attributes:
      text: the expectation.
      first: samples, row and measure of the minuend.
      second: of the subtrahend.
      expected: `higher`, `lower` or `equal`.
    """

    text: str
    first: tuple[str, str, str]
    second: tuple[str, str, str]
    expected: str


def _accuracy(text: str, first: str, second: str, expected: str) -> Expectation:
    """An expectation about accuracies of `samples/row`."""
    (samples, row), (other_samples, other_row) = first.split('/'), second.split('/')
    return Expectation(text, (samples, row, 'test_accuracy'), (other_samples, other_row, 'test_accuracy'), expected)


_SYSTEMS = ('zskd', 'zskd_features', 'kegnet', 'dafl', 'metadata', 'fskd')
EXPECTATIONS = (
    *(
        _accuracy(f'`{system}` beats noise', f'{system}/teacher_only', 'noise/teacher_only', 'higher')
        for system in _SYSTEMS
    ),
    Expectation(
        'λ of impressions exceeds that of real images',
        ('zskd', 'cckd_t', 'confidence'),
        ('zskd', 'cckd_t', 'real_confidence'),
        'higher',
    ),
    _accuracy('CCKD-T loses by nominal labels of impressions', 'zskd/cckd_t', 'zskd/teacher_only', 'lower'),
    _accuracy('with soft labels it equals Teacher Only', 'zskd_soft/cckd_t', 'zskd/teacher_only', 'equal'),
    _accuracy('without mismatched impressions it gains', 'zskd_reject/cckd_t', 'zskd_reject/teacher_only', 'higher'),
    _accuracy('on `kegnet` its gain is small', 'kegnet/cckd_t', 'kegnet/teacher_only', 'equal'),
    *(
        _accuracy(f'the gate keeps the accuracy on `{system}`', f'{system}/cckd_t_reg', f'{system}/cckd_t', 'equal')
        for system in ('zskd', 'zskd_soft', 'kegnet', 'dafl', 'metadata', 'fskd')
    ),
    _accuracy('targets in the feature space help', 'zskd_features/teacher_only', 'zskd/teacher_only', 'higher'),
    _accuracy('`fskd` beats the labels of its samples', 'fskd/teacher_only', 'samples/separate', 'higher'),
)


def outcome(difference: Estimate, expected: str) -> str:
    """Whether an expectation holds, by the 95 % confidence interval of the difference.

    Args:
      difference: over seeds.
      expected: `higher`, `lower`, or `equal` within two points.

    Returns:
      `holds`, `does not hold` or `undecided`.

    >>> outcome(Estimate(-0.1, 0.05, 3), 'lower'), outcome(Estimate(0.0, 0.05, 3), 'equal')
    ('holds', 'undecided')
    """
    if difference.half_width is None:
        return 'undecided'
    if expected == 'equal':
        (nearest, farthest) = (abs(difference.mean) + sign * difference.half_width for sign in (-1, 1))
        return 'holds' if farthest < _MARGIN else 'does not hold' if nearest > _MARGIN else 'undecided'
    return {expected: 'holds', 'not significant': 'undecided'}.get(verdict(difference), 'does not hold')


def render(summary: Mapping[str, Any]) -> str:
    """Formats the finished runs of the study.

    Args:
      summary: the content of `study.json`.

    Returns:
      Markdown.
    """
    blocks = ['# Distillation without the data: results\n']
    for dataset in figures.datasets(summary):
        runs = figures.select(summary, 'runs', dataset)
        blocks += [
            f'## {dataset}\n',
            f'Test accuracy in %, mean over seeds ± 95 % confidence interval; one number stands for one seed. Teacher '
            f'{_percent(_mean(runs, "teacher"))}, student alone {_percent(_mean(runs, "alone"))}.\n',
            _accuracies(summary, dataset) + '\n',
            _expectations(runs) + '\n',
        ]
    return '\n'.join(blocks)


def _accuracies(summary: Mapping[str, Any], dataset: str) -> str:
    estimates = {(row['level'], row['row']): row for row in figures.select(summary, 'rows', dataset)}
    levels, rows = (list(dict.fromkeys(names)) for names in zip(*estimates, strict=True))
    lines = []
    for level in levels:
        own = {row: estimates[level, row] for row in rows if (level, row) in estimates}
        facts = next(iter(own.values()))
        gated = own.get('cckd_t_reg')
        lines.append(
            [
                f'`{level}`',
                _number(facts['images'], '.0f'),
                _number(facts['agreement'], '.0%'),
                _number(facts['confidence'], '.3f'),
                *(_with_interval(own[row]['test_accuracy']) if row in own else _MISSING for row in rows),
                _number(gated['share_used'], '.1%') if gated else _MISSING,
                ', '.join(dict.fromkeys(str(values['count']) for values in own.values())),
            ]
        )
    header = ['samples', 'images', "label is the teacher's class", 'λ', *(f'`{row}`' for row in rows)]
    return markdown.table([*header, 'used by the gate', 'seeds'], lines)


def _expectations(runs: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for text, first, second, expected in EXPECTATIONS:
        difference = paired_difference(_by_seed(runs, *first), _by_seed(runs, *second))
        if difference is not None:
            scale = 1 if 'confidence' in first[2] else 100
            width = '' if difference.half_width is None else f' ± {scale * difference.half_width:.3g}'
            shown = f'{scale * difference.mean:+.3g}{width}'
            lines.append([text, shown, outcome(difference, expected), str(difference.count)])
    return markdown.table(['expected', 'difference, in points or in λ', 'outcome', 'seeds'], lines)


def _by_seed(runs: Sequence[Mapping[str, Any]], samples: str, row: str, measure: str) -> dict[int, float | None]:
    return {run['seed']: run[measure] for run in runs if (run['level'], run['row']) == (samples, row)}


def _mean(runs: Sequence[Mapping[str, Any]], measure: str) -> float | None:
    """The mean over seeds of a measure that all runs of a seed share, as far as they have it."""
    by_seed = {run['seed']: run[measure] for run in runs if run[measure] is not None}
    return sum(by_seed.values()) / len(by_seed) if by_seed else None


def _percent(value: float | None) -> str:
    return markdown.cell(None if value is None else 100 * value, '.2f')


def _number(estimate: Mapping[str, Any] | None, form: str) -> str:
    return markdown.cell(None if estimate is None else estimate['mean'], form, missing=_MISSING)


def _with_interval(estimate: Mapping[str, Any]) -> str:
    width = '' if estimate['half_width'] is None else f' ± {100 * estimate["half_width"]:.1f}'
    return f'{100 * estimate["mean"]:.1f}{width}'

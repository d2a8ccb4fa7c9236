"""The study of students that teach each other: their accuracy, their agreement, and how soft their targets stay.

For each config, number of labelled images and seed, all runs share one teacher, which the rows without `_teacher` only
compare with. `alone` trains the same students from the labels. CCKD among students is our proposal.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cckd_jax.errors import InputError, lookup
from cckd_jax.report import style
from cckd_jax.report.metrics import read_rows
from cckd_jax.studies import figures
from cckd_jax.studies.jobs import Job, override, restore_networks
from cckd_jax.studies.study import Column, Measures, Option, Options, Study

_ALONE = 'alone'
# Groups of students: config values by name.
_GROUPS: Mapping[str, Mapping[str, Any]] = {
    'half2': {'num_students': 2, 'student.model': 'lenet5_half'},
    'half4': {'num_students': 4, 'student.model': 'lenet5_half'},
    'mixed': {'num_students': 2, 'student.model': 'lenet5_half', 'students.1.model': 'lenet5'},
}


def _online(
    method: str, confidence: float, gamma: float, *, teacher: bool = False, relative: bool = False
) -> dict[str, Any]:
    return {
        'method': f'cckd_online_{method}',
        'confidence_temperature': confidence,
        'gamma': gamma,
        'teacher_prior': 1.0 if teacher else 0.0,
        'relative_trust': relative,
    }


# Rows of the tables: config values by name. `c` is the temperature of the confidence, `g` its power gamma.
_ROWS: Mapping[str, Mapping[str, Any]] = {
    _ALONE: {'method': 'separate'},
    'dml': {'method': 'dml'},
    'kdcl_naive': {'method': 'kdcl_naive'},
    'kdcl_minlogit': {'method': 'kdcl_minlogit'},
    'kdcl_linear': {'method': 'kdcl_linear'},
    **{
        f'online_{method}_c{confidence}_g{gamma}': _online(method, confidence, gamma)
        for method in ('t', 'l')
        for confidence in (20, 1)
        for gamma in (0, 1, 4)
    },
    'online_t_c1_relative': _online('t', 1, 1, relative=True),
    'cckd_t_teacher': {'method': 'cckd_t'},
    **{
        f'online_{method}_c{confidence}_g{gamma}_teacher': _online(method, confidence, gamma, teacher=True)
        for method in ('t', 'l')
        for confidence in (20, 1)
        for gamma in (1, 4)
    },
}
_DEFAULT_ROWS = (
    *(_ALONE, 'dml', 'kdcl_naive', 'kdcl_minlogit', 'kdcl_linear', 'online_t_c20_g1', 'online_t_c1_g1'),
    *('online_l_c1_g1', 'online_t_c1_relative', 'cckd_t_teacher', 'online_t_c20_g1_teacher'),
)


def jobs(options: Options) -> Iterator[Job]:
    """The runs: for each config, number of images and seed the students alone, which train the teacher, then all rows.

    Raises:
      InputError: there is no such group of students, or a number of images is none.
    """
    rows = list(dict.fromkeys((_ALONE, *options.rows)))
    for seed, dataset, config in options.groups():
        for examples in dict.fromkeys(map(_parse_examples, options.values['examples'])):
            first: Job | None = None
            for group in dict.fromkeys(options.values['students']):
                values = {
                    'seed': seed,
                    'num_teachers': 1,
                    'evaluate.transfer_attack': False,
                    'separate.enabled': False,
                    **lookup(_GROUPS, group, 'group of students'),
                    **({} if examples is None else {'dataset.examples': examples}),
                }
                level = group if examples is None else f'{group}, {examples} images'
                folder = f'{dataset}/seed{seed}/{"all" if examples is None else examples}/{group}'
                for row in rows:
                    run_values = {**values, **_ROWS[row]}
                    needs: tuple[str, ...] = ()
                    if first is not None:
                        folder_of_first = options.workdir / first.name
                        shared = restore_networks(override(config, values), folder_of_first, baseline='separate')
                        (run_values, needs) = ({**run_values, **shared}, (first.name,))
                    job = Job(f'{folder}/{row}', override(config, run_values), dataset, row, seed, level, needs)
                    first = first or job
                    yield job


def _parse_examples(text: str) -> int | None:
    if text == 'all':
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f'--examples={text} must be numbers of images, or all')
    return int(text)


def measures(job: Job, results: Mapping[str, Any]) -> Measures:
    """Accuracy of the students and of their ensemble, how alike they are, and the state of the last epoch."""
    (student, peers) = (results['student'], results['peers'])
    agreement = np.array(peers['agreement'])
    (pairs, best) = (~np.eye(len(agreement), dtype=bool), peers['best_on_validation'])
    numbers = {
        'mean_accuracy': peers['mean_test_accuracy'],
        'best_accuracy': None if best is None else best['test_accuracy'],
        'ensemble_accuracy': peers['ensemble_test_accuracy'],
        'agreement': float(agreement[pairs].mean()),
        'teacher_accuracy': results['teacher']['test_accuracy'],
        **{name: _mean(student[name]) for name in ('share_used', 'success_rate', 'failure_rate')},
        **{name: _mean(values) for name, values in peers['last_epoch'].items()},
    }
    accuracies = {f'accuracy_{index}': accuracy for index, accuracy in enumerate(student['test_accuracy'])}
    return {job.row: numbers | accuracies}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def figure(path: Path, summary: Mapping[str, Any]) -> None:
    """Draws the mean accuracy of the students by row, a panel for each data set and group, with a dot for each seed.

    Args:
      path: of the PNG.
      summary: the content of `study.json`.
    """
    panels = list(dict.fromkeys((row['dataset'], row['level']) for row in summary['rows']))
    most = max(sum((row['dataset'], row['level']) == panel for row in summary['rows']) for panel in panels)
    drawing = Figure(figsize=(5.4 * len(panels), 0.36 * most + 1.5), layout='constrained')
    for axes, (dataset, level) in zip(drawing.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        own = lambda record, key=(dataset, level): (record['dataset'], record['level']) == key
        _draw_rows(axes, list(filter(own, summary['rows'])), list(filter(own, summary['runs'])))
        axes.set(xlabel='test accuracy', title=f'{dataset}: {level}')
    figures.finish(drawing, path, drawing.axes[:1])


def _draw_rows(axes: Axes, rows: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> None:
    kinds = {
        'mean_accuracy': ('mean of the students', style.color('student'), 'o'),
        'ensemble_accuracy': ('ensemble', style.color('teacher'), 's'),
    }
    for y, row in enumerate(rows):
        for name, (label, color, marker) in kinds.items():
            (offset, estimate) = (0.15 if marker == 's' else -0.15, row[name])
            seeds = [run[name] for run in runs if run['row'] == row['row']]
            axes.plot(seeds, [y + offset] * len(seeds), '.', color=color, markersize=4, alpha=0.6)
            width = estimate['half_width']
            axes.errorbar(
                estimate['mean'],
                y + offset,
                xerr=width,
                fmt=marker,
                ms=5,
                color=color,
                capsize=3,
                label=label if y == 0 else None,
            )
    axes.set_yticks(range(len(rows)), [row['row'] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(figures.limits([run[name] for run in runs for name in kinds], margin=0.3))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))


def export(workdir: Path, summary: Mapping[str, Any]) -> None:
    """Draws `curves.png`: soft mass of the targets, logit gap and agreement over the epochs, by row.

    One line of panels for each data set and group, means over students and seeds.
    """
    panels = list(dict.fromkeys((run['dataset'], run['level']) for run in summary['runs']))
    drawing = Figure(figsize=(15, 3.3 * len(panels)), layout='constrained')
    for (mass, gap, agreement), (dataset, level) in zip(
        drawing.subplots(len(panels), 3, squeeze=False), panels, strict=True
    ):
        runs = [run for run in summary['runs'] if (run['dataset'], run['level']) == (dataset, level)]
        rows = list(dict.fromkeys(run['row'] for run in runs))
        for index, row in enumerate(rows):
            curves = [_curves(workdir, run) for run in runs if run['row'] == row]
            line_style = {
                'color': style.STUDENT_COLORS[index % len(style.STUDENT_COLORS)],
                'ls': ('-', '--', ':')[index // len(style.STUDENT_COLORS) % 3],
                'lw': 1.3,
                'label': row,
            }
            for name, axes in {'soft_mass': mass, 'logit_gap': gap, 'agreement': agreement}.items():
                known = [curve[name] for curve in curves if name in curve]
                if known:
                    values = np.mean(known, axis=0)
                    axes.plot(np.arange(1, len(values) + 1), values, **line_style)
        mass.set(xscale='log', yscale='log', ylabel='target mass outside the label', title=f'{dataset}: {level}')
        gap.set(ylabel='logit gap of the label')
        agreement.set(ylabel='agreement of the students')
        for axes in (mass, gap, agreement):
            axes.set_xlabel('epoch')
    figures.finish(drawing, workdir / 'curves.png', [axes for axes in drawing.axes if axes.lines])


def _curves(workdir: Path, run: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Means over the students of a run, by column of `metrics.jsonl`."""
    students = [read_rows(student) for student in sorted((workdir / run['run']).glob('student_*'))]
    names = [name for name in ('soft_mass', 'logit_gap', 'agreement') if all(name in rows[-1] for rows in students)]
    return {name: np.mean([[row[name] for row in rows] for rows in students], axis=0) for name in names}


STUDY = Study(
    name='peers',
    description=(
        'Students that train together. `alone` trains them from the labels; `dml` and `kdcl` are published methods; '
        '`online` is CCKD among students, our proposal, with the confidence at temperature c and to the power g. Rows '
        'that end in `_teacher` also learn from a frozen teacher, for all others it is a yardstick.'
    ),
    jobs=jobs,
    measures=measures,
    columns={
        'mean_accuracy': Column('mean of the students', percent=True, digits=2, compared=True),
        'best_accuracy': Column('best on validation', percent=True, digits=2),
        'ensemble_accuracy': Column('ensemble', percent=True, digits=2, compared=True),
        'agreement': Column('agreement', percent=True, digits=2),
        'success_rate': Column('success rate', digits=3),
        'failure_rate': Column('failure rate', digits=4),
        'soft_mass': Column('soft mass of the targets', digits=4, interval=False),
        'logit_gap': Column('logit gap', digits=1, interval=False),
        'teacher_accuracy': Column('teacher', percent=True, digits=2, interval=False),
    },
    figure=figure,
    configs=('mnist_peers',),
    rows=tuple(_ROWS),
    default_rows=_DEFAULT_ROWS,
    compare=tuple((row, against) for against in (_ALONE, 'dml') for row in _ROWS if row not in (_ALONE, against)),
    level='students',
    options={
        'students': Option(('half2',), 'groups of students: half2, half4 or mixed (LeNet-5-Half with LeNet-5)'),
        'examples': Option(('all',), 'numbers of labelled training images, such as 600, or all'),
    },
    export=export,
    several_students=True,
)

"""The study of faithfulness: which students are faithful to a robust teacher, and at what price in accuracy.

For each config and seed, all methods share one teacher and one student that is trained without a teacher. Every run is
measured at one radius, the `epsilon` of the config: accuracy; accuracy on training images that FGSM moved against the
shared student, as in Tables 8 and 9 of the CCKD paper; accuracy under the strongest of the attacks on the student
itself; agreement with the teacher; and the confidence gap around the images, between what attacks find and what bounds
certify. The two faithful methods are our interpretation of the abstract of arXiv:2306.04431; there is no number of the
paper to compare with.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cckd_jax.errors import InputError, lookup
from cckd_jax.report.style import COLORS, clean, save
from cckd_jax.studies import figures
from cckd_jax.studies.jobs import Job, override, restore_networks
from cckd_jax.studies.study import Column, Measures, Option, Options, Study

_BASELINE = 'separate'
ROWS = (
    _BASELINE,
    'kd',
    'cckd_t',
    'cckd_t_reg',
    'ard',
    'rslad',
    'iad',
    'faithful_adversarial',
    'faithful_certified',
)
_STUDENT_MEASURES = ('transferred', 'agreement', 'gap_clean', 'gap_found', 'gap_certified')

# Ways to train the teacher; each is an arm of the study.
TEACHERS: Mapping[str, Mapping[str, Any]] = {
    'plain': {f'teacher.{name}': None for name in ('robust', 'epsilon', 'ramp')},
    'adversarial': {'teacher.robust': 'adversarial'},
    'ibp': {'teacher.robust': 'ibp'},
}


def jobs(options: Options) -> Iterator[Job]:
    """The runs: for each config and seed the baseline, then the rows that share its teacher and student.

    Raises:
      InputError: there is no such way to train a teacher, or a config has no epsilon.
    """
    for seed, name, base_config in options.groups():
        for dataset, config in _arms(name, base_config, options.values['teachers']):
            folder = f'{dataset}/seed{seed}'
            base = f'{folder}/{_BASELINE}'
            common = {
                'seed': seed,
                'attack.epsilon': config.epsilon,
                'evaluate.epsilons': (config.epsilon,),
                **{f'evaluate.{section}': True for section in ('calibration', 'robustness', 'faithfulness')},
            }
            values = {**common, 'method': _BASELINE, 'evaluate.networks': ('teacher', 'student')}
            yield Job(base, override(config, values), dataset, _BASELINE, seed)
            # The shared teacher is measured once, in the baseline run.
            common |= {'evaluate.networks': ('student',)}
            common |= restore_networks(config, options.workdir / base, baseline='student')
            for row in options.rows:
                if row == _BASELINE:
                    continue
                values = {**common, 'method': row}
                if row == 'iad':
                    # Its paper trusts the teacher fully for the first 60 of 200 epochs.
                    values |= {'warm_up': round(0.3 * config.student.epochs), 'ramp': 0}
                yield Job(f'{folder}/{row}', override(config, values), dataset, row, seed, needs=(base,))


def _arms(name: str, config: ConfigDict, teachers: Sequence[str]) -> Iterator[tuple[str, ConfigDict]]:
    """The config with each way to train the teacher; as it is if there are none."""
    if config.epsilon is None:
        raise InputError(f'{name} has no epsilon, and the study measures at that radius; set --config.epsilon')
    if not teachers:
        yield name, config
    for teacher in teachers:
        values = lookup(TEACHERS, teacher, 'way to train a teacher')
        yield f'{name}_{teacher}', override(config, values)


def measures(job: Job, results: Mapping[str, Any]) -> Measures:
    """Accuracies, agreement and gaps of the student; accuracies of the teacher in the run that trains it."""
    radii = results['faithfulness']['students'].get('student')
    gaps = radii[0]['gap'] if radii else dict.fromkeys(('clean', 'found', 'certified'))
    student = {
        **_accuracies('student', results),
        'transferred': results['student']['adversarial_accuracy'],
        'agreement': results['calibration']['relative']['student']['agreement'],
        **{f'gap_{name}': value for name, value in gaps.items()},
    }
    if job.row != _BASELINE:
        return {job.row: student}
    teacher = {**_accuracies('teacher', results), **dict.fromkeys(_STUDENT_MEASURES)}
    return {'teacher': teacher, job.row: student}


def _accuracies(network: str, results: Mapping[str, Any]) -> dict[str, Any]:
    robustness = results['robustness']
    return {
        'epsilon': robustness['epsilons'][0],
        'accuracy': results[network]['test_accuracy'],
        'robust_accuracy': robustness['networks'][network]['attacked']['worst'][0],
    }


def figure(path: Path, summary: Mapping[str, Any]) -> None:
    """Draws each method's accuracy, with and without attack, and its confidence gap, found and certified.

    One row of panels for each data set and one line for each method; large marks are means, dots are seeds.

    Args:
      path: of the PNG.
      summary: the content of `study.json`.
    """
    names = figures.datasets(summary)
    most = max(len(figures.select(summary, 'rows', dataset)) for dataset in names)
    drawing = Figure(figsize=(10.5, (0.36 * most + 1.3) * len(names)), layout='constrained')
    panels = drawing.subplots(len(names), 2, squeeze=False, sharey='row')
    for (left, right), dataset in zip(panels, names, strict=True):
        rows, runs = figures.select(summary, 'rows', dataset), figures.select(summary, 'runs', dataset)
        _draw_spans(left, rows, runs, {'robust_accuracy': 'under attack', 'accuracy': 'without attack'})
        _draw_spans(right, rows, runs, {'gap_found': 'found by attacks', 'gap_certified': 'certified bound'})
        left.set_yticks(range(len(rows)), [row['row'] for row in rows])
        left.set_ylim(len(rows) - 0.5, -0.5)
        left.xaxis.set_major_formatter(ticker.PercentFormatter(1.0))
        left.set(xlabel=f'{dataset}: test accuracy, ε = {rows[0]["epsilon"]["mean"]:.4g}')
        right.set(xlabel='largest confidence gap around an image', xlim=(-0.02, 1.02))
        for axes in (left, right):
            clean(axes)
    for axes in panels[0]:
        axes.legend(frameon=False, fontsize=9, ncols=2, loc='lower center', bbox_to_anchor=(0.5, 1.0))
    save(drawing, path)


def _draw_spans(
    axes: Axes, rows: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> None:
    """Draws a line for each row from one measure (filled mark) to another (hollow mark)."""
    for name, label in names.items():
        axes.plot([], [], 'o', color=COLORS['student'], markersize=6, label=label, **_fill(name, names))
    for y, row in enumerate(rows):
        if None in (row[name] for name in names):
            continue
        color = COLORS['teacher'] if row['row'] == 'teacher' else COLORS['student']
        axes.plot([row[name]['mean'] for name in names], [y, y], color=color, linewidth=1.5, alpha=0.5)
        for name in names:
            seeds = [run[name] for run in runs if run['row'] == row['row']]
            axes.plot(seeds, np.full(len(seeds), y + 0.22), '.', color=color, markersize=4, alpha=0.6)
            axes.plot(row[name]['mean'], y, 'o', color=color, markersize=6, **_fill(name, names))


def _fill(name: str, names: Mapping[str, str]) -> dict[str, Any]:
    return {} if name == next(iter(names)) else {'markerfacecolor': 'white'}


STUDY = Study(
    name='faithful',
    description=(
        'All methods of a seed share their teacher. The largest difference of the confidence in the label, anywhere '
        'within ε of an image, lies between the gap that attacks find and the gap that bounds certify.'
    ),
    jobs=jobs,
    measures=measures,
    columns={
        'epsilon': Column('ε', digits=4, interval=False),
        'accuracy': Column('accuracy', percent=True, digits=2, compared=True),
        'transferred': Column('under FGSM on the shared student', percent=True, digits=2, compared=True),
        'robust_accuracy': Column('under attack on itself', percent=True, digits=2, compared=True),
        'agreement': Column('same class as the teacher', percent=True, digits=2, compared=True),
        'gap_clean': Column('gap at the image', compared=True),
        'gap_found': Column('gap found', compared=True),
        'gap_certified': Column('gap certified', compared=True),
    },
    figure=figure,
    configs=('mnist_faithful',),
    rows=ROWS,
    compare=(
        *((row, _BASELINE) for row in ('kd', 'cckd_t', 'cckd_t_reg')),
        ('faithful_adversarial', 'kd'),
        ('faithful_adversarial', 'rslad'),
        ('faithful_certified', 'kd'),
    ),
    options={
        'teachers': Option((), 'ways to train the teacher, one arm of the study each: plain, adversarial, ibp'),
    },
)

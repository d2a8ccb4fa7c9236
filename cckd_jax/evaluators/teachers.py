"""Several teachers: accuracy of every teacher, and the weight that the method gave it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cckd_jax.evaluators.base import Evaluator
from cckd_jax.evaluators.finished_run import FinishedRun
from cckd_jax.evaluators.predictions import Predictions
from cckd_jax.report import markdown, style
from cckd_jax.report.metrics import read_rows

# What is weighted, in words.
_TERMS = {'logits': 'logits', 'maps': 'feature maps'}
# A table of more classes is too long to read.
_MAX_CLASSES = 20


def measure(run: FinishedRun, predictions: Predictions) -> dict[str, Any]:
    """The weights of the teachers over the whole training of the student; `peers.py` has those of several students."""
    return {'teacher_weights': mean_weights(run.student.rows) if len(run.students) == 1 else {}}


def mean_weights(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The weight of each teacher in a student's training: the mean over epochs, overall and for each class.

    Args:
      rows: the student's rows of `metrics.jsonl`.

    Returns:
      For each weighted term `overall`, shares that sum to 1 over the teachers, and `by_class`, such shares for each
      class; None where no example was kept. Empty for a method that does not weight teachers.

    >>> epochs = [{'overall': [0.25, 0.75], 'by_class': [None]}, {'overall': [0.75, 0.25], 'by_class': [None]}]
    >>> mean_weights([{'teacher_shares': {'logits': epoch}} for epoch in epochs])
    {'logits': {'overall': [0.5, 0.5], 'by_class': [None]}}
    """

    def mean(shares: Sequence[list[float] | None]) -> list[float] | None:
        known = [share for share in shares if share is not None]
        return np.mean(known, axis=0).tolist() if known else None

    weights = {}
    epochs = [row['teacher_shares'] for row in rows if 'teacher_shares' in row]
    for term in epochs[0] if epochs else ():
        by_class = zip(*(epoch[term]['by_class'] for epoch in epochs), strict=True)
        weights[term] = {
            'overall': mean([epoch[term]['overall'] for epoch in epochs]),
            'by_class': [mean(shares) for shares in by_class],
        }
    return weights


def table(results: Mapping[str, Any]) -> str:
    """A row for each teacher, and the weights for each class."""
    (teacher, weights) = (results['teacher'], results['teacher_weights'])
    if not isinstance(teacher['model'], list):
        return ''
    header = [
        '',
        'model',
        'epochs',
        'shuffled labels',
        'test accuracy',
        *(f'weight on {_TERMS[term]}' for term in weights),
    ]
    rows = [
        [
            f'teacher {index}',
            model,
            markdown.cell(teacher['epochs'][index], 'd', missing='unknown'),
            markdown.cell(teacher['label_noise'][index], '.0%', missing='unknown'),
            markdown.cell(teacher['test_accuracy'][index], '.2%'),
            *(_share(shares['overall'], index) for shares in weights.values()),
        ]
        for index, model in enumerate(teacher['model'])
    ]
    ensemble = markdown.cell(teacher['ensemble_test_accuracy'], '.2%')
    rows.append(['ensemble', '', '', '', ensemble, *([''] * len(weights))])
    text = [
        '## Teachers',
        markdown.table(header, rows),
        'The ensemble is the mean of the class probabilities of all teachers. Success and failure rate refer to it.',
    ]
    if not weights:
        return '\n\n'.join(text)
    text += [
        'A weight is the share of a teacher in the sum of the weights of all teachers for a sample, averaged over '
        'samples and epochs.',
        '![weights of the teachers](figures/teacher_weights.png)',
    ]
    classes = len(next(iter(weights.values()))['by_class'])
    if classes <= _MAX_CLASSES:
        teachers = range(len(teacher['model']))
        header = ['class', *(f'{_TERMS[term]}, teacher {index}' for term in weights for index in teachers)]
        rows = [
            [
                f'{label}',
                *(_share(shares['by_class'][label], index) for shares in weights.values() for index in teachers),
            ]
            for label in range(classes)
        ]
        text.append(markdown.table(header, rows))
    return '\n\n'.join(text)


def figure(workdir: Path, results: Mapping[str, Any]) -> None:
    """The weights of the teachers for each class and in each epoch, `teacher_weights.png`."""
    if results['teacher_weights']:
        path = workdir / 'figures' / 'teacher_weights.png'
        draw_weights(path, read_rows(workdir / 'student'), results['teacher_weights'])


def draw_weights(path: Path, rows: Sequence[Mapping[str, Any]], weights: Mapping[str, Any]) -> None:
    """Draws the weight of each teacher: for each class over the whole training, and in each epoch.

    Args:
      path: of the PNG.
      rows: the student's rows of `metrics.jsonl`.
      weights: `teacher_weights` of `results.json`.
    """
    drawing = Figure(figsize=(11, 3.4 * len(weights)), layout='constrained')
    panels = drawing.subplots(len(weights), 2, squeeze=False, width_ratios=(1.3, 1))
    for (by_class, by_epoch), (term, shares) in zip(panels, weights.items(), strict=True):
        classes = [(label, share) for label, share in enumerate(shares['by_class']) if share is not None]
        known_rows = [row for row in rows if row.get('teacher_shares', {}).get(term, {}).get('overall')]
        epochs = [(row['epoch'] + 1, row['teacher_shares'][term]['overall']) for row in known_rows]
        for teacher, overall in enumerate(shares['overall'] or ()):
            color = style.TEACHER_COLORS[teacher % len(style.TEACHER_COLORS)]
            by_class.plot(
                [label for label, _ in classes], [share[teacher] for _, share in classes], 'o', ms=5, color=color
            )
            (epoch, values) = zip(*((epoch, share[teacher]) for epoch, share in epochs), strict=True)
            by_epoch.plot(epoch, values, '.-', ms=4, color=color, label=f'teacher {teacher}: {overall:.3f}')
        for axes in (by_class, by_epoch):
            equal = axes.axhline(1 / len(shares['overall'] or (1,)), color='#555555', linestyle='--', linewidth=1)
            # Room for whole markers at weights of 0.
            (_, top) = axes.get_ylim()
            axes.set_ylim(-0.04 * top, 1.04 * top)
            style.clean(axes)
        equal.set_label('equal weights')
        by_class.xaxis.set_major_locator(MaxNLocator(integer=True))
        by_class.set(xlabel='class', ylabel=f'weight on {_TERMS[term]}')
        style.epoch_axis(by_epoch)
        # All epochs, since feature maps have no weights in the first one.
        by_epoch.set_xlim(0.5, len(rows) + 0.5)
        by_epoch.legend(frameon=False, fontsize=9, loc='upper left', bbox_to_anchor=(1, 1), title='overall')
    style.save(drawing, path)


def _share(shares: Sequence[float] | None, index: int) -> str:
    return 'none' if shares is None else f'{shares[index]:.3f}'


TEACHERS = Evaluator(measure, table, figure, shared=True)

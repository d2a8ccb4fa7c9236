"""Students that trained together: accuracy of each and of their ensemble, agreement, and who trusted whom."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from cckd_jax import evaluation
from cckd_jax.evaluators.base import Evaluator
from cckd_jax.evaluators.finished_run import FinishedRun
from cckd_jax.evaluators.predictions import Predictions
from cckd_jax.evaluators.teachers import mean_weights
from cckd_jax.paths import network_names
from cckd_jax.report import markdown, style
from cckd_jax.report.metrics import read_rows

# A heat map of more classes has labels too small to read.
_MAX_CLASSES = 20
# Columns of `metrics.jsonl` that are drawn over the epochs, with their labels.
_CURVES = {
    'agreement': 'agreement with the other students',
    'logit_gap': 'logit of the label above the mean of the others',
    'soft_mass': 'target mass outside the label',
    'trust': 'trust Λ in the sources',
    'kept_share': 'share of samples that trained',
}


def measure(run: FinishedRun, predictions: Predictions) -> dict[str, Any]:
    """The entry `peers`, None for one student; what each student has of its own is in the entry `student`.

    The best student is chosen on the validation split, and is None without one: nothing is chosen on the test split.
    """
    if len(run.students) == 1:
        return {'peers': None}
    labels = run.dataset.test.labels
    names = run.student_names
    logits = np.stack([predictions.logits[name] for name in names], axis=1)
    accuracy = [float(evaluation.correct(predictions.logits[name], labels).mean()) for name in names]
    predicted = logits.argmax(-1)
    has_teacher = run.method.teachers != 'none'
    (validation, best) = (None, None)
    if len(run.dataset.validation):
        validation = [student.rows[-1]['validation_accuracy'] for student in run.students]
        index = int(np.argmax(validation))
        best = {'index': index, 'validation_accuracy': validation[index], 'test_accuracy': accuracy[index]}
    section = {
        'mean_test_accuracy': float(np.mean(accuracy)),
        'ensemble_test_accuracy': float(evaluation.correct(evaluation.ensemble(logits), labels).mean()),
        'best_on_validation': best,
        'validation_accuracy': validation,
        'agreement': (predicted[:, :, None] == predicted[:, None]).mean(0).tolist(),
        'sources': [*(['teacher'] if has_teacher else []), *names],
        'trust': _trust(run),
        'last_epoch': {
            name: [student.rows[-1][name] for student in run.students]
            for name in ('agreement', 'logit_gap', 'soft_mass', 'trust')
            if all(name in student.rows[-1] for student in run.students)
        },
    }
    return {'peers': section}


def table(results: Mapping[str, Any]) -> str:
    """A row for each student, their mean and ensemble, and the weights of the sources."""
    (section, student) = (results.get('peers'), results['student'])
    if section is None:
        return ''
    count = len(student['model'])
    header = ['', 'model', 'test accuracy', 'validation accuracy', 'presentations that trained it']
    validation = section['validation_accuracy'] or [None] * count
    rows = [
        [
            f'student {index}',
            student['model'][index],
            f'{student["test_accuracy"][index]:.2%}',
            markdown.cell(validation[index], '.2%'),
            f'{student["samples_used"][index]:,} ({student["share_used"][index]:.2%})',
        ]
        for index in range(count)
    ]
    best = section['best_on_validation']
    rows.append(['mean', '', f'{section["mean_test_accuracy"]:.2%}', '', ''])
    if best is not None:
        chosen = f'best on validation: student {best["index"]}'
        rows.append([chosen, '', f'{best["test_accuracy"]:.2%}', f'{best["validation_accuracy"]:.2%}', ''])
    rows.append(['ensemble', '', f'{section["ensemble_test_accuracy"]:.2%}', '', ''])
    pairs = [
        f'{section["agreement"][first][second]:.2%} (students {first} and {second})'
        for first in range(count)
        for second in range(first + 1, count)
    ]
    text = [
        '## Students that trained together',
        markdown.table(header, rows),
        'The ensemble is the mean of the class probabilities of all students. '
        + ('' if best else 'No student is called the best, because there are no validation images to choose it on. ')
        + f'Two students predict the same class on this share of the test images: {", ".join(pairs)}.',
        '![the students over the epochs](figures/peers.png)',
    ]
    if section['trust'] is not None:
        sources = [style.label(name) for name in section['sources']]
        overall = [
            [f'student {index}', *(f'{weight:.3f}' for weight in weights['overall'])]
            for index, weights in enumerate(section['trust'])
        ]
        text += [
            'Who trusted whom: the weight of each source (a column) for a student (a row), averaged over the samples '
            'that trained it and over epochs.',
            markdown.table(['', *sources], overall),
            '![who trusted whom](figures/peer_trust.png)',
        ]
    return '\n\n'.join(text)


def figure(workdir: Path, results: Mapping[str, Any]) -> None:
    """The students over the epochs, `peers.png`, and the weights of their sources, `peer_trust.png`."""
    section = results.get('peers')
    if section is None:
        return
    rows = [read_rows(workdir / name) for name in network_names('student', len(results['student']['model']))]
    draw_curves(workdir / 'figures' / 'peers.png', rows)
    if section['trust'] is not None:
        draw_trust(workdir / 'figures' / 'peer_trust.png', rows, section['trust'], section['sources'])


def draw_curves(path: Path, rows: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """Draws agreement, logit gap, soft mass of the targets, trust and kept share over the epochs.

    Args:
      path: of the PNG.
      rows: the rows of `metrics.jsonl` of each student.
    """
    names = [name for name in _CURVES if any(name in row for row in rows[0])]
    if all(row['kept_share'] == 1 for student in rows for row in student):
        names.remove('kept_share')
    columns = 2 if len(names) in (2, 4) else 3
    lines = -(-len(names) // columns)
    drawing = Figure(figsize=(3.9 * columns, 3.1 * lines), layout='constrained')
    for position, name in enumerate(names):
        axes = drawing.add_subplot(lines, columns, position + 1)
        for student_name, student in zip(network_names('student', len(rows)), rows, strict=True):
            known = [(row['epoch'] + 1, row[name]) for row in student if name in row]
            (color, label) = (style.color(student_name), style.label(student_name))
            axes.plot(*zip(*known, strict=True), '.-', ms=3, lw=1.3, color=color, label=label)
        style.epoch_axis(axes)
        if name == 'soft_mass':
            _log_axes(axes, [row for student in rows for row in student if name in row])
        axes.set_title(_CURVES[name], fontsize=9)
        style.clean(axes)
    drawing.axes[0].legend(frameon=False, fontsize=9)
    style.save(drawing, path)


def draw_trust(
    path: Path,
    rows: Sequence[Sequence[Mapping[str, Any]]],
    trust: Sequence[Mapping[str, Any]],
    sources: Sequence[str],
) -> None:
    """Draws the weight of each source for each student: by class over the whole training, and by epoch.

    Args:
      path: of the PNG.
      rows: the rows of `metrics.jsonl` of each student.
      trust: for each student the weights of its sources, `overall` and `by_class`.
      sources: names of the sources.
    """
    drawing = Figure(figsize=(10.5, 2.7 * len(trust) + 0.3), layout='constrained')
    panels = drawing.subplots(len(trust), 2, squeeze=False)
    for index, ((by_class, by_epoch), weights) in enumerate(zip(panels, trust, strict=True)):
        others = [source for source, name in enumerate(sources) if weights['overall'][source] > 0]
        _draw_classes(by_class, weights['by_class'], others, [style.label(sources[source]) for source in others])
        by_class.set_title(f'student {index}: weight of its sources, by class', fontsize=9)
        for source in others:
            epochs = [row for row in rows[index] if row.get('teacher_shares', {}).get('logits', {}).get('overall')]
            values = [row['teacher_shares']['logits']['overall'][source] for row in epochs]
            (name, numbers) = (sources[source], [row['epoch'] + 1 for row in epochs])
            by_epoch.plot(numbers, values, '.-', ms=3, color=style.color(name), label=style.label(name))
        by_epoch.set(ylim=(-0.03, 1.03), ylabel='weight')
        style.epoch_axis(by_epoch)
        style.clean(by_epoch)
        by_epoch.legend(frameon=False, fontsize=8, loc='upper left', bbox_to_anchor=(1, 1))
    style.save(drawing, path)


def _draw_classes(
    axes: Axes, by_class: Sequence[Sequence[float] | None], others: Sequence[int], labels: Sequence[str]
) -> None:
    """A heat map with a row for each source and a column for each of the first classes."""
    shown = by_class[:_MAX_CLASSES]
    unknown = [np.nan] * len(others)
    grid = np.array([unknown if shares is None else [shares[source] for source in others] for shares in shown]).T
    mesh = axes.imshow(grid, cmap='Blues', vmin=0, vmax=1, aspect='auto')
    for (row, column), value in np.ndenumerate(grid):
        if not np.isnan(value):
            color = 'white' if value > 0.6 else 'black'
            axes.text(column, row, f'{value:.2f}', ha='center', va='center', fontsize=7, color=color)
    axes.set_xticks(range(len(shown)))
    axes.set_yticks(range(len(others)), labels)
    axes.set_xlabel('class')
    axes.figure.colorbar(mesh, ax=axes, shrink=0.9)


def _log_axes(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Logarithmic axes with a line that falls as 1 / epoch through the mean of the last epoch."""
    last = max(row['epoch'] for row in rows) + 1
    end = float(np.mean([row['soft_mass'] for row in rows if row['epoch'] + 1 == last]))
    epochs = np.arange(max(1, last // 8), last + 1)
    axes.plot(epochs, end * last / epochs, '--', color=style.COLORS['threshold'], lw=1, label='as 1 / epoch')
    axes.set(xscale='log', yscale='log')
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        axis.set_minor_formatter(NullFormatter())
    axes.legend(*([items[-1:] for items in axes.get_legend_handles_labels()]), frameon=False, fontsize=9)


def _trust(run: FinishedRun) -> list[dict[str, Any]] | None:
    """The weights of the sources for each student; None if the method has none, or a student trusted nobody."""
    # Weights of a method that does not read the other students are those of teachers.
    weights = [mean_weights(student.rows).get('logits') for student in run.students] if run.method.peers else [None]
    known = [shares for shares in weights if shares is not None and shares['overall'] is not None]
    return known if len(known) == len(run.students) else None


PEERS = Evaluator(measure, table, figure, shared=True)

"""Which samples trained the student: how many, and in which epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cckd_jax.evaluators.base import Evaluator, load_arrays, one_or_lists, save_arrays
from cckd_jax.evaluators.finished_run import FinishedRun
from cckd_jax.evaluators.predictions import Predictions
from cckd_jax.report import style
from cckd_jax.report.metrics import read_rows


def measure(run: FinishedRun, predictions: Predictions) -> dict[str, Any]:
    """How many presentations there were, and how many of them trained the student."""
    gate = run.method.gate
    if gate is not None and gate.threshold is not None:
        hyper = run.method.hyper(0)
        thresholds = [gate.threshold(row['epoch'], hyper) for row in run.student.rows]
        save_arrays(run.workdir, 'participation', threshold=np.asarray(thresholds, np.float32))
    examples = len(run.dataset.train if run.transfer is None else run.transfer.images)
    total = run.config.student.epochs * examples
    return {'student': one_or_lists([_counts(student.rows, total) for student in run.students])}


def _counts(rows: Sequence[Mapping[str, Any]], total: int) -> dict[str, Any]:
    used = sum(row['samples_used'] for row in rows)
    return {
        'samples_used': used,
        'samples_looked_at': sum(row['samples_looked_at'] for row in rows),
        'samples_presented': sum(row['samples_presented'] for row in rows),
        'samples_in_all': total,
        'share_used': used / total,
    }


def table(results: Mapping[str, Any]) -> str:
    """The counts in sentences, with the terms explained."""
    student = results['student']
    if isinstance(student['model'], list):
        return ''  # `peers.py` reports several students
    (used, presented, total, epochs) = (
        student[name] for name in ('samples_used', 'samples_presented', 'samples_in_all', 'epochs')
    )
    text = ['## Which samples trained the student']
    which = 'transfer' if 'name' in results.get('transfer', {}) else 'training'
    counts = (
        f'The {which} set has {total // epochs:,} samples. Over {epochs} epochs this makes {total:,} presentations, '
        'one for each sample in each epoch.'
    )
    if presented < total:
        counts += (
            f' {total - presented:,} of them were left out, because the significance of their sample is zero; '
            f'{presented:,} were presented.'
        )
    text.append(counts)
    if used == presented:
        subject = 'Every sample' if presented == total else 'Every presented sample'
        return '\n\n'.join([*text, f'{subject} trained the student in every epoch.'])
    gate = (
        f'{used:,} presentations ({used / total:.2%}) passed the gate and trained the student. The gate decides in '
        'every epoch which samples train the student'
    )
    if _has_margin_gate(results['hyperparameters']):
        gate += (
            ': those that it misclassifies, and those whose margin is below a threshold η that rises from epoch to '
            'epoch. The margin is the difference between the two largest class probabilities'
        )
    text.append(f'{gate}.')
    if student['samples_looked_at'] < presented:
        text.append(
            f'{presented - student["samples_looked_at"]:,} presentations skipped the forward pass as well, because '
            'the threshold could not yet have reached the margin of their sample (`recheck=true`).'
        )
    return '\n\n'.join([*text, '![share of the samples that trained the student](figures/participation.png)'])


def figure(workdir: Path, results: Mapping[str, Any]) -> None:
    """The share of the training set that trained the student in each epoch, `participation.png`, if there is a gate."""
    student = results['student']
    if isinstance(student['model'], list):
        return  # `peers.py` draws several students
    rows = read_rows(workdir / 'student')
    if rows and student['samples_used'] < student['samples_presented']:
        stored = workdir / 'evaluation' / 'participation.npz'
        threshold = load_arrays(workdir, 'participation')['threshold'] if stored.exists() else None
        examples = student['samples_in_all'] // student['epochs']
        participation(workdir / 'figures' / 'participation.png', rows, threshold, examples=examples)


def participation(
    path: Path, rows: Sequence[Mapping[str, Any]], threshold: np.ndarray | None, *, examples: int
) -> None:
    """Draws the share of the training set that trained the student in each epoch.

    Args:
      path: of the PNG.
      rows: the student's rows of `metrics.jsonl`.
      threshold: of the gate in each epoch, drawn as well; None for a gate without one.
      examples: size of the training set.
    """
    drawing = Figure(figsize=(6.4, 3.8), layout='constrained')
    axes = drawing.subplots()
    epochs = np.array([row['epoch'] for row in rows])
    share = np.array([row['samples_used'] / examples for row in rows])
    axes.fill_between(epochs + 1, share, color=style.COLORS['student'], alpha=0.25, linewidth=0)
    axes.plot(epochs + 1, share, color=style.COLORS['student'], linewidth=1.5, label='share of samples kept')
    if threshold is not None:
        label = 'threshold η of the gate, a margin'
        axes.plot(epochs + 1, threshold, color=style.COLORS['threshold'], linestyle='--', linewidth=1.2, label=label)
    (used, total) = (sum(row['samples_used'] for row in rows), examples * len(rows))
    axes.set_title(f'{used:,} of {total:,} presentations trained the student ({used / total:.2%})', fontsize=10)
    axes.set(ylim=(0, 1.02), ylabel='share of the training set, or margin')
    axes.legend(frameon=False, fontsize=9)
    style.epoch_axis(axes)
    style.clean(axes)
    style.save(drawing, path)


def _has_margin_gate(hyperparameters: Mapping[str, Any]) -> bool:
    return {'alpha', 'margin_temperature'} <= hyperparameters.keys()


PARTICIPATION = Evaluator(measure, table, figure, shared=True)

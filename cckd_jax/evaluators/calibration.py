"""Calibration: whether the confidence of a network matches its accuracy, and a student's that of its teacher."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from cckd_jax import evaluation, losses
from cckd_jax.evaluators.base import Evaluator, load_arrays, save_arrays
from cckd_jax.evaluators.finished_run import FinishedRun
from cckd_jax.evaluators.predictions import Predictions
from cckd_jax.report import markdown, style

_ERRORS = {
    'expected_calibration_error': ('ECE', evaluation.expected_calibration_error),
    'adaptive_calibration_error': ('adaptive ECE', evaluation.adaptive_calibration_error),
    'negative_log_likelihood': ('NLL (nats)', evaluation.negative_log_likelihood),
    'brier_score': ('Brier score', evaluation.brier_score),
}
_RELATIVE = {
    'agreement': ('same class', '.2%'),
    'label_gap': ('gap on the label', '.4f'),
    'over_confidence': ('over-confident', '.4f'),
    'under_confidence': ('under-confident', '.4f'),
    'total_variation': ('total variation', '.4f'),
    'divergence': ('KL (nats)', '.4f'),
}


def measure(run: FinishedRun, predictions: Predictions) -> dict[str, Any]:
    """Calibration of each network on the test split, and of the students relative to the teacher.

    If there is a validation split, a temperature is fitted on it for each network that did not train on it, and the
    errors at this temperature stand beside those at 1.
    """
    labels = run.dataset.test.labels
    networks = {name: _network(run, predictions, name, labels) for name in predictions.logits}
    relative = {}
    if 'teacher' in predictions.logits:
        agreement = jax.jit(evaluation.teacher_agreement)
        teacher = predictions.logits['teacher']
        relative = {
            name: jax.tree.map(float, agreement(teacher, predictions.logits[name], labels)._asdict())
            for name in predictions.students()
        }
    reliability = jax.jit(evaluation.reliability)
    stored = {}
    for name, logits in predictions.logits.items():
        diagram = reliability(logits.astype(np.float32), labels)
        stored[f'reliability_{name}'] = np.stack([diagram.confidence, diagram.accuracy, diagram.count])
        stored[f'label_probability_{name}'] = np.asarray(losses.label_probability(logits, labels))
    save_arrays(run.workdir, 'calibration', **stored)
    return {'networks': networks, 'relative': relative, 'validation_examples': len(run.dataset.validation)}


def table(section: Mapping[str, Any]) -> str:
    """The errors of each network, and the students beside the teacher."""
    labels = [label for label, _ in _ERRORS.values()]
    rows = []
    for name, errors in section['networks'].items():
        rows.append([style.label(name), *_error_cells(errors)])
        if errors['temperature'] is not None:
            scaled = f'{style.label(name)}, at temperature {errors["temperature"]:.3f}'
            rows.append([scaled, *_error_cells(errors['at_temperature'])])
    fitted = 'No temperature was fitted, because there are no validation images (`validation_fraction=0`).'
    if section['validation_examples']:
        fitted = f'Temperatures were fitted on {section["validation_examples"]:,} validation images.'
    text = [
        '## Calibration',
        'Does the confidence of a network match its accuracy? Measured on the test split. The calibration errors (ECE) '
        'use 15 bins of equal width, or, adaptive, of equal numbers of images.',
        markdown.table(['', *labels], rows),
        fitted,
    ]
    if section['relative']:
        rows = [
            [style.label(name), *(format(relative[measure], form) for measure, (_, form) in _RELATIVE.items())]
            for name, relative in section['relative'].items()
        ]
        text += [
            'Compared with the teacher, as means over the test split. The gap is the difference of the probabilities '
            'of the label; over- and under-confidence add up to it.',
            markdown.table(['', *(label for label, _ in _RELATIVE.values())], rows),
        ]
    return '\n\n'.join([*text, '![reliability](figures/reliability.png)'])


def figure(workdir: Path, section: Mapping[str, Any]) -> None:
    """Draws `reliability.png`."""
    stored = load_arrays(workdir, 'calibration')
    names = section['networks']
    diagrams = {name: stored[f'reliability_{name}'] for name in names}
    reliability(
        workdir / 'figures' / 'reliability.png',
        diagrams,
        {name: stored[f'label_probability_{name}'] for name in names},
    )


def reliability(path: Path, diagrams: Mapping[str, np.ndarray], label_probability: Mapping[str, np.ndarray]) -> None:
    """Draws accuracy against confidence, and the students' confidence in the label against the teacher's.

    Args:
      path: of the PNG.
      diagrams: by network, float `[3, bins]`: confidence, accuracy and number of images of each bin.
      label_probability: by network, float `[N]`, the probability of the label.
    """
    pairs = [('teacher', name) for name in label_probability if name != 'teacher']
    if 'teacher' not in label_probability:
        pairs = []
    drawing = Figure(figsize=(4.6 + 3.9 * len(pairs), 4.0), layout='constrained')
    (axes, *panels) = np.ravel(drawing.subplots(1, 1 + len(pairs)))
    axes.plot([0, 1], [0, 1], color=style.COLORS['threshold'], linestyle='--', linewidth=1)
    for name, diagram in diagrams.items():
        (confidence, accuracy, count) = diagram[:, diagram[2] > 0]
        axes.plot(confidence, accuracy, color=style.color(name), linewidth=1.4, label=style.label(name))
        # The area shows the number of images: a bin of three images says little.
        sizes = 8 + 120 * count / count.sum()
        axes.scatter(confidence, accuracy, s=sizes, color=style.color(name), edgecolor='white', linewidth=0.5, zorder=3)
    axes.set(xlabel='confidence in the predicted class', ylabel='accuracy')
    axes.set(xlim=(-0.02, 1.03), ylim=(-0.02, 1.03))
    axes.set_title('below the diagonal: over-confident', fontsize=9)
    axes.legend(frameon=False, fontsize=9, loc='lower right')
    style.clean(axes)
    edges = np.linspace(0, 1, 41)
    for panel, (teacher, student) in zip(panels, pairs, strict=True):
        (density, _, _) = np.histogram2d(label_probability[teacher], label_probability[student], bins=(edges, edges))
        norm = LogNorm(0.4, max(10, density.max()))
        mesh = panel.pcolormesh(edges, edges, np.where(density > 0, density, np.nan).T, cmap='Blues', norm=norm)
        panel.plot([0, 1], [0, 1], color=style.COLORS['threshold'], linestyle='--', linewidth=1)
        panel.set(xlabel="teacher's probability of the label", aspect='equal')
        panel.set(ylabel=f'probability of the label by the {style.label(student)}')
        panel.set_title('above the diagonal: more confident than the teacher', fontsize=9)
        drawing.colorbar(mesh, ax=panel, label='images', shrink=0.85)
        style.clean(panel)
    style.save(drawing, path)


def _network(run: FinishedRun, predictions: Predictions, name: str, labels: np.ndarray) -> dict[str, Any]:
    logits, temperature, scaled = predictions.logits[name], None, None
    validation = run.dataset.validation
    if len(validation) and name in predictions.trained_here:
        held_out = evaluation.predict(predictions.networks[name], validation.images, devices=run.devices)
        temperature = evaluation.fit_temperature(held_out, validation.labels)
        scaled = _errors(logits / temperature, labels)
    return {**_errors(logits, labels), 'temperature': temperature, 'at_temperature': scaled}


def _errors(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return jax.tree.map(float, _all_errors(logits.astype(np.float32), labels))


@jax.jit
def _all_errors(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    return {name: error(logits, labels) for name, (_, error) in _ERRORS.items()}


def _error_cells(errors: Mapping[str, float]) -> list[str]:
    return [f'{errors[name]:.4f}' for name in _ERRORS]


CALIBRATION = Evaluator(measure, table, figure)

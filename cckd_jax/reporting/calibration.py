"""The report's section on calibration: of each network, and of students relative to their teacher."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from cckd_jax.reporting.figures import COLORS, LABELS, plain, save

_ERRORS = {
    'expected_calibration_error': 'ECE',
    'adaptive_calibration_error': 'adaptive ECE',
    'negative_log_likelihood': 'NLL (nats)',
    'brier_score': 'Brier score',
}
_RELATIVE = {
    'agreement': ('same class', '.2%'),
    'label_gap': ('gap on the label', '.4f'),
    'over_confidence': ('over-confident', '.4f'),
    'under_confidence': ('under-confident', '.4f'),
    'total_variation': ('total variation', '.4f'),
    'divergence': ('KL (nats)', '.4f'),
}


def section(found: Mapping[str, Any] | None) -> list[str]:
    """The lines of the report; none where calibration was not measured."""
    if found is None:
        return []
    lines = [
        '## Calibration',
        '',
        'On the test split; errors over 15 bins, of equal width or, adaptive, of equally many images.',
        '',
        f'| | {" | ".join(_ERRORS.values())} |',
        f'|---|{"---|" * len(_ERRORS)}',
    ]
    for name, errors in found['networks'].items():
        lines.append(_row(LABELS[name], errors))
        if errors['temperature'] is not None:
            lines.append(_row(f'{LABELS[name]}, at temperature {errors["temperature"]:.3f}', errors['at_temperature']))
    if found['validation_examples']:
        lines += ['', f'Temperatures were fitted on {found["validation_examples"]:,} validation images.']
    else:
        lines += ['', 'No temperature was fitted: there are no validation images (`validation_fraction`).']
    if found['relative']:
        lines += [
            '',
            'Beside the teacher, means over the test split; over- and under-confidence add up to the gap:',
            '',
            f'| | {" | ".join(label for label, _ in _RELATIVE.values())} |',
            f'|---|{"---|" * len(_RELATIVE)}',
        ]
        for name, relative in found['relative'].items():
            cells = [format(relative[part], form) for part, (_, form) in _RELATIVE.items()]
            lines.append(f'| {LABELS[name]} | {" | ".join(cells)} |')
    return [*lines, '', '![reliability](figures/reliability.png)', '']


def reliability(path: Path, diagrams: Mapping[str, Any], sure: Mapping[str, np.ndarray]) -> None:
    """Accuracy against confidence for each network, and the student's confidence in the label against the teacher's.

    Args:
      path: of the PNG.
      diagrams: by network, `evaluation.Reliability`.
      sure: by network, float `[N]`, the probability of the label.
    """
    pairs = [('teacher', name) for name in sure if name != 'teacher'] if 'teacher' in sure else []
    figure = Figure(figsize=(4.6 + 3.9 * len(pairs), 4.0), layout='constrained')
    (axes, *panels) = np.ravel(figure.subplots(1, 1 + len(pairs)))
    axes.plot([0, 1], [0, 1], color=COLORS['threshold'], linestyle='--', linewidth=1)
    for name, diagram in diagrams.items():
        some = np.asarray(diagram.count) > 0
        (confidence, accuracy, count) = (
            np.asarray(each)[some] for each in (diagram.confidence, diagram.accuracy, diagram.count)
        )
        axes.plot(confidence, accuracy, color=COLORS[name], linewidth=1.4, label=LABELS[name])
        # Area by number of images: a bin of three says little.
        sizes = 8 + 120 * count / count.sum()
        axes.scatter(confidence, accuracy, s=sizes, color=COLORS[name], edgecolor='white', linewidth=0.5, zorder=3)
    axes.set(xlabel='confidence in the class chosen', ylabel='share of them that are right')
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title('below the diagonal: too sure', fontsize=9)
    axes.legend(frameon=False, fontsize=9, loc='lower right')
    plain(axes)
    edges = np.linspace(0, 1, 41)
    for panel, (teacher, student) in zip(panels, pairs, strict=True):
        (density, _, _) = np.histogram2d(sure[teacher], sure[student], bins=(edges, edges))
        shades = LogNorm(0.4, max(10, density.max()))
        drawn = panel.pcolormesh(edges, edges, np.where(density > 0, density, np.nan).T, cmap='Blues', norm=shades)
        panel.plot([0, 1], [0, 1], color=COLORS['threshold'], linestyle='--', linewidth=1)
        panel.set(xlabel="teacher's confidence in the label", ylabel=f'that of the {LABELS[student]}', aspect='equal')
        panel.set_title('above the diagonal: more sure than its teacher', fontsize=9)
        figure.colorbar(drawn, ax=panel, label='images', shrink=0.85)
        plain(panel)
    save(figure, path)


def _row(label: str, errors: Mapping[str, float]) -> str:
    return f'| {label} | {" | ".join(f"{errors[name]:.4f}" for name in _ERRORS)} |'

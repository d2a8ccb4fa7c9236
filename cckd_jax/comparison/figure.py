"""The figure of a comparison: accuracy per epoch, and the measures that differ most."""

import io

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cckd_jax.comparison.measures import MEASURES, Measure
from cckd_jax.comparison.tables import Comparison
from cckd_jax.report import style

_CURVES = {'train_accuracy': 'training accuracy', 'validation_accuracy': 'validation accuracy'}
_COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#999999')
_LINES = ('-', '--', ':', '-.')
_PANELS = 4
_MODES = {'light': 'default', 'dark': 'dark_background'}


def draw(comparison: Comparison, *, mode: str = 'light') -> bytes:
    """Draws accuracy per epoch in the upper row, and the measures that differ most in the lower one.

    Args:
      comparison: the runs.
      mode: `light` or `dark`.

    Returns:
      A PNG.
    """
    curves = [name for name in _CURVES if any(name in line for row in comparison.rows for line in row.student.rows)]
    shown = differing_most(comparison)
    with matplotlib.style.context(_MODES[mode]):
        height = 0.22 * len(comparison.rows) + 1.2
        figure = Figure(figsize=(11, max(3.2, height) + height), layout='constrained')
        (upper, lower) = figure.subfigures(2, 1, squeeze=False, height_ratios=[max(3.2, height), height])[:, 0]
        if curves:
            panels = upper.subplots(1, len(curves), squeeze=False)[0]
            for axes, name in zip(panels, curves, strict=True):
                _draw_curves(axes, comparison, name)
            (handles, labels) = panels[0].get_legend_handles_labels()
            upper.legend(handles, labels, loc='outside right center', frameon=False, fontsize=9)
        for axes, column in zip(lower.subplots(1, len(shown), sharey=True, squeeze=False)[0], shown, strict=True):
            _draw_measure(axes, comparison, column)
        for axes in figure.axes:
            style.clean(axes)
        image = io.BytesIO()
        figure.savefig(image, dpi=130, format='png')
    return image.getvalue()


def differing_most(comparison: Comparison) -> list[Measure]:
    """Test accuracy, and the shares with the largest range over students relative to their largest value."""
    ranges = {}
    for column in comparison.measures:
        values = [value for row in comparison.rows if (value := row.values.get(column)) is not None]
        if column.is_share and max(values) > 0:
            ranges[column] = (max(values) - min(values)) / max(values)
    others = sorted((column for column in ranges if column != MEASURES[0]), key=lambda column: -ranges[column])
    return [MEASURES[0], *others[: _PANELS - 1]]


def _draw_curves(axes: Axes, comparison: Comparison, name: str) -> None:
    for index, row in enumerate(comparison.rows):
        lines = [line for line in row.student.rows if line.get(name) is not None]
        epochs = [line['epoch'] + 1 for line in lines]
        (color, linestyle) = _look(index)
        marker = 'o' if len(lines) == 1 else None
        accuracies = [100 * line[name] for line in lines]
        axes.plot(epochs, accuracies, label=row.label, linewidth=1.4, color=color, linestyle=linestyle, marker=marker)
    style.epoch_axis(axes)
    axes.set_ylabel(f'{_CURVES[name]} (%)')


def _draw_measure(axes: Axes, comparison: Comparison, column: Measure) -> None:
    for index, row in enumerate(comparison.rows):
        value = row.values.get(column)
        axes.plot(np.nan if value is None else 100 * value, index, 'o', color=_look(index)[0], markersize=6)
    axes.set_yticks(range(len(comparison.rows)), [row.label for row in comparison.rows], fontsize=9)
    axes.set_ylim(len(comparison.rows) - 0.5, -0.5)
    axes.margins(x=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel(f'{column.title} (%)')


def _look(index: int) -> tuple[str, str]:
    """Colour and line style."""
    (cycle, color) = divmod(index, len(_COLORS))
    return _COLORS[color], _LINES[cycle % len(_LINES)]

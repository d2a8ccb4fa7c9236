"""Figures of the reproduction: accuracy beside the paper, the gate over the teacher's epochs, and the temperatures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cckd_jax.report.style import COLORS
from cckd_jax.studies.figures import finish, limits
from cckd_jax.studies.reproduction.records import Record, values
from cckd_jax.studies.reproduction.rendering import Cell, cells
from cckd_jax.studies.reproduction.tables import TABLES, Measure

_PAPER_STYLE: dict[str, Any] = {
    'color': '#000000',
    'marker': 'x',
    'linestyle': 'none',
    'markersize': 6,
    'label': 'paper',
}


def accuracy(path: Path, records: Sequence[Record], datasets: Sequence[str]) -> None:
    """Draws the test accuracies of teacher and students with the paper's numbers, one panel for each data set.

    Args:
      path: of the PNG.
      records: of `records.read`.
      datasets: to show.
    """
    drawing = Figure(figsize=(5.4 * len(datasets), 3.6), layout='constrained')
    for axes, dataset in zip(drawing.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        rows = TABLES['2'].rows
        shown = cells('2', records, [dataset])[: len(rows)]
        everything = [cell.paper for cell in shown if cell.paper is not None]
        for y, (row, cell) in enumerate(zip(rows, shown, strict=True)):
            seeds = list(values(records, dataset, row.run, cell.measure.name).values())
            everything += seeds
            color = COLORS[row.network]
            axes.plot(seeds, [y + 0.22] * len(seeds), '.', color=color, markersize=4, alpha=0.7)
            if cell.estimate is not None:
                (mean, width) = (cell.estimate.mean, cell.estimate.half_width)
                axes.errorbar(mean, y, xerr=width, fmt='o', color=color, capsize=3, label='ours')
            if cell.paper is not None:
                axes.plot(cell.paper, y, **_PAPER_STYLE)
        axes.set_yticks(range(len(shown)), [cell.row for cell in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(limits(everything, margin=0.15))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.set(xlabel='test accuracy, mean and 95 % interval', title=dataset)
    finish(drawing, path, drawing.axes)


def teacher_epochs(path: Path, records: Sequence[Record], datasets: Sequence[str]) -> None:
    """Draws how results change with the training length of the teacher, one column of panels for each data set.

    Args:
      path: of the PNG.
      records: of `records.read`.
      datasets: to show.
    """
    measures = {measure.name: measure for measure in TABLES['teacher_epochs'].measures}
    names = ('share_used', 'accuracy', 'success_rate', 'failure_rate', 'mean_confidence')
    panels = [measures[name] for name in names]
    _over_rows(path, 'teacher_epochs', panels, records, datasets, xlabel='epochs of the teacher')


def temperatures(path: Path, records: Sequence[Record], datasets: Sequence[str]) -> None:
    """Draws the results of each reading of the temperatures, one column of panels for each data set.

    Args:
      path: of the PNG.
      records: of `records.read`.
      datasets: to show.
    """
    _over_rows(path, 'temperatures', TABLES['temperatures'].measures, records, datasets, xlabel='')


def _over_rows(
    path: Path,
    name: str,
    measures: Sequence[Measure],
    records: Sequence[Record],
    datasets: Sequence[str],
    *,
    xlabel: str,
) -> None:
    drawing = Figure(figsize=(4.6 * len(datasets), 1.9 * len(measures) + 0.8), layout='constrained')
    panels = drawing.subplots(len(measures), len(datasets), squeeze=False, sharex=True)
    for column, dataset in zip(panels.T, datasets, strict=True):
        all_cells = cells(name, records, [dataset])
        labels = list(dict.fromkeys(cell.row for cell in all_cells))
        column[0].set_title(dataset)
        for axes, measure in zip(column, measures, strict=True):
            _panel(axes, [cell for cell in all_cells if cell.measure == measure])
            axes.set_ylabel(measure.title)
        column[-1].set_xticks(range(len(labels)), labels, rotation=25, ha='right')
        column[-1].set_xlabel(xlabel)
    finish(drawing, path, drawing.axes)


def _panel(axes: Axes, row_cells: Sequence[Cell]) -> None:
    """The means of a measure by row, with intervals, and the paper's numbers."""
    for x, cell in enumerate(row_cells):
        if cell.estimate is not None:
            axes.errorbar(
                x,
                cell.estimate.mean,
                yerr=cell.estimate.half_width,
                fmt='o',
                color=COLORS['student'],
                capsize=3,
                label='ours',
            )
        if cell.paper is not None:
            axes.plot(x, cell.paper, **_PAPER_STYLE)
    axes.set_xlim(-0.5, len(row_cells) - 0.5)
    means = [cell.estimate.mean for cell in row_cells if cell.estimate is not None]
    shown = means + [cell.paper for cell in row_cells if cell.paper is not None]
    # Intervals of two seeds are many times as wide as the differences; they are clipped.
    if len(shown) > 1 and np.ptp(shown) > 0:
        room = 0.35 * float(np.ptp(shown))
        axes.set_ylim(min(shown) - room, max(shown) + room)
    if row_cells and row_cells[0].measure.form == '.2%':
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))

"""Parts that the figures of several studies share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cckd_jax.report.style import clean, save


def select(summary: Mapping[str, Any], key: str, dataset: str) -> list[Mapping[str, Any]]:
    """The `rows` or `runs` of a summary that belong to one data set.

    >>> select({'rows': [{'dataset': 'a'}, {'dataset': 'b'}]}, 'rows', 'b')
    [{'dataset': 'b'}]
    """
    return [record for record in summary[key] if record['dataset'] == dataset]


def datasets(summary: Mapping[str, Any]) -> list[str]:
    """The data sets of a summary in their order.

    >>> datasets({'rows': [{'dataset': 'b'}, {'dataset': 'a'}, {'dataset': 'b'}]})
    ['b', 'a']
    """
    return list(dict.fromkeys(row['dataset'] for row in summary['rows']))


def limits(values: Sequence[float], *, margin: float) -> tuple[float, float]:
    """Limits of an axis of accuracies: the range of the seeds with a margin, at least 0.2 points, and at most 100 %.

    Intervals of few seeds are many times as wide as the differences of interest; they are clipped.

    Args:
      values: accuracies of all seeds.
      margin: as a fraction of the range.

    Returns:
      The lower and the upper limit.

    >>> limits([0.5, 0.6], margin=0.5)
    (0.45, 0.65)
    """
    room = max(0.002, margin * (max(values) - min(values)))
    return min(values) - room, min(1.0005, max(values) + room)


def finish(figure: Figure, path: Path, panels: Sequence[Axes]) -> None:
    """Adds one legend for all panels at their right, and writes the figure."""
    pairs = (pair for axes in panels for pair in zip(*axes.get_legend_handles_labels(), strict=True))
    labels = {label: handle for handle, label in pairs}
    figure.legend(labels.values(), labels.keys(), loc='outside right center', frameon=False, fontsize=9)
    for axes in figure.axes:
        clean(axes)
    save(figure, path)

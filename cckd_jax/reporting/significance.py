"""Figures of the significance of training examples: how it is distributed, what it looks like, what it goes with."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from cckd_jax.reporting.figures import COLORS, plain, save

_CLASSES = 10
_EACH = 7
_FEW = 5


def distribution(path: Path, counts: np.ndarray, epochs: int) -> None:
    """How many examples took part how often, and how much of all participation the most significant ones hold.

    Args:
      path: of the PNG.
      counts: int `[N]`.
      epochs: that were counted.
    """
    figure = Figure(figsize=(10, 3.8), layout='constrained')
    (histogram, held) = figure.subplots(1, 2)
    width = max(1, -(-(epochs + 1) // 60))
    edges = np.arange(0, epochs + width + 1, width) - 0.5
    histogram.hist(counts, bins=edges, color=COLORS['teacher'], edgecolor='white', linewidth=0.3)
    never = int(np.count_nonzero(counts == 0))
    histogram.set(
        xlabel=f'epochs of {epochs} in which the example took part', ylabel='examples', yscale='log', ylim=(0.8, None)
    )
    histogram.set_title(
        f'{never:,} of {len(counts):,} examples ({never / len(counts):.1%}) never took part', fontsize=10
    )
    share = np.append(0.0, np.cumsum(np.sort(counts)[::-1])) / max(1, counts.sum())
    held.plot(np.linspace(0, 1, len(share)), share, color=COLORS['teacher'], linewidth=1.8)
    held.plot([0, 1], [0, 1], color=COLORS['threshold'], linestyle='--', linewidth=1, label='if all were alike')
    held.set(xlabel='share of the examples, most significant first', ylabel='share of all participation held')
    held.set(xlim=(0, 1), ylim=(0, 1.02))
    tenth = share[len(counts) // 10]
    held.set_title(f'the most significant tenth holds {tenth:.1%}', fontsize=10)
    held.legend(frameon=False, fontsize=9, loc='lower right')
    for axes in (histogram, held):
        plain(axes)
    save(figure, path)


def extremes(path: Path, images: np.ndarray, labels: np.ndarray, counts: np.ndarray, margin: np.ndarray) -> None:
    """The most and the least significant images of each class side by side, a row a class, each with its count.

    Where counts are equal the teacher's margin decides: small ones are shown as more significant.

    Args:
      path: of the PNG.
      images: uint8 `[N, H, W, C]`.
      labels: int `[N]`; the first ten classes that occur are shown.
      counts: int `[N]`.
      margin: float `[N]`, the teacher's.
    """
    present = np.unique(labels)
    classes = present[:_CLASSES]
    ranked = np.lexsort((margin, -counts))
    figure = Figure(figsize=(11.3, 0.77 * len(classes) + 0.7), layout='constrained')
    some = f', the first {len(classes)} of {len(present)} classes' if len(classes) < len(present) else ''
    figure.suptitle(f'a row a class{some}; under each image, in how many epochs it took part', fontsize=9)
    (left, right) = figure.subplots(1, 2)
    orders = [ranked[labels[ranked] == label] for label in classes]
    _grid(left, images, counts, [order[:_EACH] for order in orders])
    _grid(right, images, counts, [order[-_EACH:] for order in orders])
    left.set_title('most significant', fontsize=12)
    right.set_title('least significant', fontsize=12)
    for row, label in enumerate(classes):
        left.text(-0.25, row + 0.45, label, ha='right', va='center', fontsize=12, weight='bold')
    save(figure, path)


def relations(
    path: Path,
    counts: np.ndarray,
    epochs: int,
    others: Mapping[str, tuple[np.ndarray, np.ndarray, float | None]],
) -> None:
    """Significance against other things about the examples, a panel each, as a density with the mean over it.

    Args:
      path: of the PNG.
      counts: int `[N]`.
      epochs: that were counted.
      others: by their label: int `[M]`, the examples that have it; float `[M]`, their values; the rank correlation.
    """
    figure = Figure(figsize=(5.1 * len(others), 4.1), layout='constrained')
    width = max(1, -(-(epochs + 1) // 40))
    edges = np.arange(0, epochs + width + 1, width) - 0.5
    panels = figure.subplots(1, len(others))
    for axes, (label, (among, values, correlation)) in zip(panels, others.items(), strict=True):
        seen = counts[among]
        room = 0.02 * np.ptp(values) or 0.5
        levels = np.linspace(values.min() - room, values.max() + room, 41)
        (density, _, _) = np.histogram2d(seen, values, bins=(edges, levels))
        # From below one, so that a single example is still seen.
        shades = LogNorm(0.4, max(10, density.max()))
        drawn = axes.pcolormesh(edges, levels, np.where(density > 0, density, np.nan).T, cmap='Blues', norm=shades)
        figure.colorbar(drawn, ax=axes, label='examples')
        place = np.digitize(seen, edges) - 1
        enough = [each for each in np.unique(place) if np.count_nonzero(place == each) >= _FEW]
        axes.plot(
            [seen[place == each].mean() for each in enough],
            [values[place == each].mean() for each in enough],
            color=COLORS['student'],
            marker='o',
            markersize=3,
            linewidth=1.4,
            label=f'mean, where there are {_FEW} or more',
        )
        axes.set_title(
            'no correlation: the same for all' if correlation is None else f'rank correlation {correlation:.3f}',
            fontsize=10,
        )
        axes.set(xlabel=f'epochs of {epochs} in which the example took part', ylabel=label)
        axes.legend(frameon=False, fontsize=8)
        plain(axes)
    save(figure, path)


def _grid(axes: Axes, images: np.ndarray, counts: np.ndarray, rows: Sequence[np.ndarray]) -> None:
    axes.set(xlim=(0, _EACH), ylim=(len(rows), 0), aspect='equal')
    axes.axis('off')
    for y, row in enumerate(rows):
        for x, place in enumerate(row):
            image = images[place]
            # Neither gray nor colour: what all channels share is what can be shown.
            shown = image if image.shape[-1] == 3 else image.mean(-1)
            axes.imshow(shown, cmap='gray', vmin=0, vmax=255, extent=(x + 0.09, x + 0.91, y + 0.84, y + 0.02))
            axes.text(x + 0.5, y + 0.86, f'{counts[place]}', ha='center', va='top', fontsize=7.5)
    axes.set(xlim=(0, _EACH), ylim=(len(rows), 0))  # imshow has moved them

"""Significance of the training samples: its distribution, examples, and its relation to participation and margin."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from cckd_jax import evaluation, selection
from cckd_jax.evaluators.base import Evaluator, load_arrays, save_arrays
from cckd_jax.evaluators.finished_run import FinishedRun
from cckd_jax.evaluators.predictions import Predictions
from cckd_jax.report import markdown, style

# Rows of the panel of images, images on each side of a row, and examples that a mean is drawn for.
_MAX_CLASSES = 10
_IMAGES_PER_CLASS = 7
_MIN_EXAMPLES = 5


def measure(run: FinishedRun, predictions: Predictions) -> dict[str, Any] | None:
    """Counts and Spearman rank correlations; None where no significance is known.

    The correlation with the participation of the student, or the mean of several, is over the samples that were
    presented; the margin of the
    teacher is taken at temperature 20, where it does not saturate.
    """
    if run.significance is None:
        return None
    (split, outputs, (counts, epochs)) = (run.dataset.train, run.teachers.outputs, run.significance)
    presented = run.method.epoch_subset(split.labels, {'teacher_logits': outputs.train, 'significance': counts})
    counted = [student.participation for student in run.students if student.participation is not None]
    participation = np.mean(counted, axis=0)[presented] / run.config.student.epochs
    margin = np.asarray(selection.margin(outputs.train[:, 0]))
    examples = extremes(split.labels, counts, margin)
    save_arrays(
        run.workdir,
        'significance',
        counts=counts,
        margin=margin,
        presented=presented,
        participation=participation,
        examples=examples,
        images=split.images[examples],
        labels=split.labels[examples],
        num_labels=np.array(len(np.unique(split.labels))),
    )
    return {
        'counted_on': 'file' if run.config.significance.file else 'teacher',
        'normalization': run.config.significance.normalization,
        'epochs': epochs,
        'examples': len(split),
        'above_zero': int(np.count_nonzero(counts)),
        'share_counted': float(counts.mean() / epochs),
        'rank_correlation': {
            'student_participation': evaluation.rank_correlation(counts[presented], participation),
            'teacher_margin': evaluation.rank_correlation(counts, margin),
        },
    }


def extremes(labels: np.ndarray, counts: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Indices of the most significant samples of the first ten classes, then of the least significant ones.

    Among samples of equal counts, those with a smaller margin rank as more significant.

    Args:
      labels: int `[N]`.
      counts: int `[N]`.
      margin: float `[N]`, of the teacher.

    >>> extremes(np.array([0, 0, 1]), np.array([1, 3, 2]), np.zeros(3)).tolist()
    [1, 0, 2, 1, 0, 2]
    """
    ranked = np.lexsort((margin, -counts))
    orders = [ranked[labels[ranked] == label] for label in np.unique(labels)[:_MAX_CLASSES]]
    most = [order[:_IMAGES_PER_CLASS] for order in orders]
    least = [order[-_IMAGES_PER_CLASS:] for order in orders]
    return np.concatenate([*most, *least])


def table(section: Mapping[str, Any]) -> str:
    """What significance is, where it comes from, and its correlations."""
    related = {name: markdown.cell(value, '.3f') for name, value in section['rank_correlation'].items()}
    source = {
        'teacher': 'the teacher, whose own training was self-regulated',
        'file': 'a model whose counts `significance.file` gives',
    }[section['counted_on']]
    return '\n\n'.join(
        [
            '## Significance',
            f'The significance of a sample is in how many of {section["epochs"]} epochs it trained {source}. '
            f'{section["above_zero"]:,} of {section["examples"]:,} samples took part at least once; on average a '
            f'sample took part in {section["share_counted"]:.2%} of the epochs. `significance.npz` has every count. '
            'The formulas are our interpretation of arXiv:2102.07125; only its abstract was available.',
            '![distribution of significance](figures/significance.png)',
            '![most and least significant images of each class](figures/significance_images.png)',
            "Rank correlation of significance with the student's participation, over the samples presented to the "
            f'student: {related["student_participation"]}; with the margin of the trained teacher, the difference of '
            f'its two largest class probabilities: {related["teacher_margin"]} (none: equal for all samples).',
            '![relations of significance](figures/significance_relations.png)',
        ]
    )


def figure(workdir: Path, section: Mapping[str, Any]) -> None:
    """Draws `significance.png`, `significance_images.png` and `significance_relations.png`."""
    stored = load_arrays(workdir, 'significance')
    (counts, epochs, folder) = (stored['counts'], section['epochs'], workdir / 'figures')
    distribution(folder / 'significance.png', counts, epochs)
    images(
        folder / 'significance_images.png',
        stored['images'],
        stored['labels'],
        counts[stored['examples']],
        num_labels=int(stored['num_labels']),
    )
    related = section['rank_correlation']
    relations(
        folder / 'significance_relations.png',
        counts,
        epochs,
        {
            'share of epochs that trained the student': (
                stored['presented'],
                stored['participation'],
                related['student_participation'],
            ),
            'margin of the trained teacher, τ = 20': (
                np.arange(len(counts)),
                stored['margin'],
                related['teacher_margin'],
            ),
        },
    )


def distribution(path: Path, counts: np.ndarray, epochs: int) -> None:
    """Draws how many samples took part how often, and which share of all participation the most significant ones hold.

    Args:
      path: of the PNG.
      counts: int `[N]`.
      epochs: that were counted.
    """
    drawing = Figure(figsize=(10, 3.8), layout='constrained')
    (histogram, cumulative) = drawing.subplots(1, 2)
    histogram.hist(
        counts, bins=_count_edges(epochs, 60), color=style.COLORS['teacher'], edgecolor='white', linewidth=0.3
    )
    never = int(np.count_nonzero(counts == 0))
    histogram.set(
        xlabel=f'epochs of {epochs} in which the sample took part', ylabel='samples', yscale='log', ylim=(0.8, None)
    )
    histogram.set_title(
        f'{never:,} of {len(counts):,} samples ({never / len(counts):.1%}) never took part', fontsize=10
    )
    share = np.append(0.0, np.cumsum(np.sort(counts)[::-1])) / max(1, counts.sum())
    cumulative.plot(np.linspace(0, 1, len(share)), share, color=style.COLORS['teacher'], linewidth=1.8)
    cumulative.plot(
        [0, 1], [0, 1], color=style.COLORS['threshold'], linestyle='--', linewidth=1, label='equal participation'
    )
    cumulative.set(xlabel='share of the samples, most significant first', ylabel='share of all participation')
    cumulative.set(xlim=(0, 1), ylim=(0, 1.02))
    cumulative.set_title(f'the most significant tenth holds {share[len(counts) // 10]:.1%}', fontsize=10)
    cumulative.legend(frameon=False, fontsize=9, loc='lower right')
    for axes in (histogram, cumulative):
        style.clean(axes)
    style.save(drawing, path)


def images(path: Path, images: np.ndarray, labels: np.ndarray, counts: np.ndarray, *, num_labels: int) -> None:
    """Draws the most and the least significant images, a row for each class, with the count below each image.

    Args:
      path: of the PNG.
      images: uint8 `[M, H, W, C]`, of `extremes`.
      labels: int `[M]`.
      counts: int `[M]`.
      num_labels: number of classes of the data set.
    """
    classes = np.unique(labels)
    drawing = Figure(figsize=(11.3, 0.77 * len(classes) + 0.7), layout='constrained')
    some = f', the first {len(classes)} of {num_labels} classes' if len(classes) < num_labels else ''
    drawing.suptitle(
        f'a row for each class{some}; below each image, the number of epochs in which it took part', fontsize=9
    )
    half = len(labels) // 2
    for axes, title, indices in zip(
        drawing.subplots(1, 2),
        ('most significant', 'least significant'),
        (np.arange(half), np.arange(half, 2 * half)),
        strict=True,
    ):
        rows = [indices[labels[indices] == label] for label in classes]
        _draw_grid(axes, images, counts, rows)
        axes.set_title(title, fontsize=12)
        if title.startswith('most'):
            for row, label in enumerate(classes):
                axes.text(-0.25, row + 0.45, label, ha='right', va='center', fontsize=12, weight='bold')
    style.save(drawing, path)


def relations(
    path: Path,
    counts: np.ndarray,
    epochs: int,
    others: Mapping[str, tuple[np.ndarray, np.ndarray, float | None]],
) -> None:
    """Draws significance against other quantities in [0, 1], a panel each: the density and the mean.

    Args:
      path: of the PNG.
      counts: int `[N]`.
      epochs: that were counted.
      others: by label: int `[M]`, indices of the samples; float `[M]`, their values; the rank correlation.
    """
    drawing = Figure(figsize=(5.1 * len(others), 4.3), layout='constrained')
    edges = _count_edges(epochs, 40)
    panels = drawing.subplots(1, len(others), squeeze=False)[0]
    for axes, (label, (indices, values, correlation)) in zip(panels, others.items(), strict=True):
        shown = counts[indices]
        (low, high) = _value_range(values)
        levels = np.linspace(low, high, 41)
        (density, _, _) = np.histogram2d(shown, values, bins=(edges, levels))
        # The scale starts below 1, so that a single sample is visible.
        norm = LogNorm(0.4, max(10, density.max()))
        mesh = axes.pcolormesh(edges, levels, np.where(density > 0, density, np.nan).T, cmap='Blues', norm=norm)
        drawing.colorbar(mesh, ax=axes, label='samples')
        bins = np.digitize(shown, edges) - 1
        large = [index for index in np.unique(bins) if np.count_nonzero(bins == index) >= _MIN_EXAMPLES]
        axes.plot(
            [shown[bins == index].mean() for index in large],
            [values[bins == index].mean() for index in large],
            color=style.COLORS['student'],
            marker='o',
            markersize=3,
            linewidth=1.4,
            label=f'mean of {_MIN_EXAMPLES} or more samples',
            clip_on=False,
        )
        axes.set_title(
            'no correlation: equal for all samples' if correlation is None else f'rank correlation {correlation:.3f}',
            fontsize=10,
        )
        axes.set(xlabel=f'epochs of {epochs} in which the sample took part', ylabel=label, ylim=(low, high))
        style.clean(axes)
    (handles, labels) = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc='outside lower center', frameon=False, fontsize=9)
    style.save(drawing, path)


def _value_range(values: np.ndarray) -> tuple[float, float]:
    """The range of values in [0, 1] with a margin that stays in [0, 1]."""
    room = 0.02 * np.ptp(values) or 0.05
    return max(0.0, float(values.min()) - room), min(1.0, float(values.max()) + room)


def _count_edges(epochs: int, bins: int) -> np.ndarray:
    """Edges of at most so many bins of whole counts."""
    width = max(1, -(-(epochs + 1) // bins))
    return np.arange(0, epochs + width + 1, width) - 0.5


def _draw_grid(axes: Axes, images: np.ndarray, counts: np.ndarray, rows: Sequence[np.ndarray]) -> None:
    axes.axis('off')
    for y, row in enumerate(rows):
        for x, index in enumerate(row):
            extent = (x + 0.09, x + 0.91, y + 0.84, y + 0.02)
            axes.imshow(style.displayed(images[index]), cmap='gray', vmin=0, vmax=255, extent=extent)
            axes.text(x + 0.5, y + 0.86, f'{counts[index]}', ha='center', va='top', fontsize=7.5)
    # imshow moves the limits.
    axes.set(xlim=(0, _IMAGES_PER_CLASS), ylim=(len(rows), 0), aspect='equal')


SIGNIFICANCE = Evaluator(measure, table, figure)

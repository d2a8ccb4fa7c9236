"""Figures of a run, one function each; all return nothing and write one PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cckd_jax import io
from cckd_jax.selection import threshold

Rows = Sequence[Mapping[str, Any]]

# Okabe and Ito's palette: told apart with any colour vision.
COLORS = {'teacher': '#0072B2', 'student': '#D55E00', 'separate': '#009E73', 'threshold': '#555555'}
TEACHER_COLORS = ('#0072B2', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#F0E442', '#999999', '#005A3C')
LABELS = {'teacher': 'teacher', 'student': 'student', 'separate': 'student alone'}


def curves(path: Path, runs: Mapping[str, Rows], accuracies: Mapping[str, float | None]) -> None:
    """Loss and accuracy over the epochs, for each network; the test accuracy at the end as a diamond.

    Args:
      path: of the PNG.
      runs: rows of `metrics.jsonl` by `teacher` or `teacher_0` and so on, `student`, `separate`.
      accuracies: test accuracy by the same names.
    """
    figure = Figure(figsize=(10, 3.8), layout='constrained')
    (loss, accuracy) = figure.subplots(1, 2)
    for name, rows in runs.items():
        color = _color(name)
        style = {'color': color, 'label': LABELS.get(name, name.replace('_', ' ')), 'linewidth': 1.5}
        epochs = [row['epoch'] + 1 for row in rows]
        loss.plot(epochs, [_or_nan(row['loss']) for row in rows], **style)
        accuracy.plot(epochs, [_or_nan(row['train_accuracy']) for row in rows], **style)
        if rows and 'validation_accuracy' in rows[0]:
            values = [row['validation_accuracy'] for row in rows]
            accuracy.plot(epochs, values, color=color, linestyle=':', linewidth=1.5)
        if rows and accuracies.get(name) is not None:
            accuracy.plot(epochs[-1], accuracies[name], 'D', color=color, markeredgecolor='white', zorder=5)
    loss.set(ylabel='loss of the kept samples (nats)', yscale='log')
    accuracy.set(ylabel='accuracy')
    accuracy.set_title('line: training, while it learns    dotted: held out    diamond: test', fontsize=8)
    shown = [row['train_accuracy'] for rows in runs.values() for row in rows[len(rows) // 20 :]]
    shown = [value for value in [*shown, *accuracies.values()] if value is not None]
    if shown:
        accuracy.set_ylim(max(0.0, min(shown) - 0.02), min(1.0, max(shown)) + 0.004)
    for axes in (loss, accuracy):
        over_epochs(axes)
        plain(axes)
        axes.legend(frameon=False, fontsize=9)
    save(figure, path)


def participation(path: Path, rows: Rows, alpha: float | None, *, examples: int) -> None:
    """The share of the training set that trained the student in each epoch, with the threshold where there is a gate.

    Args:
      path: of the PNG.
      rows: the student's rows of `metrics.jsonl`.
      alpha: rate of self-regulation, or None where everyone takes part.
      examples: in the training set, among them those that the method never presents.
    """
    figure = Figure(figsize=(6.4, 3.8), layout='constrained')
    axes = figure.subplots()
    epochs = np.array([row['epoch'] for row in rows])
    share = np.array([row['samples_used'] / examples for row in rows])
    axes.fill_between(epochs + 1, share, color=COLORS['student'], alpha=0.25, linewidth=0)
    axes.plot(epochs + 1, share, color=COLORS['student'], linewidth=1.5, label='share of samples kept')
    if alpha is not None:
        eta = [float(threshold(int(epoch), alpha=alpha)) for epoch in epochs]
        label = f'threshold $\\eta = 1 - e^{{-{alpha:g} n}}$ of the margin'
        axes.plot(epochs + 1, eta, color=COLORS['threshold'], linestyle='--', linewidth=1.2, label=label)
    used, whole = sum(row['samples_used'] for row in rows), examples * len(rows)
    axes.set_title(f'{used:,} of {whole:,} presentations trained the student ({used / whole:.2%})', fontsize=10)
    axes.set(ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=9)
    over_epochs(axes)
    plain(axes)
    save(figure, path)


def adversarial(path: Path, images: np.ndarray, labels: np.ndarray, predictions: np.ndarray, *, epsilon: float) -> None:
    """A panel of adversarial examples, titled as in the paper's Figures 3-5: true class, then what the model sees.

    Args:
      path: of the PNG.
      images: float `[M, H, W, C]` in [0, 1], attacked; up to 24 are shown.
      labels: int `[M]`.
      predictions: int `[M]`, of the network that the attack was crafted on.
      epsilon: size of the attack.
    """
    count = min(24, len(images))
    columns = min(8, count)
    rows = -(-count // columns)
    # Inches throughout. No narrower than its title; one frame for all images, since a frame each takes long to lay out.
    width, height = 1.15 * max(4, columns), 1.35 * rows + 0.3
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.autoscale(False)
    axes.axis('off')
    for place in range(count):
        image = images[place]
        # Neither gray nor colour: what all channels share is what can be shown.
        shown = image if image.shape[-1] == 3 else image.mean(-1)
        left, top = 1.15 * (place % columns) + 0.05, 1.35 * (place // columns) + 0.55
        high, wide = 1.05 * np.array(shown.shape[:2]) / max(shown.shape[:2])
        axes.imshow(shown, cmap='gray', vmin=0, vmax=1, extent=(left, left + wide, top + high, top))
        fooled = labels[place] != predictions[place]
        color = COLORS['student'] if fooled else 'black'
        classes = f'{labels[place]} → {predictions[place]}'
        axes.text(left + wide / 2, top - 0.05, classes, fontsize=10, color=color, horizontalalignment='center')
    title = f'true class → class seen after FGSM with ε = {epsilon:g}'
    axes.text(width / 2, 0.2, title, fontsize=10, horizontalalignment='center')
    save(figure, path)


def _color(name: str) -> str:
    if name in COLORS:
        return COLORS[name]
    return TEACHER_COLORS[int(name.removeprefix('teacher_')) % len(TEACHER_COLORS)]


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def over_epochs(axes: Axes) -> None:
    """An axis of whole epochs, however few."""
    axes.set_xlabel('epoch')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def plain(axes: Axes) -> None:
    """A frame of two sides and a faint grid."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)


def save(figure: Figure, path: Path) -> None:
    """Writes the PNG whole or not at all, and makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with io.atomic_write(path) as file:
        figure.savefig(file, dpi=130, format='png')

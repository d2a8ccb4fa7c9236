"""The study of faithfulness: a table of methods, what differs within seeds, and a figure of price and gain."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cckd_jax.reporting.figures import COLORS, plain, save

_COLUMNS = {
    'accuracy': ('accuracy', 'share'),
    'transferred': ('under FGSM on the student alone', 'share'),
    'robust_accuracy': ('under attack on itself', 'share'),
    'agreement': ('same class as the teacher', 'share'),
    'gap_clean': ('gap at the image', 'gap'),
    'gap_found': ('gap found', 'gap'),
    'gap_certified': ('gap certified', 'gap'),
}


def render(found: Mapping[str, Any]) -> str:
    """The tables of a study from its `study.json`."""
    lines = []
    for dataset in dict.fromkeys(row['dataset'] for row in found['rows']):
        rows = [row for row in found['rows'] if row['dataset'] == dataset]
        lines += [
            f'## {dataset}, ε = {rows[0]["epsilon"]:.4g}',
            '',
            'Means over seeds ± 95 % confidence interval; the largest gap of confidence in the label within ε of an '
            'image lies between what attacks found and what is certified.',
            '',
            f'| | seeds | {" | ".join(label for label, _ in _COLUMNS.values())} |',
            f'|---|---|{"---|" * len(_COLUMNS)}',
        ]
        for row in rows:
            cells = [_cell(row[name], kind) for name, (_, kind) in _COLUMNS.items()]
            lines.append(f'| {row["row"]} | {row["accuracy"]["count"]} | {" | ".join(cells)} |')
        lines += ['', '| within a seed | | difference | it is |', '|---|---|---|---|']
        for each in found['differences']:
            if each['dataset'] == dataset:
                (label, kind) = _COLUMNS[each['measure']]
                lines.append(
                    f'| {each["row"]} less {each["against"]} | {label} | {_cell(each["difference"], kind, "+")} '
                    f'| {each["verdict"]} |'
                )
        lines.append('')
    return '\n'.join(lines)


def methods(path: Path, found: Mapping[str, Any]) -> None:
    """Each method's accuracy, clean and under attack, beside its gap of confidence, found and certified.

    A row of panels a data set, a line a method; means as large marks, seeds as dots.

    Args:
      path: of the PNG.
      found: `study.json`.
    """
    datasets = list(dict.fromkeys(row['dataset'] for row in found['rows']))
    most = max(sum(row['dataset'] == dataset for row in found['rows']) for dataset in datasets)
    figure = Figure(figsize=(10.5, (0.36 * most + 1.3) * len(datasets)), layout='constrained')
    panels = figure.subplots(len(datasets), 2, squeeze=False, sharey='row')
    for (left, right), dataset in zip(panels, datasets, strict=True):
        rows = [row for row in found['rows'] if row['dataset'] == dataset]
        of_this = [run for run in found['runs'] if run['dataset'] == dataset]
        _spans(left, rows, of_this, 'robust_accuracy', 'accuracy', ('under attack', 'accuracy'))
        _spans(right, rows, of_this, 'gap_found', 'gap_certified', ('found', 'certified'))
        left.set_yticks(range(len(rows)), [row['row'] for row in rows])
        left.set_ylim(len(rows) - 0.5, -0.5)
        left.xaxis.set_major_formatter(ticker.PercentFormatter(1.0))
        left.set(xlabel=f'{dataset}: share of test images, ε = {rows[0]["epsilon"]:.4g}')
        right.set(xlabel='largest gap of confidence around an image', xlim=(-0.02, 1.02))
        for axes in (left, right):
            plain(axes)
    for axes in panels[0]:
        axes.legend(frameon=False, fontsize=9, ncols=2, loc='lower center', bbox_to_anchor=(0.5, 1.0))
    save(figure, path)


def _spans(axes: Axes, rows, runs, low: str, high: str, labels: tuple[str, str]) -> None:
    """A line a row from the one measure to the other."""
    for place, row in enumerate(rows):
        if row[low] is None or row[high] is None:
            continue
        color = COLORS['teacher'] if row['row'] == 'teacher' else COLORS['student']
        axes.plot([row[low]['mean'], row[high]['mean']], [place, place], color=color, linewidth=1.5, alpha=0.5)
        for name, fill, label in ((low, color, labels[0]), (high, 'white', labels[1])):
            seeds = [run[name] for run in runs if run['row'] == row['row']]
            beside = np.full(len(seeds), place + 0.22)
            axes.plot(seeds, beside, '.', color=color, markersize=4, alpha=0.6)
            axes.plot(
                row[name]['mean'],
                place,
                'o',
                color=color,
                markerfacecolor=fill,
                markersize=6,
                label=label if place == len(rows) - 1 else None,
            )


def _cell(estimate: Mapping[str, Any] | None, kind: str, sign: str = '') -> str:
    if estimate is None:
        return ''
    (mean, width) = (estimate['mean'], estimate['half_width'])
    if kind == 'share':
        text = f'{100 * mean:{sign}.2f}' + ('' if width is None else f' ± {100 * width:.2f}')
        return f'{text} %'
    return f'{mean:{sign}.3f}' + ('' if width is None else f' ± {width:.3f}')

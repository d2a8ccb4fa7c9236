"""The study of teachers: tables, and a student's accuracy against how bad one of its teachers is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cckd_jax.reporting.figures import plain, save
from cckd_jax.reporting.study import legend_beside, percent

# Okabe and Ito's palette again.
_STYLE = {
    'aver': ('#555555', 's'),
    'ebkd': ('#E69F00', '^'),
    'aekd': ('#0072B2', 'v'),
    'ca_mkd': ('#D55E00', 'o'),
    'ca_mkd_logits': ('#56B4E9', '*'),
    'fitnet_mkd': ('#CC79A7', 'D'),
}


def render(found: Mapping[str, Any]) -> str:
    """The tables of the study from its `study.json`."""
    lines = []
    for dataset in dict.fromkeys(row['dataset'] for row in found['rows']):
        rows = [row for row in found['rows'] if row['dataset'] == dataset]
        lines += [
            f'## {dataset}',
            '',
            f"| {found['worse']} of teacher 0 | its accuracy | | seeds | student's test accuracy, mean ± 95 % CI "
            '| share of teacher 0 |',
            '|---|---|---|---|---|---|',
        ]
        for row in rows:
            level = 'none' if row['level'] is None else f'{row["level"]}'
            accurate = '' if row['worse_accuracy'] is None else f'{row["worse_accuracy"]:.2%}'
            share = '' if row['level'] is None else f'{row["worse_share"]:.3f}'
            cells = [level, accurate, row['row'], f'{row["accuracy"]["count"]}', percent(row['accuracy']), share]
            lines.append(f'| {" | ".join(cells)} |')
        lines += [
            '',
            f'| within a seed | {found["worse"]} | difference, mean ± 95 % CI | accuracy is |',
            '|---|---|---|---|',
        ]
        for each in found['differences']:
            if each['dataset'] == dataset:
                lines.append(
                    f'| {each["row"]} less {each["against"]} | {each["level"]} | {percent(each["accuracy"], "+")} '
                    f'| {each["verdict"]} |'
                )
        lines.append('')
    return '\n'.join(lines)


def accuracy(path: Path, found: Mapping[str, Any]) -> None:
    """The student's test accuracy, and below it teacher 0's share of the weights, against how bad that teacher is.

    A column a data set; means with 95 % intervals, and each seed as a dot.

    Args:
      path: of the PNG.
      found: `study.json`.
    """
    datasets = list(dict.fromkeys(row['dataset'] for row in found['rows']))
    figure = Figure(figsize=(5.2 * len(datasets) + 1.6, 6.4), layout='constrained')
    panels = figure.subplots(2, len(datasets), squeeze=False, sharex='col', height_ratios=(1.6, 1))
    for (above, below), dataset in zip(panels.T, datasets, strict=True):
        rows = [row for row in found['rows'] if row['dataset'] == dataset]
        runs = [run for run in found['runs'] if run['dataset'] == dataset and run['level'] is not None]
        levels = sorted({row['level'] for row in rows if row['level'] is not None})
        for alone in (row['accuracy']['mean'] for row in rows if row['level'] is None):
            above.axhline(alone, color='#009E73', linestyle='--', linewidth=1, label='student alone')
        names = [name for name in _STYLE if any(row['row'] == name for row in rows)]
        for place, name in enumerate(names):
            of_row = sorted((row for row in rows if row['row'] == name), key=lambda row: row['level'])
            # Side by side, so that no interval hides another.
            aside = 0.07 * (place - (len(names) - 1) / 2)
            (color, marker) = _STYLE[name]
            at = [levels.index(row['level']) + aside for row in of_row]
            widths = [row['accuracy']['half_width'] or 0.0 for row in of_row]
            style = {'color': color, 'marker': marker, 'markersize': 6, 'linewidth': 1.3}
            above.errorbar(at, [row['accuracy']['mean'] for row in of_row], yerr=widths, capsize=3, label=name, **style)
            dots = [(levels.index(run['level']) + aside, run['test_accuracy']) for run in runs if run['row'] == name]
            above.plot(*zip(*dots, strict=True), '.', color=color, markersize=4, alpha=0.6)
            below.plot(at, [row['worse_share'] for row in of_row], **style)
        reached = [run['test_accuracy'] for run in found['runs'] if run['dataset'] == dataset]
        # For most of the intervals; those of two seeds are many times as wide as what is to be seen.
        room = max(0.002, 0.5 * (max(reached) - min(reached)))
        above.set_ylim(min(reached) - room, min(1.0005, max(reached) + room))
        above.set(ylabel="student's test accuracy", title=dataset)
        above.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        below.set(xlabel=f'{found["worse"]} of teacher 0', ylabel="teacher 0's share\nof the weights")
        below.set_xticks(range(len(levels)), [f'{level:g}' for level in levels])
        below.set_ylim(0, None)
        for axes in (above, below):
            plain(axes)
    legend_beside(figure, panels[0])
    save(figure, path)

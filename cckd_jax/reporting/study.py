"""Many runs side by side: a table of means with their confidence intervals, and accuracy against samples used."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cckd_jax.reporting.figures import plain, save

# Okabe and Ito's palette again; what differs in kind differs in marker, and controls are hollow.
_STYLE = {
    'separate': ('#555555', 's'),
    'kd': ('#0072B2', 'o'),
    'cckd_t': ('#56B4E9', 'o'),
    'cckd_t_reg': ('#56B4E9', 'D'),
    'significance': ('#D55E00', 'o'),
    'regulated': ('#009E73', 'D'),
    'hybrid': ('#CC79A7', 'D'),
    'random_subset': ('#D55E00', '^'),
    'shuffled': ('#E69F00', '^'),
}
_HOLLOW = ('random_subset', 'shuffled')


def render(found: Mapping[str, Any]) -> str:
    """The tables of a study from its `study.json`."""
    lines = []
    for dataset in dict.fromkeys(row['dataset'] for row in found['rows']):
        lines += [
            f'## {dataset}',
            '',
            '| | seeds | test accuracy, mean ± 95 % CI | presentations used | share used | share presented |',
            '|---|---|---|---|---|---|',
        ]
        for row in found['rows']:
            if row['dataset'] == dataset:
                lines.append(
                    f'| {row["row"]} | {row["accuracy"]["count"]} | {percent(row["accuracy"])} '
                    f'| {row["samples_used"]:,.0f} | {row["share_used"]:.3%} | {row["share_presented"]:.2%} |'
                )
        lines += ['', '| within a seed | difference, mean ± 95 % CI | accuracy is |', '|---|---|---|']
        for each in found['differences']:
            if each['dataset'] == dataset:
                lines.append(
                    f'| {each["row"]} less {each["against"]} | {percent(each["accuracy"], "+")} | {each["verdict"]} |'
                )
        lines.append('')
    return '\n'.join(lines)


def accuracy_against_samples(path: Path, found: Mapping[str, Any]) -> None:
    """Test accuracy against the presentations that gave a gradient, a panel a data set.

    Means with 95 % intervals, cut off where they leave what the seeds reached, and each seed as a dot; rows of equal
    numbers stand side by side.

    Args:
      path: of the PNG.
      found: `study.json`; the teacher's row is left out.
    """
    datasets = list(dict.fromkeys(row['dataset'] for row in found['rows']))
    figure = Figure(figsize=(5.2 * len(datasets) + 1.6, 4.6), layout='constrained')
    panels = figure.subplots(1, len(datasets), squeeze=False)[0]
    for axes, dataset in zip(panels, datasets, strict=True):
        of_this = lambda each, dataset=dataset: each['dataset'] == dataset and each['row'] in _STYLE
        rows, runs = list(filter(of_this, found['rows'])), list(filter(of_this, found['runs']))
        for row in rows:
            (color, marker) = _STYLE[row['row']]
            seeds = [run['test_accuracy'] for run in runs if run['row'] == row['row']]
            beside = [other['row'] for other in rows if other['samples_used'] == row['samples_used']]
            place = row['samples_used'] * 1.13 ** (beside.index(row['row']) - (len(beside) - 1) / 2)
            axes.plot([place * 1.04] * len(seeds), seeds, '.', color=color, markersize=4, alpha=0.7)
            axes.errorbar(
                place,
                row['accuracy']['mean'],
                yerr=row['accuracy']['half_width'],
                color=color,
                marker=marker,
                markersize=7,
                markerfacecolor='white' if row['row'] in _HOLLOW else color,
                linestyle='none',
                capsize=3,
                elinewidth=1.2,
                label=row['row'],
            )
        reached = [run['test_accuracy'] for run in runs]
        room = max(0.002, 0.12 * (max(reached) - min(reached)))
        axes.set_ylim(min(reached) - room, min(1.0005, max(reached) + room))
        axes.set(xscale='log', xlabel='presentations that gave a gradient', ylabel='test accuracy', title=dataset)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=1))
        plain(axes)
    legend_beside(figure, panels)
    save(figure, path)


def legend_beside(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, at their right."""
    pairs = (pair for axes in panels for pair in zip(*axes.get_legend_handles_labels(), strict=True))
    labels = {label: handle for handle, label in pairs}
    figure.legend(labels.values(), labels.keys(), loc='outside right center', frameon=False, fontsize=9)


def percent(estimate: Mapping[str, Any], sign: str = '') -> str:
    """An `Estimate` of shares in percent, with half of its interval where there is one.

    >>> percent({'mean': 0.5, 'half_width': 0.25, 'count': 3}, '+')
    '+50.00 ± 25.00 %'
    """
    width = estimate['half_width']
    mean = format(100 * estimate['mean'], f'{sign}.2f')
    return f'{mean} %' if width is None else f'{mean} ± {100 * width:.2f} %'

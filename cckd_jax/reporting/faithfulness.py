"""The report's section on faithfulness: students beside their teacher, all around the images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from cckd_jax.reporting.figures import COLORS, LABELS, plain, save

_MEASURES = {
    'disagreement': ('share of images with a point where they choose different classes', '.2%'),
    'gap': ('largest gap of confidence in the label', '.4f'),
    'over_confidence': ('the student above its teacher', '.4f'),
    'under_confidence': ('the student below its teacher', '.4f'),
}


def section(found: Mapping[str, Any] | None) -> list[str]:
    """The lines of the report; none where faithfulness was not measured."""
    if found is None:
        return []
    lines = [
        '## Faithfulness',
        '',
        f'Around {found["teacher_correct"]:,} of the first {found["samples"]:,} test images, those that the teacher '
        'gets right, with no pixel moved by more than ε: what is seen at the image itself, the most that attacks found '
        f'({found["steps"]} steps; a lower bound), and the most that bounds by `{found["bounds"]}` allow (an upper '
        'bound). Means over the images. Readings of arXiv:2306.04431, whose body could not be had.',
        '',
    ]
    if not found['teacher_correct']:
        return [*lines, 'The teacher gets none of them right, so there is nothing to imitate.', '']
    if not found['students']:
        return []
    for name, radii in found['students'].items():
        lines += [f'| {LABELS[name]} | ε | at the image | found | certified |', '|---|---|---|---|---|']
        for radius in radii:
            for measure, (label, form) in _MEASURES.items():
                cells = [format(radius[measure][way], form) for way in ('clean', 'found', 'certified')]
                lines.append(f'| {label} | {radius["epsilon"]:.4g} | {" | ".join(cells)} |')
        lines.append('')
    return [*lines, '![faithful fraction](figures/faithfulness.png)', '']


def fractions(path: Path, epsilons: Sequence[float], gaps: Mapping[str, Sequence[Mapping[str, np.ndarray]]]) -> None:
    """The share of images at which student and teacher are (ε, κ)-faithful, against κ, a panel a radius.

    The true curve lies between that of the certified gaps and that of the gaps found.

    Args:
      path: of the PNG.
      epsilons: radii.
      gaps: by student, for each radius, float `[N]` by `found` and `certified`.
    """
    figure = Figure(figsize=(3.9 * len(epsilons) + 2.2, 3.9), layout='constrained')
    panels = figure.subplots(1, len(epsilons), sharey=True, squeeze=False)[0]
    kappas = np.linspace(0, 1, 401)
    share = lambda gap: (gap[None] <= kappas[:, None]).mean(-1)
    for place in np.argsort(epsilons):
        axes = panels[place]
        for name, radii in gaps.items():
            (most, least) = (share(radii[place][way]) for way in ('found', 'certified'))
            axes.fill_between(kappas, least, most, color=COLORS[name], alpha=0.15, linewidth=0)
            axes.plot(kappas, most, color=COLORS[name], linestyle='--', linewidth=1.3, label=f'{LABELS[name]}, at most')
            axes.plot(kappas, least, color=COLORS[name], linewidth=1.8, label=f'{LABELS[name]}, certified')
        axes.set(xlabel='κ, gap of confidence allowed', xlim=(0, 1), ylim=(0, 1.02))
        axes.set_title(f'ε = {epsilons[place]:.4g}', fontsize=11)
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
        plain(axes)
    panels[0].set_ylabel('share of images that are (ε, κ)-faithful')
    (handles, labels) = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside right center', frameon=False, fontsize=9)
    save(figure, path)

"""The report's section on robustness: accuracy of each network under attacks on itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from cckd_jax.reporting.figures import COLORS, LABELS, plain, save

_MARKERS = 'osD^vP*X'


def section(found: Mapping[str, Any] | None) -> list[str]:
    """The lines of the report; none where robustness was not measured."""
    if found is None or not found['networks']:
        return []
    lines = [
        '## Robustness',
        '',
        f'Of the first {found["samples"]:,} test images, the share still right when each network is attacked itself: '
        f'by FGSM, by PGD of {found["steps"]} steps from one random start on cross entropy at temperature τ or on the '
        f'margin, and by Square, which sees logits alone ({found["queries"]} queries). `worst` is over all of them. '
        'Where Square or the margin finds more than cross entropy, the network hides its gradients.',
        '',
    ]
    radii = ' | '.join(f'ε = {epsilon:.4g}' for epsilon in found['epsilons'])
    for name, network in found['networks'].items():
        lines += [
            f'| {LABELS[name]}, {network["clean"]:.2%} unattacked | {radii} |',
            f'|---|{"---|" * len(found["epsilons"])}',
        ]
        for attack, accuracies in network['attacked'].items():
            lines.append(f'| {attack} | {" | ".join(f"{accuracy:.2%}" for accuracy in accuracies)} |')
        lines.append('')
    return [*lines, '![accuracy under attack](figures/robustness.png)', '']


def accuracies(path: Path, found: Mapping[str, Any]) -> None:
    """Accuracy against the radius, a panel a network and a line an attack.

    Args:
      path: of the PNG.
      found: `robustness` of `results.json`.
    """
    networks = found['networks']
    figure = Figure(figsize=(3.9 * len(networks) + 1.3, 3.9), layout='constrained')
    panels = figure.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    order = np.argsort(found['epsilons'])
    radii = [0.0, *np.asarray(found['epsilons'])[order]]
    for axes, (name, network) in zip(panels, networks.items(), strict=True):
        for place, (attack, accuracy) in enumerate(network['attacked'].items()):
            worst = attack == 'worst'
            axes.plot(
                radii,
                [network['clean'], *np.asarray(accuracy)[order]],
                color='black' if worst else f'C{place}',
                linewidth=2.0 if worst else 1.2,
                marker=_MARKERS[place % len(_MARKERS)],
                markersize=4,
                label=attack,
            )
        axes.set(xlabel='ε, in pixel units', ylim=(-0.02, 1.02))
        axes.set_title(LABELS[name], fontsize=11, color=COLORS[name])
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
        plain(axes)
    panels[0].set_ylabel('accuracy under attack')
    (handles, labels) = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside right center', frameon=False, fontsize=9)
    save(figure, path)

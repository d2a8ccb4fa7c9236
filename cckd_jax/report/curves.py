"""Training curves for a page: accuracy, loss and kept share over the epochs, as SVG that shows its values."""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

from cckd_jax.report import style

# Corners of the area of the lines, in units of the drawing.
_SIZE = (360, 230)
(_LEFT, _RIGHT, _TOP, _BOTTOM) = (46, 350, 10, 200)

_STYLE = """\
<style>
.curves { margin: 1rem 0; padding: .8rem; color: #1b1b1b; background: #fff; border: 1px solid var(--line);
  border-radius: .5rem; }
.curves .panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: 1rem; }
.curves figure { margin: 0; }
.curves figcaption { font-weight: 600; }
.curves svg { display: block; width: 100%; height: auto; touch-action: pan-y; }
.curves text { font: 11px system-ui, sans-serif; fill: #555; }
.curves .grid { stroke: #ddd; }
.curves .pointer { stroke: #888; visibility: hidden; }
.curves output { display: block; min-height: 3em; color: #555; font-size: .85rem; font-variant-numeric: tabular-nums; }
.curves button { font: inherit; color: inherit; background: none; border: 0; cursor: pointer; }
.curves button::before { content: "■ "; color: var(--color); }
.curves button[aria-pressed=false] { opacity: .4; text-decoration: line-through; }
.curves .off { display: none; }
</style>
"""
_SCRIPT = """\
<script>
for (const button of document.querySelectorAll('.curves button')) button.onclick = () => {
  const on = button.ariaPressed === 'false';
  button.ariaPressed = on;
  for (const line of document.querySelectorAll('.curves [data-network]'))
    if (line.dataset.network === button.dataset.network) line.classList.toggle('off', !on);
};
for (const svg of document.querySelectorAll('.curves svg')) {
  const {left, right, first, last} = Object.fromEntries(Object.entries(svg.dataset).map(([k, v]) => [k, +v]));
  svg.onpointermove = event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    const share = Math.min(Math.max((x - left) / (right - left), 0), 1);
    const epoch = Math.round(first + share * (last - first));
    const at = last === first ? (left + right) / 2 : left + (epoch - first) / (last - first) * (right - left);
    const pointer = svg.querySelector('.pointer');
    pointer.setAttribute('x1', at);
    pointer.setAttribute('x2', at);
    pointer.style.visibility = 'visible';
    const values = [...svg.querySelectorAll('polyline:not(.off)')].flatMap(line => {
      const value = new Map(JSON.parse(line.dataset.values)).get(epoch);
      return value === undefined ? [] : [`${line.dataset.label} ${value}`];
    });
    svg.parentElement.querySelector('output').textContent = `epoch ${epoch}: ${values.join(', ')}`;
  };
}
</script>
"""


class _Line(NamedTuple):
    """A line: its network, its label, and its values by epoch, counted from 1."""

    network: str
    label: str
    values: dict[int, float]
    dotted: bool = False


def render(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Draws accuracy, loss and, if samples were left out, the share of samples kept.

    Args:
      runs: rows of `metrics.jsonl` by `teacher` (or `teacher_0` and so on), `student` (or the same), `separate`.

    Returns:
      HTML with one drawing for each quantity. The pointer shows the values of an epoch, and a click on a network in
      the legend hides it. Empty without a row.

    >>> page = render({'student': [{'epoch': 0, 'loss': 2.0, 'train_accuracy': 0.5, 'kept_share': 1.0}]})
    >>> page.count('<svg'), page.count('<polyline'), 'data-values="[[1, 2.0]]"' in page
    (2, 2, True)
    """
    drawings = [
        _panel(
            'accuracy (dotted: validation)', [*_lines(runs, 'train_accuracy'), *_lines(runs, 'validation_accuracy')]
        ),
        _panel('loss of the samples that train (nats)', list(_lines(runs, 'loss')), logarithmic=True),
    ]
    kept = list(_lines(runs, 'kept_share'))
    if any(share < 1 for line in kept for share in line.values.values()):
        drawings.append(_panel('share of samples kept', kept))
    panels = ''.join(drawings)
    if not panels:
        return ''
    legend = ''.join(
        f'<button aria-pressed="true" data-network="{name}" style="--color: {style.color(name)}">{style.label(name)}'
        '</button>'
        for name, rows in runs.items()
        if rows
    )
    return f'{_STYLE}<div class="curves"><div>{legend}</div><div class="panels">{panels}</div></div>\n{_SCRIPT}'


def _lines(runs: Mapping[str, Sequence[Mapping[str, Any]]], quantity: str) -> Iterator[_Line]:
    dotted = quantity == 'validation_accuracy'
    for name, rows in runs.items():
        values = {row['epoch'] + 1: float(row[quantity]) for row in rows if row.get(quantity) is not None}
        if values:
            label = f'{style.label(name)} (validation)' if dotted else style.label(name)
            yield _Line(name, label, values, dotted)


def _panel(title: str, lines: Sequence[_Line], *, logarithmic: bool = False) -> str:
    if not lines:
        return ''
    epochs = [epoch for line in lines for epoch in line.values]
    values = [value for line in lines for value in line.values.values()]
    (first, last, low, high) = (min(epochs), max(epochs), min(values), max(values))
    logarithmic = logarithmic and low > 0
    locator = LogLocator(subs=(1.0, 2.0, 5.0)) if logarithmic else MaxNLocator(5)
    scale = np.log if logarithmic else float

    def x(epoch: float) -> float:
        return _between(epoch, first, last, _LEFT, _RIGHT)

    def y(value: float) -> float:
        return _between(float(scale(value)), float(scale(low)), float(scale(high)), _BOTTOM, _TOP)

    marks = [
        f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
        for tick in locator.tick_values(low, high)
        if low <= tick <= high
    ]
    marks += [
        f'<text x="{x(tick):.1f}" y="{_BOTTOM + 16}" text-anchor="middle">{tick:.0f}</text>'
        for tick in MaxNLocator(6, integer=True).tick_values(first, last)
        if first <= tick <= last
    ]
    drawn = [_polyline(line, [(x(epoch), y(value)) for epoch, value in line.values.items()]) for line in lines]
    return (
        f'<figure><figcaption>{html.escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {_SIZE[0]} {_SIZE[1]}" role="img" aria-label="{html.escape(title)}" data-left="{_LEFT}" '
        f'data-right="{_RIGHT}" data-first="{first}" data-last="{last}">{"".join(marks)}'
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_SIZE[1] - 2}" text-anchor="middle">epoch</text>'
        f'<line class="pointer" y1="{_TOP}" y2="{_BOTTOM}"/>{"".join(drawn)}</svg>'
        '<output>Point at an epoch for its values.</output></figure>'
    )


def _polyline(line: _Line, points: Sequence[tuple[float, float]]) -> str:
    # Round caps make a dot of a single epoch.
    path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in ([*points, *points] if len(points) == 1 else points))
    values = json.dumps([[epoch, float(f'{value:.4g}')] for epoch, value in line.values.items()])
    dashes = ' stroke-dasharray="1 4"' if line.dotted else ''
    return (
        f'<polyline points="{path}" fill="none" stroke="{style.color(line.network)}" stroke-width="2" '
        f'stroke-linecap="round"{dashes} data-network="{line.network}" data-label="{line.label}" '
        f'data-values="{values}"/>'
    )


def _between(value: float, low: float, high: float, start: float, end: float) -> float:
    """`value` on a scale that maps `low` to `start` and `high` to `end`; the middle if they are equal."""
    share = 0.5 if low == high else (value - low) / (high - low)
    return start + share * (end - start)

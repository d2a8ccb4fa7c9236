"""The comparison as one HTML file, with its figure inside, light and dark, and tables that a click sorts."""

import base64
import html
from collections.abc import Sequence
from string import Template
from typing import Any

from cckd_jax.comparison import tables
from cckd_jax.comparison.tables import Comparison

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Comparison of runs</title>
<style>
:root { color-scheme: light dark; --line: light-dark(#ccc, #444); --stripe: light-dark(#f6f6f6, #1c1c1c); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; background: light-dark(#fff, #000); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tbody tr:nth-child(even) { background: var(--stripe); }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
img { max-width: 100%; height: auto; }
</style>
</head>
<body>
<h1>Comparison of runs</h1>
<h2>Settings that differ</h2>
$settings
<h2>Measures</h2>
$measures
<picture>
<source media="(prefers-color-scheme: dark)" srcset="data:image/png;base64,$dark">
<img alt="Accuracy per epoch, and the measures that differ most" src="data:image/png;base64,$light">
</picture>
<script>
for (const button of document.querySelectorAll('th button')) button.onclick = () => {
  const header = button.parentElement, column = header.cellIndex, body = header.closest('table').tBodies[0];
  const sign = header.ariaSort === 'ascending' ? -1 : 1;
  for (const other of header.parentElement.cells) other.ariaSort = null;
  header.ariaSort = sign === 1 ? 'ascending' : 'descending';
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const order = (a, b) => a === '' || b === '' ? (a === '') - (b === '')
    : sign * (isNaN(a) || isNaN(b) ? a.localeCompare(b, undefined, {numeric: true}) : a - b);
  body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
};
</script>
</body>
</html>
""")


def render_html(comparison: Comparison, *, light: bytes, dark: bytes) -> str:
    """Formats the comparison as HTML that needs no other file.

    Args:
      comparison: the runs.
      light: a PNG for light screens.
      dark: a PNG for dark screens.

    Returns:
      The page.
    """
    settings = f'<p>{tables.no_difference(comparison)}</p>'
    if comparison.settings:
        (header, cells) = tables.settings_table(comparison)
        settings = _table(header, cells, cells)
    (header, cells) = tables.measures_table(comparison)
    values = [[row.label, *map(row.values.get, comparison.measures)] for row in comparison.rows]
    measures = _table(header, cells, values)
    encode = lambda image: base64.b64encode(image).decode('ascii')
    return _PAGE.substitute(settings=settings, measures=measures, light=encode(light), dark=encode(dark))


def _table(header: Sequence[str], cells: Sequence[Sequence[str]], values: Sequence[Sequence[Any]]) -> str:
    """A table whose lines sort by `values`."""
    head = ''.join(f'<th scope="col"><button>{html.escape(title)}</button></th>' for title in header)
    lines = [
        ''.join(
            f'<td data-value="{html.escape("" if value is None else str(value))}">{html.escape(text)}</td>'
            for text, value in zip(line, line_values, strict=True)
        )
        for line, line_values in zip(cells, values, strict=True)
    ]
    body = '\n'.join(f'<tr>{line}</tr>' for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'

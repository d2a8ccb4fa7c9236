"""The comparison as one HTML file, with its figure inside, light and dark, and tables that a click sorts."""

import html
from collections.abc import Sequence
from string import Template
from typing import Any

from cckd_jax.comparison import tables
from cckd_jax.comparison.tables import Comparison
from cckd_jax.report import page

_BODY = Template("""\
<h1>Comparison of runs</h1>
<h2>Settings that differ</h2>
$settings
<h2>Measures</h2>
$measures
<picture>
<source media="(prefers-color-scheme: dark)" srcset="$dark">
<img alt="Accuracy per epoch, and the measures that differ most" src="$light">
</picture>""")


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
    (light_url, dark_url) = map(page.data_url, (light, dark))
    body = _BODY.substitute(settings=settings, measures=measures, light=light_url, dark=dark_url)
    return page.render('Comparison of runs', body)


def _table(header: Sequence[str], cells: Sequence[Sequence[str]], values: Sequence[Sequence[Any]]) -> str:
    """A table whose lines sort by `values`."""
    head = ''.join(f'<th scope="col">{html.escape(title)}</th>' for title in header)
    lines = [
        ''.join(
            f'<td data-value="{html.escape("" if value is None else str(value))}">{html.escape(text)}</td>'
            for text, value in zip(line, line_values, strict=True)
        )
        for line, line_values in zip(cells, values, strict=True)
    ]
    body = '\n'.join(f'<tr>{line}</tr>' for line in lines)
    return f'<div class="wide nowrap"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'

"""Writes the files of a comparison."""

from pathlib import Path

from cckd_jax import io
from cckd_jax.comparison import page, tables
from cckd_jax.comparison.tables import Comparison


def write(comparison: Comparison, folder: Path) -> None:
    """Writes `comparison.md`, `.html`, `.csv` and `.png` into a folder.

    Raises:
      InputError: a file cannot be written.
    """
    from cckd_jax.comparison import figure  # imports Matplotlib, which a printed table does without

    io.check_folder(folder, '--output')
    (light, dark) = (figure.draw(comparison, mode=mode) for mode in ('light', 'dark'))
    text = (
        tables.render_markdown(comparison)
        + '\n![accuracy per epoch, and the measures that differ most](comparison.png)\n'
    )
    io.write_text(folder / 'comparison.md', text)
    io.write_text(folder / 'comparison.csv', tables.render_csv(comparison))
    io.write_text(folder / 'comparison.html', page.render_html(comparison, light=light, dark=dark))
    with io.atomic_write(folder / 'comparison.png') as file:
        file.write(light)

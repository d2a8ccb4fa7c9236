"""Compare finished runs: the settings that differ, and every measure.

    {program} runs/kd runs/cckd_t
    {program} runs/*/seed0/* --output=comparison

It prints Markdown. With --output it also writes comparison.md, comparison.csv, comparison.png, and comparison.html: one
file, whose tables sort by a click.
"""

from collections.abc import Sequence

from cckd_jax import comparison
from cckd_jax.cli import guard
from cckd_jax.cli.parser import Parser
from cckd_jax.console import log
from cckd_jax.paths import expand


def main(arguments: Sequence[str]) -> int:
    """Compares runs and returns the exit status; the program's name is the first argument."""
    return guard.one_line_errors(lambda: _compare(*arguments))


def _compare(program: str, *arguments: str) -> None:
    parser = Parser(program, __doc__.format(program=program))
    parser.add_argument('runs', metavar='RUN', nargs='*', help='run directory')
    parser.add_argument('--output', metavar='DIR', help='folder for the files')
    options = parser.parse(arguments)
    if options is None:
        return
    runs = comparison.load(options.runs)
    compared = comparison.compare(runs)
    if options.output is not None:
        folder = expand(options.output)
        comparison.write(compared, folder)
        log(f'wrote {folder / "comparison.html"}, and .md, .csv and .png beside it')
    guard.print_text(comparison.render_markdown(compared).rstrip())

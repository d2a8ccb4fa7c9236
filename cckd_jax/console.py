"""Messages for the user."""

import sys

from tqdm import tqdm

_is_silent = False


def log(text: str) -> None:
    """Prints a line on stderr, above any progress bar, unless this process is silent."""
    if not _is_silent:
        tqdm.write(text, file=sys.stderr)


def silence() -> None:
    """Makes `log` print nothing: of several processes that train together, one reports."""
    global _is_silent
    _is_silent = True

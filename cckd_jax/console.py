"""Messages for the user."""

import sys

from tqdm import tqdm


def log(text: str) -> None:
    """Prints a line on stderr, above any progress bar."""
    tqdm.write(text, file=sys.stderr)

"""One line for the user, on stderr."""

import sys

from tqdm import tqdm


def say(text: str) -> None:
    """Prints a line above any progress bar."""
    tqdm.write(text, file=sys.stderr)

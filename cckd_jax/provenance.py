"""What a result was computed with: the commit of the code and the versions of packages."""

import importlib.metadata
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def commit(root: Path = ROOT) -> str | None:
    """Returns the commit of the checkout at `root`, with `-dirty` if files differ; None if it is no checkout.

    Git is asked only about the root of a checkout: an installed package may lie inside another repository.
    """
    if not (root / '.git').exists():
        return None
    command = ['git', '-C', str(root), 'describe', '--always', '--dirty', '--abbrev=40', '--match=']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns the installed versions of packages.

    >>> list(versions(['jax', 'flax']))
    ['jax', 'flax']
    """
    return {package: importlib.metadata.version(package) for package in packages}

"""What a result was computed with: the commit of the code and the versions of packages."""

import importlib.metadata
import subprocess
from collections.abc import Iterable
from pathlib import Path

from cckd_jax import __version__

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
    """Returns the versions of packages; this one's own also where it is on the path without being installed.

    >>> list(versions(['cckd-jax', 'jax']))
    ['cckd-jax', 'jax']
    """
    own = {'cckd-jax': __version__}
    return {package: own.get(package) or importlib.metadata.version(package) for package in packages}

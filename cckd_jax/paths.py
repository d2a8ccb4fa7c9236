"""Paths that users give."""

from pathlib import Path

from cckd_jax.errors import InputError


def expand(path: str | Path) -> Path:
    """Returns the path with a leading `~` or `~user` replaced by that user's home folder.

    Raises:
      InputError: there is no such user.

    >>> expand('runs/digits').as_posix()
    'runs/digits'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = Path(path).parts[0]
        raise InputError(f'{path}: {user} is not the home folder of any user; give a full path, or ./{path}') from None

"""Paths that users give, and the names of the folders in a run directory."""

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


def network_names(kind: str, count: int) -> list[str]:
    """Returns the names of the teachers or students of a run, which are those of their folders.

    >>> network_names('student', 1), network_names('teacher', 2)
    (['student'], ['teacher_0', 'teacher_1'])
    """
    return [kind] if count == 1 else [f'{kind}_{index}' for index in range(count)]

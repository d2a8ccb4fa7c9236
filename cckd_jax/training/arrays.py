"""Arrays in files: written whole or not at all, and one clear line for whatever cannot be read."""

import os
import zipfile
from pathlib import Path

import numpy as np

from cckd_jax.errors import InputError


def save(path: Path, **arrays: np.ndarray) -> None:
    """Writes an `.npz` through a temporary name, so that a reader never sees half a file."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    with temporary.open('wb') as file:
        np.savez(file, **arrays)
    temporary.replace(path)


def load(path: Path, *, what: str, alone: str) -> dict[str, np.ndarray]:
    """Reads an `.npz`, or an `.npy` as the one array that is named `alone`.

    Args:
      path: of the file.
      what: is in it, for the message that it is not there.
      alone: name of an array that comes without one.

    Raises:
      InputError: there is no such file, or it is damaged.
    """
    try:
        with path.open('rb') as file:
            loaded = np.load(file, allow_pickle=False)
            return {alone: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except FileNotFoundError:
        raise InputError(f'no file of {what} at {path}') from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f'{path} cannot be read as .npz or .npy ({type(error).__name__}); delete it or name another'
        ) from None

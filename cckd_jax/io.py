"""Files of text, JSON and arrays, written atomically; a failed read or write is an `InputError` of one line."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cckd_jax.errors import InputError

TEMPORARY = '.*.tmp'  # glob of the temporary names that `atomic_write` uses

# tensorstore reports a full disk as text in a ValueError or a RuntimeError.
_DISK_IS_FULL = ('No space left on device', 'Disk quota exceeded', 'RESOURCE_EXHAUSTED')


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces `path` when the block succeeds.

    The data reaches the disk before the name does, so that neither a killed process nor a crash of the machine leaves
    half a file. If the block fails, the temporary file is removed and `path` is unchanged.

    Args:
      path: the file to write.

    Yields:
      The open file.

    Raises:
      InputError: the file cannot be written, for example because the disk is full.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with write_errors(path), temporary.open('wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raises an InputError of one line if the block fails to write `path`.

    Other exceptions pass unchanged. Orbax and tensorstore report a full disk as a ValueError or a RuntimeError, which
    are recognised by their text.
    """
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        if _disk_is_full(error):
            raise _no_space(path) from None
        if isinstance(error, OSError):
            raise InputError(f'cannot write {path} ({error.strerror or error})') from None
        raise


def check_free_space(path: Path, size: int) -> None:
    """Raises InputError if the disk of an existing `path` has less than `size` bytes free.

    Quotas are not seen: they are reported by the write itself.
    """
    (total, _, free) = shutil.disk_usage(path)
    if total and free < size:
        raise _no_space(path)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_write(path) as file:
        file.write(text.encode('utf-8'))


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically.

    Raises:
      ValueError: the value contains NaN or infinity, which JSON does not have.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + '\n')


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes an `.npz` file atomically."""
    with atomic_write(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # a name may also be numpy's flag allow_pickle


def load_arrays(path: Path, *, description: str, default_key: str) -> dict[str, np.ndarray]:
    """Reads the arrays of an `.npz` file, or the single array of an `.npy` file.

    Args:
      path: the file.
      description: what the arrays are, for messages.
      default_key: the name that the array of an `.npy` file gets.

    Raises:
      InputError: the file does not exist or is not an intact `.npz` or `.npy` file.
    """
    try:
        with path.open('rb') as file:
            loaded = np.load(file, allow_pickle=False)
            return {default_key: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except FileNotFoundError:
        raise InputError(f'no file of {description} at {path}') from None
    except Exception as error:  # numpy, zipfile and zlib each raise their own, and MemoryError for a damaged header
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise InputError(
            f'cannot read {description} from {path} ({reason}): it is damaged, or not an .npz or .npy file of numbers'
        ) from None


def _no_space(path: Path) -> InputError:
    return InputError(f'no space left on the disk while writing {path}; free some space and repeat the command')


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(text in str(error) for text in _DISK_IS_FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def check_folder(folder: Path, flag: str) -> None:
    """Creates a folder for files that are written later.

    Args:
      folder: to create, with its parents.
      flag: that names it on the command line, for the message.

    Raises:
      InputError: it cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'cannot write to {flag}={folder} ({error.strerror}); give another folder') from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f'cannot write to {flag}={folder} (no permission); give another folder')

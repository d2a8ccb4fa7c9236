"""The run directory: locked by one process, bound to one configuration, and resumable at any moment."""

import contextlib
import fcntl
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from cckd_jax import config as settings, io
from cckd_jax.errors import InputError

_FOLDERS = re.compile(r'(teacher|student)(_\d+)?|separate|evaluation|figures')
_FOLDERS_OF_NETWORK = ('checkpoints',)
_FILES = (
    *('config.json', 'results.json', 'report.md', 'report.html', 'tracker.json'),
    *('teacher_outputs.npz', 'significance.npz', 'transfer_set.npz'),
)
_FILES_OF_NETWORK = ('metrics.jsonl',)


@contextlib.contextmanager
def lock_workdir(
    workdir: Path, config: ConfigDict, *, may_differ: Sequence[str] = ('dataset.data_dir',)
) -> Iterator[frozenset[str]]:
    """Creates the run directory and locks it while the block runs; removes a new one in which the block wrote nothing.

    Args:
      workdir: the run directory.
      config: the configuration of this run.
      may_differ: settings, or groups of them such as `evaluate`, that a resumed run may change. The location of the
        data is one by default: the cached teacher outputs have a key that covers the data itself.

    Yields:
      The settings of `may_differ` that differ from the `config.json` of the directory; empty for a new directory.

    Raises:
      InputError: the directory is not writable, is locked by another process, holds a run with another configuration,
        or contains a file where the run needs a folder, or the reverse.
    """
    created = not workdir.exists()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
        lock = (workdir / '.lock').open('a')
    except OSError as error:
        raise InputError(f'cannot use workdir {workdir} ({error}); give another --workdir') from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f'{workdir} is in use by another process; wait for it, or give another --workdir'
            ) from None
        _check_entries(workdir)
        changed = _changed_settings(workdir, config)
        for name in sorted(changed):
            if not any(name == allowed or name.startswith(f'{allowed}.') for allowed in may_differ):
                (old, new) = changed[name]
                raise InputError(
                    f'{workdir} holds a run with {name}={old}, this one has {new}; '
                    'give another --workdir, or the config of that run'
                )
        _remove_temporaries(workdir)
        try:
            yield frozenset(changed)
        finally:
            if created and [entry.name for entry in workdir.iterdir()] == ['.lock']:
                # Another process may use the directory by now.
                with contextlib.suppress(OSError):
                    (workdir / '.lock').unlink()
                    workdir.rmdir()


def _check_entries(workdir: Path) -> None:
    for entry in workdir.iterdir():
        if _FOLDERS.fullmatch(entry.name):
            _check_kind(entry, folder=True)
            for name in _FOLDERS_OF_NETWORK:
                _check_kind(entry / name, folder=True)
            for name in _FILES_OF_NETWORK:
                _check_kind(entry / name, folder=False)
        elif entry.name in _FILES:
            _check_kind(entry, folder=False)


def _check_kind(entry: Path, *, folder: bool) -> None:
    if entry.exists() and entry.is_dir() != folder:
        kinds = ('a file', 'a folder') if folder else ('a folder', 'a file')
        raise InputError(f'{entry} is {kinds[0]}; a run keeps {kinds[1]} there; remove it, or give another --workdir')


def _changed_settings(workdir: Path, config: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns (old, new) for each setting that differs from the `config.json` of the directory."""
    path = workdir / 'config.json'
    if not path.exists():
        return {}
    try:
        loaded = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(loaded, dict):
            raise ValueError('it is not a JSON object')
        # A setting that is younger than the run had its default value.
        old = _flat(settings.as_dict(settings.default())) | _flat(loaded)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f'cannot use workdir {workdir} ({path.name}: {error}); give another --workdir') from None
    new = _flat(settings.as_dict(config))
    return {name: (old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)}


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    return flatten_dict(values, sep='.')


def _remove_temporaries(workdir: Path) -> None:
    """Removes unfinished files of killed processes."""
    for pattern in (io.TEMPORARY, f'*/{io.TEMPORARY}'):
        for path in workdir.glob(pattern):
            path.unlink(missing_ok=True)

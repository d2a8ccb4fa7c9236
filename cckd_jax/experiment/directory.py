"""The run directory: one config's, one process's, and whole or resumable at any moment."""

import contextlib
import fcntl
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cckd_jax import config as settings
from cckd_jax.errors import InputError


@contextlib.contextmanager
def opened(workdir: Path, config: ConfigDict) -> Iterator[None]:
    """Makes the workdir, holds it for this process, and refuses one that is another config's.

    Raises:
      InputError: it cannot be written to, is in use, or holds a run of another config.
    """
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
        _check_config(workdir, config)
        yield


def _check_config(workdir: Path, config: ConfigDict) -> None:
    path = workdir / 'config.json'
    if not path.exists():
        return
    try:
        found = _flat(json.loads(path.read_text(encoding='utf-8')))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f'cannot use workdir {workdir} ({error}); give another --workdir') from None
    wanted = _flat(settings.as_dict(config))
    for name in sorted(found.keys() | wanted.keys()):
        # Data may have moved; the teacher outputs' key notices if it changed.
        if name != 'dataset.data_dir' and found.get(name) != wanted.get(name):
            raise InputError(
                f'{workdir} holds a run with {name}={found.get(name)}, this one has {wanted.get(name)}; '
                'give another --workdir, or the config that it was begun with'
            )


def _flat(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        flat |= _flat(value, f'{prefix}{name}.') if isinstance(value, dict) else {f'{prefix}{name}': value}
    return flat

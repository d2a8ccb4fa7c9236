"""The state of unfinished work in a file, so that an interrupted synthesis goes on."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from flax import serialization

from cckd_jax import io
from cckd_jax.errors import InputError


class Partial:
    """A pytree of arrays in one file, written atomically at most every `seconds`."""

    def __init__(self, path: Path, key: str, seconds: float = 10.0):
        """Remembers where the state is; reads and writes nothing.

        Args:
          path: of the file.
          key: a digest of everything that the state depends on; a file with another key counts as missing.
          seconds: time between two writes.
        """
        self._path, self._key, self._seconds = path, key, seconds
        self._saved = time.monotonic()

    def load(self) -> Any:
        """The state that was saved last, of dicts and arrays; None if there is none or it cannot be read."""
        try:
            arrays = io.load_arrays(self._path, description='unfinished samples', default_key='state')
        except InputError:
            return None
        if str(arrays.get('key')) != self._key or 'state' not in arrays:
            return None
        return serialization.msgpack_restore(arrays['state'].tobytes())

    def save(self, state: Any) -> None:
        """Writes a state of dicts and arrays, unless the last write is less than `seconds` ago."""
        if time.monotonic() - self._saved < self._seconds:
            return
        packed = np.frombuffer(serialization.to_bytes(state), np.uint8)
        io.save_arrays(self._path, state=packed, key=np.array(self._key))
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Removes the file, once the work is done."""
        self._path.unlink(missing_ok=True)

"""The user's cache folder: files that any run can reuse or compute again."""

import contextlib
import hashlib
import os
from pathlib import Path

import jax
from jax._src import compilation_cache
from jax._src.compilation_cache_interface import CacheInterface

from cckd_jax import cpu, io
from cckd_jax.console import log
from cckd_jax.errors import InputError

_DIGEST_BYTES = 32


def folder() -> Path:
    """`$XDG_CACHE_HOME/cckd_jax`, or `~/.cache/cckd_jax`; made if possible, and readable by its owner alone.

    Compiled programs are native code that JAX loads unchecked, so other users must not be able to replace them.
    """
    path = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'cckd_jax'
    # Whoever writes into the folder reports the error, if it matters to them.
    with contextlib.suppress(OSError):
        path.mkdir(parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
    return path


def keep_compiled_programs() -> None:
    """Lets JAX keep compiled programs, so that a second run starts in seconds; JAX's own settings take precedence.

    A damaged program is compiled again, with a message.

    The folder depends on the number of cores. XLA divides a program among the cores on which it is compiled, but leaves
    their number out of the key: a program from one core would stay on one core (a step in 22 ms, not 16 ms on two).
    """
    if jax.config.values['jax_compilation_cache_dir'] is None:
        programs = folder() / 'compiled' / f'{len(cpu.cores())}_cores'
        jax.config.update('jax_compilation_cache_dir', str(programs))
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
        # JAX has no public way to replace its cache. Versions without this function keep unchecked programs.
        if hasattr(compilation_cache, 'get_file_cache'):
            compilation_cache.get_file_cache = lambda path: (CheckedPrograms(Path(path)), path)


class CheckedPrograms(CacheInterface):
    """Compiled programs in files that begin with a digest of the rest.

    JAX's own files have no digest, so that a flipped bit can change a program; they are written in place, so that a
    killed process leaves half a file; and JAX never replaces a file.

    Args:
      path: the folder.
    """

    def __init__(self, path: Path):
        self._path = path

    def get(self, key: str) -> bytes | None:
        """Returns the program, or None without an intact file."""
        path = self._path / key
        try:
            content = path.read_bytes()
        except OSError:
            return None
        (digest, program) = (content[:_DIGEST_BYTES], content[_DIGEST_BYTES:])
        if digest == hashlib.sha256(program).digest():
            return program
        log(f'the compiled program {path} is damaged; compiling it again')
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def put(self, key: str, value: bytes) -> None:
        """Writes a program; without space, it is compiled again next time."""
        with contextlib.suppress(OSError, InputError):
            self._path.mkdir(parents=True, exist_ok=True)
            with io.atomic_write(self._path / key) as file:
                file.write(hashlib.sha256(value).digest() + value)

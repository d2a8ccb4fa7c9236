"""The user's cache folder: files that any run can reuse or compute again."""

import contextlib
import os
from pathlib import Path

import jax

from cckd_jax import cpu


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

    The folder depends on the number of cores. XLA divides a program among the cores on which it is compiled, but leaves
    their number out of the key: a program from one core would stay on one core (a step in 22 ms, not 16 ms on two).
    """
    if jax.config.values['jax_compilation_cache_dir'] is None:
        programs = folder() / 'compiled' / f'{len(cpu.cores())}_cores'
        jax.config.update('jax_compilation_cache_dir', str(programs))
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)

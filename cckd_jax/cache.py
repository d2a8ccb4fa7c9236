"""The user's cache folder: derived files that any run may reuse and any hand may delete."""

import os
from pathlib import Path

import jax

from cckd_jax import cpu


def folder() -> Path:
    """`$XDG_CACHE_HOME/cckd_jax`, or `~/.cache/cckd_jax`."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'cckd_jax'


def keep_compiled_programs() -> None:
    """Lets JAX keep what it compiles, so that a second run starts in seconds; JAX's own settings win where given.

    Apart by the number of cores: XLA divides a program's work among those that it is compiled on and leaves that out of
    the key, so that a program from one core would run on that one alone ever after (a step in 22 ms, not 16, on two).
    """
    if jax.config.jax_compilation_cache_dir is None:
        place = folder() / 'compiled' / f'{len(cpu.cores())}_cores'
        jax.config.update('jax_compilation_cache_dir', str(place))
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)

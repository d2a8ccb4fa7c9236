"""The user's cache folder: derived files that any run may reuse and any hand may delete."""

import os
from pathlib import Path

import jax


def folder() -> Path:
    """`$XDG_CACHE_HOME/cckd_jax`, or `~/.cache/cckd_jax`."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'cckd_jax'


def keep_compiled_programs() -> None:
    """Lets JAX keep what it compiles, so that a second run starts in seconds; JAX's own settings win where given."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update('jax_compilation_cache_dir', str(folder() / 'compiled'))
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)

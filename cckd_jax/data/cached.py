"""Arrays in the user's cache folder."""

import contextlib
import uuid
from collections.abc import Callable

import numpy as np

from cckd_jax import cache
from cckd_jax.console import log


def cached_arrays(
    name: str,
    compute: Callable[[], dict[str, np.ndarray]],
    is_valid: Callable[[dict[str, np.ndarray]], bool],
) -> dict[str, np.ndarray]:
    """Returns arrays from the cache, or computes them and writes them to the cache.

    Args:
      name: of the cached file; it has a key of everything that the arrays depend on.
      compute: makes the arrays.
      is_valid: whether cached arrays are what `compute` promises. A cached file that cannot be read or is not valid is
        replaced.
    """
    path = cache.folder() / 'decoded' / f'{name}.npz'
    try:
        # Opened here, because numpy does not close a damaged file that it opened itself.
        with path.open('rb') as file, np.load(file) as archive:
            arrays = dict(archive)
        if is_valid(arrays):
            return arrays
        log(f'the cached file {path} does not hold what it should; computing it again')
    except FileNotFoundError:
        pass
    except Exception as error:  # numpy, zipfile and zlib each raise their own
        log(f'the cached file {path} is damaged ({type(error).__name__}); computing it again')
    arrays = compute()
    # A run does not depend on its cache being writable.
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f'.{uuid.uuid4().hex}')
        try:
            with temporary.open('wb') as output:
                np.savez(output, **arrays)  # type: ignore[arg-type]  # a name may also be numpy's flag allow_pickle
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return arrays

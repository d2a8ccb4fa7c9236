"""Any function of images over a whole split, in batches over all devices, every example counted once."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from cckd_jax.data import to_unit
from cckd_jax.models import Network


def over_batches(
    function: Callable[..., Any],
    constants: Any,
    arrays: Sequence[np.ndarray],
    *,
    devices: Sequence[jax.Device] | None = None,
    batch_size: int = 2048,
    title: str = 'evaluating',
) -> Any:
    """Applies `function(constants, *rows)` to rows of the arrays, whatever number there is of them.

    Args:
      function: pure, row by row: `[b, ...]` arrays to a pytree of `[b, ...]`.
      constants: a pytree that every device gets whole.
      arrays: equally long, `[N, ...]`.
      devices: all local ones when None.
      batch_size: rows at a time over all devices; the last batch is filled up and the filling dropped.
      title: of the progress bar.

    Returns:
      The pytree of numpy arrays `[N, ...]`.
    """
    devices = list(devices or jax.local_devices())
    count = len(arrays[0])
    share = -(-min(batch_size, count) // len(devices))
    size = share * len(devices)
    mapped = _pmapped(function, len(arrays), tuple(devices))
    results = []
    for start in tqdm(range(0, count, size), title, leave=False, disable=None, delay=2):
        rows = [array[start : start + size] for array in arrays]
        found = jax.device_get(mapped(constants, *(_split(row, len(devices), share) for row in rows)))
        results.append(jax.tree.map(lambda leaf: leaf.reshape(size, *leaf.shape[2:]), found))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)


def predict(network: Network, images: np.ndarray, *, devices: Sequence[jax.Device] | None = None) -> np.ndarray:
    """Logits float32 `[N, C]` of uint8 images `[N, H, W, C]`, in inference mode.

    >>> import jax, numpy as np
    >>> from cckd_jax import models
    >>> images = np.zeros((5, 28, 28, 1), np.uint8)
    >>> lenet = models.create('lenet5_half')
    >>> predict(models.Network(lenet, lenet.init(jax.random.key(0), images / 255.0)), images).shape
    (5, 10)
    """
    return over_batches(_logits_function(network.module), network.variables, [images], devices=devices)


@functools.lru_cache
def _logits_function(module: nn.Module) -> Callable[[Any, chex.Array], chex.Array]:
    return lambda variables, pixels: Network(module, variables)(to_unit(pixels)).astype(jnp.float32)


@functools.lru_cache
def _pmapped(function: Callable[..., Any], count: int, devices: tuple[jax.Device, ...]) -> Callable[..., Any]:
    # Kept, because a new pmap of the same function is traced and compiled again.
    return jax.pmap(function, in_axes=(None, *([0] * count)), devices=devices)


def _split(rows: np.ndarray, devices: int, share: int) -> np.ndarray:
    filling = [(0, devices * share - len(rows)), *([(0, 0)] * (rows.ndim - 1))]
    return np.pad(rows, filling, mode='edge').reshape(devices, share, *rows.shape[1:])

"""Any function of images over a whole split, in batches over all devices, every example counted once."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from cckd_jax.data import to_unit
from cckd_jax.models import Network


def batched(
    function: Callable[..., Any],
    *,
    arrays: int = 1,
    devices: Sequence[jax.Device] | None = None,
    batch_size: int = 2048,
    title: str = 'evaluating',
) -> Callable[..., Any]:
    """Makes `function(constants, *rows)` applicable to any number of rows; compiled once for all its calls.

    Args:
      function: pure, row by row: `[b, ...]` arrays to a pytree of `[b, ...]`.
      arrays: how many arrays of rows it takes.
      devices: all local ones when None.
      batch_size: rows at a time over all devices; the last batch is filled up and the filling dropped.
      title: of the progress bar.

    Returns:
      `(constants, *arrays)`, a pytree that every device gets whole and numpy arrays `[N, ...]`, to a pytree of numpy
      arrays `[N, ...]`.
    """
    devices = list(devices or jax.local_devices())
    mapped = jax.pmap(function, in_axes=(None, *([0] * arrays)), devices=devices)

    def apply(constants: Any, *rows: np.ndarray) -> Any:
        count = len(rows[0])
        share = -(-min(batch_size, count) // len(devices))
        size = share * len(devices)
        results = []
        for start in tqdm(range(0, count, size), title, leave=False, disable=None, delay=2):
            parts = (_split(each[start : start + size], len(devices), share) for each in rows)
            found = jax.device_get(mapped(constants, *parts))
            results.append(jax.tree.map(lambda leaf: leaf.reshape(size, *leaf.shape[2:]), found))
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)

    return apply


def predictor(
    module: nn.Module, *, devices: Sequence[jax.Device] | None = None
) -> Callable[[Any, np.ndarray], np.ndarray]:
    """`(variables, images)` to logits, as `predict`, for variables that change; compiled once for equal modules."""
    devices = tuple(devices or jax.local_devices())
    try:
        return _predictor(module, devices)
    except TypeError:  # a field of a user's module may have no hash
        return _predictor.__wrapped__(module, devices)


def predict(network: Network, images: np.ndarray, *, devices: Sequence[jax.Device] | None = None) -> np.ndarray:
    """Logits float32 `[N, C]` of uint8 images `[N, H, W, C]`, in inference mode.

    >>> import jax, numpy as np
    >>> from cckd_jax import models
    >>> images = np.zeros((5, 28, 28, 1), np.uint8)
    >>> lenet = models.create('lenet5_half')
    >>> predict(models.Network(lenet, lenet.init(jax.random.key(0), images / 255.0)), images).shape
    (5, 10)
    """
    return predictor(network.module, devices=devices)(network.variables, images)


# The runs of a study ask the same few networks again and again.
@functools.lru_cache(maxsize=8)
def _predictor(module: nn.Module, devices: tuple[jax.Device, ...]) -> Callable[[Any, np.ndarray], np.ndarray]:
    return batched(
        lambda variables, pixels: Network(module, variables)(to_unit(pixels)).astype(jnp.float32), devices=devices
    )


def _split(rows: np.ndarray, devices: int, share: int) -> np.ndarray:
    filling = [(0, devices * share - len(rows)), *([(0, 0)] * (rows.ndim - 1))]
    return np.pad(rows, filling, mode='edge').reshape(devices, share, *rows.shape[1:])

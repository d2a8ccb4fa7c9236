"""Batched computation over a whole split on all devices, counting every example exactly once."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from cckd_jax.data import Images, consecutive_batches, to_unit
from cckd_jax.memoize import memoize
from cckd_jax.models import Network

# A batch takes no more memory than this. It matters for images above 64x64, whose activations take many times as much.
_BATCH_BYTES = 2**25


def map_dataset(
    function: Callable[..., Any],
    *,
    arrays: int = 1,
    devices: Sequence[jax.Device] | None = None,
    batch_size: int = 2048,
    title: str = 'evaluating',
) -> Callable[..., Any]:
    """Maps `function(constants, *rows)` over any number of rows, and compiles it once for all calls.

    Args:
      function: pure, and independent from row to row: arrays `[b, ...]` to a pytree of arrays `[b, ...]`.
      arrays: number of row arrays that the function takes.
      devices: all local devices if None.
      batch_size: rows per batch over all devices, fewer if they would take more than 32 MiB. The last batch is padded,
        and the padding is dropped.
      title: label of the progress bar.

    Returns:
      A function `(constants, *arrays)`. `constants` is a pytree that is passed whole to every device, the arrays are
      numpy `[N, ...]`, or images on the disk. It returns a pytree of numpy arrays `[N, ...]`.

    >>> scale = map_dataset(lambda factor, x: factor * x, batch_size=2)
    >>> scale(np.float32(2), np.arange(3, dtype=np.float32)).tolist()
    [0.0, 2.0, 4.0]
    """
    devices = list(devices or jax.local_devices())
    mapped = jax.pmap(function, in_axes=(None, *([0] * arrays)), devices=devices)

    def apply(constants: Any, *rows: Images) -> Any:
        count = len(rows[0])
        row_bytes = sum(int(np.prod(array.shape[1:])) * array.dtype.itemsize for array in rows)
        largest = max(1, min(batch_size, _BATCH_BYTES // max(1, row_bytes)))
        per_device = -(-min(largest, count) // len(devices))
        size = per_device * len(devices)
        results = []
        batches = zip(*(consecutive_batches(array, size) for array in rows), strict=True)
        for batch in tqdm(batches, title, total=-(-count // size), leave=False, disable=None, delay=2):
            outputs = jax.device_get(mapped(constants, *(_split(array, len(devices), per_device) for array in batch)))
            results.append(jax.tree.map(lambda leaf: leaf.reshape(size, *leaf.shape[2:]), outputs))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *results)

    return apply


def make_predict(
    module: nn.Module, *, devices: Sequence[jax.Device] | None = None
) -> Callable[[Any, Images], np.ndarray]:
    """`predict` as a function of `(variables, images)`, for variables that change; compiled once for equal modules."""
    return _make_predict(module, tuple(devices or jax.local_devices()))


def predict(network: Network, images: Images, *, devices: Sequence[jax.Device] | None = None) -> np.ndarray:
    """Logits float32 `[N, C]` of uint8 images `[N, H, W, C]`, in inference mode.

    >>> import jax, numpy as np
    >>> from cckd_jax import models
    >>> images = np.zeros((5, 28, 28, 1), np.uint8)
    >>> lenet = models.create('lenet5_half')
    >>> predict(models.Network(lenet, lenet.init(jax.random.key(0), images / 255.0)), images).shape
    (5, 10)
    """
    return make_predict(network.module, devices=devices)(network.variables, images)


# The runs of a study evaluate the same few architectures again and again.
@memoize
def _make_predict(module: nn.Module, devices: tuple[jax.Device, ...]) -> Callable[[Any, Images], np.ndarray]:
    return map_dataset(
        lambda variables, pixels: Network(module, variables)(to_unit(pixels)).astype(jnp.float32), devices=devices
    )


def _split(rows: np.ndarray, devices: int, per_device: int) -> np.ndarray:
    padding = [(0, devices * per_device - len(rows)), *([(0, 0)] * (rows.ndim - 1))]
    return np.pad(rows, padding, mode='edge').reshape(devices, per_device, *rows.shape[1:])

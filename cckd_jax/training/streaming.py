"""Batches of images on the disk, as the third argument of a step, on the devices one batch ahead."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from cckd_jax import processes
from cckd_jax.data import Images, StoredImages, read_batches
from cckd_jax.training.batch import StreamedRows

# From the indices of each call of a step, `[devices, B / devices]`, to its third argument, which in several processes
# holds the images of this process's devices only.
Stream = Callable[[Iterable[np.ndarray]], Iterator[Any]]


def make_stream(images: Images, devices: Sequence[jax.Device]) -> Stream:
    """Returns what supplies a step with images: nothing more than the indices for images that are on the devices.

    Args:
      images: of the training set.
      devices: of this process; the first axis of the indices is split over those of all processes.
    """
    if not isinstance(images, StoredImages):
        return iter
    mesh = jax.sharding.Mesh(np.asarray(devices), ('batch',))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('batch'))

    def stream(batches: Iterable[np.ndarray]) -> Iterator[StreamedRows]:
        order = [processes.own_rows(indices) for indices in batches]
        ahead = None
        # The copy of a batch to the devices runs while they compute the one before it.
        for indices, pixels in zip(order, read_batches(images, order), strict=True):
            current, ahead = ahead, StreamedRows(indices, jax.device_put(pixels, sharding))
            if current is not None:
                yield current
        if ahead is not None:
            yield ahead

    return stream

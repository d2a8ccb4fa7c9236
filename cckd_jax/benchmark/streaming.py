"""The job of the suite `streaming`: batches of images on the disk against plain reading of their files."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cckd_jax import data, training
from cckd_jax.data import pixels, prepare

_SHAPE = (224, 224, 3)
_BLOCK = 2**24  # bytes of one read
_SMALLEST = 1e-9  # GiB, less than any data set


def streaming(source: str, data_dir: str | None, folder: str, batch_size: int, count: int) -> Iterator[dict[str, Any]]:
    """Measures seconds to bring all images to the devices in the order of an epoch, and to read their files.

    Before both, the files leave the system's cache where it allows that, as those of data larger than memory do.

    Args:
      source: `pixels` for decoded images of 224x224x3, which a folder of images is converted to, or the name of a data
        set that TFDS prepared, whose images are decoded again in every epoch.
      data_dir: of the data set.
      folder: for the file of pixels.
      batch_size: over all devices.
      count: images of `pixels`.
    """
    (images, files) = _pixels(Path(folder), count) if source == 'pixels' else _prepared(source, data_dir)
    devices = jax.local_devices()
    stream = training.make_stream(images, devices)
    batch_size = min(batch_size, len(images) // len(devices) * len(devices))
    epoch = 0
    while True:
        _leave_cache(files)
        started = time.perf_counter()
        _read(files)
        read = time.perf_counter() - started
        _leave_cache(files)
        started = time.perf_counter()
        order = data.epoch_batches(np.arange(len(images)), batch_size=batch_size, seed=0, epoch=epoch)
        for rows in stream(indices.reshape(len(devices), -1) for indices in order):
            jax.block_until_ready(rows.images)
        streamed = time.perf_counter() - started
        epoch += 1
        yield {'images': len(images), 'read_seconds': read, 'seconds': streamed}


def _pixels(folder: Path, count: int) -> tuple[data.StoredImages, Sequence[Path]]:
    draw = lambda row: np.random.default_rng(row).integers(0, 256, _SHAPE, np.uint8)
    path = folder / f'pixels-{count}.array_record'
    (records, _) = pixels.stored_pixels(path, (count, *_SHAPE), draw)
    return data.StoredImages(records, str(path)), [path]


def _prepared(name: str, data_dir: str | None) -> tuple[data.StoredImages, Sequence[Path]]:
    images = data.load(name, data_dir=data_dir, memory_gib=_SMALLEST).train.images
    assert isinstance(images, data.StoredImages)
    builder = data.prepared_digits() if name == 'digits' else prepare.open_builder(name, data_dir)
    return images, [Path(path) for path in builder.info.splits['train'].filepaths]


def _read(files: Sequence[Path]) -> None:
    block = bytearray(_BLOCK)
    for path in files:
        with path.open('rb', buffering=0) as file:
            while file.readinto(block):
                pass


def _leave_cache(files: Sequence[Path]) -> None:
    if hasattr(os, 'posix_fadvise'):
        for path in files:
            with path.open('rb') as file:
                os.fsync(file.fileno())  # pages that are not written yet would stay
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

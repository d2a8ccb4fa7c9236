"""Splits of a data set that TFDS prepared as ArrayRecord: decoded once into memory, or read from the disk by index."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from cckd_jax.data.cached import cached_arrays
from cckd_jax.data.decoded import folder_key
from cckd_jax.data.split import Split
from cckd_jax.data.stored import StoredImages
from cckd_jax.errors import InputError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_CHUNK = 1000


def read_split(builder: 'tfds.core.DatasetBuilder', split: str) -> Split:
    """Decodes a split into memory.

    Raises:
      InputError: a file cannot be read, or a label is out of range.
    """
    images = np.empty(split_shape(builder, split), np.uint8)
    labels = np.empty(len(images), np.int32)
    with _read_errors(builder, split):
        for row, example in _examples(builder, split):
            images[row], labels[row] = example['image'], example['label']
    _check_labels(builder, split, labels)
    return Split(images, labels)


def stored_split(builder: 'tfds.core.DatasetBuilder', split: str) -> Split:
    """A split whose images are decoded when they are indexed; its labels are read once and kept in the cache.

    Raises:
      InputError: a file cannot be read, or a label is out of range.
    """
    folder = Path(builder.data_dir)
    shape = split_shape(builder, split)
    key = f'{folder.parent.name}-{split}-{folder_key(folder)}'
    arrays = cached_arrays(
        f'labels-{key}',
        lambda: {'labels': _read_labels(builder, split)},
        lambda arrays: arrays['labels'].shape == shape[:1] and arrays['labels'].dtype == np.int32,
    )
    _check_labels(builder, split, arrays['labels'])
    return Split(StoredImages(_Records(builder, split), key), arrays['labels'])


def split_shape(builder: 'tfds.core.DatasetBuilder', split: str) -> tuple[int, ...]:
    """`[N, H, W, C]` of the images of a split."""
    return (builder.info.splits[split].num_examples, *builder.info.features['image'].shape)


class _Records:
    """Images of a split by row, decoded when they are read."""

    def __init__(self, builder: 'tfds.core.DatasetBuilder', split: str):
        self.shape = split_shape(builder, split)
        self._builder = builder
        self._split = split
        with _read_errors(builder, split):
            self._source = builder.as_data_source(split=split)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        with _read_errors(self._builder, self._split):
            for image, example in zip(images, self._source.__getitems__(rows.tolist()), strict=True):
                image[...] = example['image']
        return images


def _read_labels(builder: 'tfds.core.DatasetBuilder', split: str) -> np.ndarray:
    labels = np.empty(split_shape(builder, split)[0], np.int32)
    with _read_errors(builder, split):
        for row, example in _examples(builder, split, skip_images=True):
            labels[row] = example['label']
    return labels


def _examples(
    builder: 'tfds.core.DatasetBuilder', split: str, *, skip_images: bool = False
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    import tensorflow_datasets as tfds  # takes a second

    source = builder.as_data_source(
        split=split, decoders={'image': tfds.decode.SkipDecoding()} if skip_images else None
    )
    starts = range(0, len(source), _CHUNK)
    for start in tqdm(starts, f'reading {builder.name} {split}', leave=False, disable=None):
        yield from enumerate(source.__getitems__(range(start, min(start + _CHUNK, len(source)))), start)


@contextlib.contextmanager
def _read_errors(builder: 'tfds.core.DatasetBuilder', split: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged file raises anything
        raise InputError(
            f'cannot read {split} of {builder.name!r} at {builder.data_dir} '
            f'({type(error).__name__}: {str(error).splitlines()[0] if str(error) else "no message"}); '
            'prepare it again, or set dataset.data_dir to an intact copy'
        ) from error


def _check_labels(builder: 'tfds.core.DatasetBuilder', split: str, labels: np.ndarray) -> None:
    classes = builder.info.features['label'].num_classes
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        raise InputError(f'labels of {builder.name!r} {split} must be in [0, {classes})')

"""Data sets as uint8 arrays in memory, read once through `tfds.data_source`."""

import contextlib
import functools
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from cckd_jax import cache
from cckd_jax.data import decoded, prepare
from cckd_jax.data.digits import SHAPES, Digits, config_name
from cckd_jax.data.npz import read_npz
from cckd_jax.data.split import Split
from cckd_jax.errors import InputError

_CHUNK = 1000


class Dataset(NamedTuple):
    """A data set to distil on.

    Attributes:
      name: how results call it.
      num_classes: C.
      train, test: its splits.
      validation: what was held out of the training set; empty unless a fraction was asked for.
      rows: int `[N]`, where the training examples stand in the data set's own order.
      source_size: how many training examples the data set has before any was left out.
    """

    name: str
    num_classes: int
    train: Split
    validation: Split
    test: Split
    rows: np.ndarray
    source_size: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)`."""
        return self.train.images.shape[1:]


def load(
    name: str,
    *,
    data_dir: str | None = None,
    image_shape: tuple[int, int, int] = (28, 28, 1),
    examples: int | None = None,
    validation_fraction: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Reads a data set into memory.

    Args:
      name: `digits`, a TFDS image classification set with the splits train and test, or the path of an `.npz` with
        x_train, y_train, x_test and y_test.
      data_dir: where TFDS prepared it; its own folder when None.
      image_shape: what the embedded digits are brought to; others keep their shape.
      examples: how many training examples to keep, from the front; all when None.
      validation_fraction: share of the training set to hold out, in [0, 1).
      seed: decides what is held out.

    Raises:
      InputError: the name is unknown, the data cannot be read, or a value is out of range.

    >>> load('digits').train.images.shape
    (1437, 28, 28, 1)
    """
    if name.endswith('.npz'):
        (train, test) = read_npz(Path(name).expanduser())
        classes = 1 + max(train.labels.max(), test.labels.max())
    else:
        (train, test, classes) = _from_tfds(
            name, _digits(image_shape) if name == 'digits' else _prepared(name, data_dir)
        )
    if classes < 2:
        raise InputError(f'data set {name!r} has one class alone; there is nothing to tell apart')
    count = len(train) if examples is None else min(examples, len(train))
    held_out = int(count * validation_fraction)
    order = np.random.default_rng(seed).permutation(count) if held_out else np.arange(count)
    (validation_rows, rows) = (np.sort(part) for part in np.split(order, [held_out]))
    return Dataset(
        name=Path(name).stem if name.endswith('.npz') else name,
        num_classes=int(classes),
        train=train.take(rows),
        validation=train.take(validation_rows),
        test=test,
        rows=rows,
        source_size=len(train),
    )


def _digits(image_shape: tuple[int, int, int]) -> tfds.core.DatasetBuilder:
    if tuple(image_shape) not in SHAPES:
        shapes = ' or '.join(str(shape) for shape in SHAPES)
        raise InputError(f'digits come as {shapes}, not as dataset.image_shape={tuple(image_shape)}')
    open_digits = lambda: Digits(
        config=config_name(image_shape), data_dir=str(cache.folder()), file_format='array_record'
    )
    builder = open_digits()
    if builder.is_prepared():
        return builder
    try:
        # A second's work, not worth the bars that TFDS draws for it.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            builder.download_and_prepare()
    except OSError as error:
        # Another process may have been faster.
        builder = open_digits()
        if not builder.is_prepared():
            raise InputError(
                f'cannot write the digits to {cache.folder()} ({error}); set XDG_CACHE_HOME to a folder of yours'
            ) from None
    return builder


def _from_tfds(name: str, builder: tfds.core.DatasetBuilder) -> tuple[Split, Split, int]:
    missing = {'train', 'test'} - set(builder.info.splits)
    if missing or not {'image', 'label'} <= set(builder.info.features or ()):
        raise InputError(
            f'data set {name!r} must have the splits train and test with image and label; '
            f'it has the splits {sorted(builder.info.splits)} of {sorted(builder.info.features or ())}'
        )
    shape = builder.info.features['image'].shape
    if None in shape:
        raise InputError(
            f'data set {name!r} has images of unequal sizes {shape}; resize them, and give them as an .npz'
        )
    classes = builder.info.features['label'].num_classes
    folder = Path(builder.data_dir)
    (train, test) = (
        decoded.kept(folder, split, functools.partial(_read, builder, split, classes)) for split in ('train', 'test')
    )
    return train, test, classes


def _prepared(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    prepare.prepare(name, data_dir)
    return prepare.open_builder(name, data_dir)


def _read(builder: tfds.core.DatasetBuilder, split: str, classes: int) -> Split:
    try:
        source = builder.as_data_source(split=split)
        images = np.empty((len(source), *builder.info.features['image'].shape), np.uint8)
        labels = np.empty(len(source), np.int32)
        starts = range(0, len(source), _CHUNK)
        for start in tqdm(starts, f'reading {builder.name} {split}', leave=False, disable=None):
            for row, example in enumerate(source.__getitems__(range(start, min(start + _CHUNK, len(source)))), start):
                images[row], labels[row] = example['image'], example['label']
    except Exception as error:  # whatever a damaged file raises, deep in a reader
        raise InputError(
            f'cannot read {split} of {builder.name!r} at {builder.data_dir} '
            f'({type(error).__name__}: {str(error).splitlines()[0] if str(error) else "no message"}); '
            'prepare it again, or point dataset.data_dir at a whole copy'
        ) from error
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        raise InputError(f'labels of {builder.name!r} {split} must be in [0, {classes})')
    return Split(images, labels)

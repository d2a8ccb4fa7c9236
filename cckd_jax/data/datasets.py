"""Data sets as uint8 arrays, read once into memory or, if they are larger than it, from the disk by index."""

import contextlib
import functools
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from cckd_jax import cache
from cckd_jax.console import log
from cckd_jax.data import prepare, records
from cckd_jax.data.decoded import cached_split
from cckd_jax.data.digits import NUM_CLASSES, SHAPES, config_name, resized_digits
from cckd_jax.data.folders import read_folder
from cckd_jax.data.memory import memory_limit
from cckd_jax.data.npz import read_npz
from cckd_jax.data.split import Split
from cckd_jax.errors import InputError
from cckd_jax.paths import expand

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


class Dataset(NamedTuple):
    """A data set to distil on.

    Attributes:
      name: as it appears in results.
      num_classes: C.
      train, test: its splits.
      validation: held out of the training set; empty unless a fraction was requested.
      rows: int `[N]`, indices of the training examples in the data set's own order.
      source_size: number of training examples before any were left out.
      class_names: C names; '0', '1', ... without names in the source.
    """

    name: str
    num_classes: int
    train: Split
    validation: Split
    test: Split
    rows: np.ndarray
    source_size: int
    class_names: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)`."""
        (_, height, width, channels) = self.train.images.shape
        return height, width, channels


def load(
    name: str,
    *,
    data_dir: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    skip_unreadable: bool = False,
    examples: int | None = None,
    validation_fraction: float = 0.0,
    seed: int = 0,
    memory_gib: float | None = None,
    devices: Sequence[jax.Device] = (),
) -> Dataset:
    """Reads a data set into memory, or prepares to read its images from the disk.

    Args:
      name: `digits`, a TFDS image classification set with the splits train and test, or the path of an `.npz` with
        x_train, y_train, x_test and y_test, and optionally class_names, or the path of a folder of images. A word that
        is both a TFDS name and a folder is the TFDS name; write `./mnist` for the folder.
      data_dir: the TFDS directory; TFDS's default if None.
      image_shape: shape of the embedded digits, `(28, 28, 1)` if None, or to which the images of a folder are resized;
        other data sets keep theirs.
      test_fraction: fraction of a folder without test images that becomes its test split.
      split_seed: seed of the test split and of the order of a folder's examples.
      skip_unreadable: whether to leave out files of a folder that cannot be read.
      examples: number of training examples to keep, from the front; all if None.
      validation_fraction: fraction of the training set to hold out, in [0, 1).
      seed: of the held-out choice.
      memory_gib: size in GiB above which the images of both splits stay on the disk; None for half of the free memory.
      devices: that will hold the images; None of `memory_gib` also means half of the free memory of each.

    Raises:
      InputError: the name is unknown, the data cannot be read, or a value is out of range.

    >>> load('digits').train.images.shape
    (1437, 28, 28, 1)
    """
    (path, short_name, limit) = (expand(name), name, memory_limit(memory_gib, devices))
    if name.lower().endswith('.npz'):
        short_name = path.stem
        (train, test, class_names) = read_npz(path, limit)
    elif name == 'digits':
        (train, test, class_names) = _load_digits(image_shape or SHAPES[0], limit)
    elif path.is_dir() and not prepare.is_known(name):
        short_name = path.resolve().name
        try:
            (train, test, class_names) = read_folder(
                path,
                image_shape,
                test_fraction=test_fraction,
                split_seed=split_seed,
                skip_unreadable=skip_unreadable,
                limit=limit,
            )
        except OSError as error:
            raise InputError(f'cannot read {name} ({error.strerror or error}: {error.filename})') from None
    else:
        prepare.prepare(name, data_dir)
        (train, test, class_names) = _from_tfds(name, prepare.open_builder(name, data_dir), limit)
    if len(class_names) < 2:
        raise InputError(f'data set {name!r} has only one class')
    count = len(train) if examples is None else min(examples, len(train))
    if train.is_stored:
        size = (len(train) + len(test)) * np.prod(train.images.shape[1:]) / 2**30
        log(
            f'{short_name}: the images take {size:,.3g} GiB, and the limit is {limit / 2**30:,.3g} GiB '
            '(dataset.memory_gib); they are read from the disk in every epoch'
        )
    held_out = int(count * validation_fraction)
    order = np.random.default_rng(seed).permutation(count) if held_out else np.arange(count)
    (validation_rows, rows) = (np.sort(indices) for indices in np.split(order, [held_out]))
    return Dataset(
        name=short_name,
        num_classes=len(class_names),
        train=train.take(rows),
        validation=train.take(validation_rows),
        test=test,
        rows=rows,
        source_size=len(train),
        class_names=class_names,
    )


def _load_digits(image_shape: tuple[int, int, int], limit: float) -> tuple[Split, Split, tuple[str, ...]]:
    """The digits from the cache, which is repaired if damaged; in memory if it cannot be used."""
    if image_shape not in SHAPES:
        shapes = ' or '.join(str(shape) for shape in SHAPES)
        raise InputError(f'digits come as {shapes}, not as dataset.image_shape={image_shape}')
    for attempt in range(3):
        try:
            return _from_tfds('digits', prepared_digits(image_shape), limit)
        except Exception:  # TFDS raises anything for a full disk or a damaged file
            # The first retry finds what another process has prepared meanwhile, the second starts afresh.
            if attempt == 1:
                log('the digits in the cache cannot be read; preparing them again')
                shutil.rmtree(cache.folder() / 'digits' / config_name(image_shape), ignore_errors=True)
    splits = resized_digits(image_shape)
    return splits['train'], splits['test'], tuple(map(str, range(NUM_CLASSES)))


def prepared_digits(image_shape: tuple[int, int, int] = SHAPES[0]) -> 'tfds.core.DatasetBuilder':
    """The TFDS builder of the digits, prepared in the cache."""
    from cckd_jax.data.digits_builder import Digits  # imports TFDS, which takes a second

    builder = Digits(config=config_name(image_shape), data_dir=str(cache.folder()), file_format='array_record')
    if not builder.is_prepared():
        # Preparing takes a second, too short for TFDS's progress bars.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            builder.download_and_prepare()
    return builder


def _from_tfds(name: str, builder: 'tfds.core.DatasetBuilder', limit: float) -> tuple[Split, Split, tuple[str, ...]]:
    missing = {'train', 'test'} - set(builder.info.splits)
    if missing or not {'image', 'label'} <= set(builder.info.features or ()):
        raise InputError(
            f'data set {name!r} must have the splits train and test with image and label; '
            f'it has the splits {sorted(builder.info.splits)} of {sorted(builder.info.features or ())}'
        )
    shape = builder.info.features['image'].shape
    if None in shape:
        raise InputError(f'data set {name!r} has images of different sizes {shape}; resize them and save an .npz')
    names = tuple(builder.info.features['label'].names)
    shapes = [records.split_shape(builder, split) for split in ('train', 'test')]
    if sum(int(np.prod(shape)) for shape in shapes) > limit:
        (train, test) = (records.stored_split(builder, split) for split in ('train', 'test'))
        return train, test, names
    classes = builder.info.features['label'].num_classes
    (train, test) = (
        cached_split(
            Path(builder.data_dir),
            split,
            functools.partial(records.read_split, builder, split),
            shape=shape,
            num_classes=classes,
        )
        for split, shape in zip(('train', 'test'), shapes, strict=True)
    )
    return train, test, names

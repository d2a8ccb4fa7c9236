"""Data sets from a folder of images: `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*`, which is split here."""

import hashlib
import math
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from cckd_jax import cache, cpu
from cckd_jax.console import log
from cckd_jax.data.cached import cached_arrays
from cckd_jax.data.images import SUFFIXES, decode, find_images
from cckd_jax.data.pixels import PixelRecords, stored_pixels
from cckd_jax.data.split import Split
from cckd_jax.data.stored import StoredImages
from cckd_jax.errors import InputError

# Separates the order of the examples from the choice of the test examples.
_ORDER = zlib.crc32(b'order of a folder')
_LISTED = 5


class _Files(NamedTuple):
    """Image files with their labels, int32 `[N]`, in the order of classes and names."""

    paths: list[Path]
    labels: np.ndarray


def read_folder(
    folder: Path,
    image_shape: tuple[int, int, int] | None,
    *,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    skip_unreadable: bool = False,
    limit: float = math.inf,
) -> tuple[Split, Split, tuple[str, ...]]:
    """Reads a folder of images.

    Classes are the folders' names, sorted, as in torchvision's `ImageFolder`. Images are resized and cropped to a
    common shape (`decode`). The examples of each split are in a random order that depends on `split_seed` alone, so
    that the first of them are a sample of all classes.

    Args:
      folder: with `train/CLASS/*` and `test/CLASS/*`, or with `CLASS/*`. Folders inside a class belong to the class.
      image_shape: `(H, W, C)`, C is 1 or 3; there is no default, because the images may have any sizes.
      test_fraction: fraction of each class that becomes the test split of a folder without one; at least one image
        of each class, and never all.
      split_seed: seed of the test split and of the order of the examples. The split depends on the names of the files
        and not on their location.
      skip_unreadable: whether to leave out files that cannot be read as images. They are listed in either case.
      limit: bytes above which the decoded images stay on the disk.

    Returns:
      The training split, the test split and the class names.

    Raises:
      InputError: `image_shape` is None; the folder has no classes, only one, or one without images; the splits have
        other classes; or a file cannot be read.
    """
    if _has_splits(folder):
        classes = _common_classes(folder)
        (train_files, test_files) = (_list(folder / split, classes) for split in ('train', 'test'))
        image_shape = _needed(folder, image_shape)
        is_stored = _size((train_files, test_files), image_shape) > limit
        train = _read(folder / 'train', train_files, image_shape, skip_unreadable, is_stored)
        test = _read(folder / 'test', test_files, image_shape, skip_unreadable, is_stored)
    else:
        classes = _classes(folder)
        files = _list(folder, classes)
        image_shape = _needed(folder, image_shape)
        images = _read(folder, files, image_shape, skip_unreadable, _size((files,), image_shape) > limit)
        is_test = _choose_test(folder, images.labels, classes, test_fraction, split_seed)
        (train, test) = (images.take(np.flatnonzero(chosen)) for chosen in (~is_test, is_test))
    orders = (np.random.default_rng([split_seed, _ORDER]).permutation(len(split)) for split in (train, test))
    (train, test) = (split.take(order) for split, order in zip((train, test), orders, strict=True))
    return train, test, tuple(classes)


def _needed(folder: Path, image_shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
    if image_shape is None:
        raise InputError(
            f"the images of {folder} need a common shape: set --config.dataset.image_shape='(64,64,3)', for example "
            '(height, width, and 1 channel for grey or 3 for RGB)'
        )
    if image_shape[-1] not in (1, 3):
        raise InputError(f'dataset.image_shape={image_shape} must have 1 channel (grey) or 3 (RGB)')
    return image_shape


def _has_splits(folder: Path) -> bool:
    """Whether `train` and `test` are splits; one of them without folders is a class of that name."""
    splits = [folder / name for name in ('train', 'test') if (folder / name).is_dir()]
    return len(splits) == 2 or any(map(_folders, splits))


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith('.'))


def _classes(folder: Path) -> list[str]:
    classes = _folders(folder)
    if len(classes) < 2:
        reason = f'has only one class, {classes[0]!r}' if classes else 'has no folders of classes'
        raise InputError(f'{folder} {reason}; a data set is a folder with train/CLASS/* and test/CLASS/*, or CLASS/*')
    return classes


def _common_classes(folder: Path) -> list[str]:
    for split in ('train', 'test'):
        if not (folder / split).is_dir():
            other = next((name for name in ('val', 'valid', 'validation') if (folder / name).is_dir()), None)
            remedy = f'rename {other} to {split}' if other else f'add {split}/CLASS/*'
            raise InputError(f'{folder} has no folder {split}; {remedy}, or give a folder of classes to split it')
    (train, test) = (_classes(folder / split) for split in ('train', 'test'))
    for split, missing in (('test', set(train) - set(test)), ('train', set(test) - set(train))):
        if missing:
            raise InputError(
                f'{folder / split} has no folder for {_listed(sorted(missing))}; both splits need all classes'
            )
    return train


def _list(folder: Path, classes: Sequence[str]) -> _Files:
    paths: list[Path] = []
    labels: list[int] = []
    ignored: list[Path] = []
    for label, name in enumerate(classes):
        (images, others) = find_images(folder / name)
        ignored += others
        if not images:
            raise InputError(f'class {name!r} of {folder} has no images ({", ".join(SUFFIXES)})')
        paths += images
        labels += [label] * len(images)
    if ignored:
        names = _listed([str(path.relative_to(folder)) for path in sorted(ignored)])
        log(f'{folder}: ignoring files without an image suffix ({len(ignored)}): {names}')
    return _Files(paths, np.array(labels, np.int32))


def _size(splits: Sequence[_Files], image_shape: tuple[int, int, int]) -> int:
    return sum(len(files.paths) for files in splits) * math.prod(image_shape)


def _read(
    folder: Path, files: _Files, image_shape: tuple[int, int, int], skip_unreadable: bool, is_stored: bool
) -> Split:
    """The readable images with their labels, in the order of the files."""
    count = len(files.paths)
    key = f'{folder.absolute().name[:100]}-{_key(folder, files.paths, image_shape)}'
    decode_row = lambda row: decode(files.paths[row], image_shape)
    images: np.ndarray | PixelRecords
    if is_stored:
        path = cache.folder() / 'decoded' / f'{key}.array_record'
        (images, readable) = stored_pixels(path, (count, *image_shape), decode_row)
    else:
        (images, readable) = _in_memory(key, folder, files.paths, image_shape)
    reason = ''
    # Tried again: a file on a network may be back, and the reason is not in the cache.
    for index in np.flatnonzero(~readable):
        try:
            image = decode_row(index)
            readable[index] = True
            if isinstance(images, np.ndarray):
                images[index] = image
        except InputError as error:
            reason = reason or str(error)
    unreadable = [str(files.paths[index].relative_to(folder)) for index in np.flatnonzero(~readable)]
    if unreadable and not skip_unreadable:
        raise InputError(
            f'{len(unreadable)} of {count} images of {folder} cannot be read: {_listed(unreadable)} ({reason}); repair '
            'or remove them, or set --config.dataset.skip_unreadable=true'
        )
    if unreadable:
        log(f'warning: skipping {len(unreadable)} of {count} images of {folder}: {_listed(unreadable)} ({reason})')
        emptied = np.setdiff1d(files.labels, files.labels[readable])
        if len(emptied):
            path = files.paths[int(np.flatnonzero(files.labels == emptied[0])[0])]
            raise InputError(f'no image of the class of {path} can be read; remove the class, or repair its images')
    stored = images if isinstance(images, np.ndarray) else StoredImages(images, key)
    return Split(stored, files.labels).take(np.flatnonzero(readable))


def _in_memory(
    key: str, folder: Path, paths: Sequence[Path], image_shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The images, and which of them are readable."""

    def is_valid(arrays: dict[str, np.ndarray]) -> bool:
        (images, readable) = (arrays['images'], arrays['readable'])
        return (images.shape, images.dtype) == ((len(paths), *image_shape), np.dtype(np.uint8)) and (
            readable.shape,
            readable.dtype,
        ) == ((len(paths),), np.dtype(bool))

    arrays = cached_arrays(key, lambda: _decode(folder, paths, image_shape), is_valid)
    return arrays['images'], arrays['readable']


def _decode(folder: Path, paths: Sequence[Path], image_shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Decodes files in threads, which Pillow lets run at the same time."""
    images = np.zeros((len(paths), *image_shape), np.uint8)
    readable = np.ones(len(paths), bool)

    def decode_row(row: int) -> None:
        try:
            images[row] = decode(paths[row], image_shape)
        except InputError:
            readable[row] = False

    log(f'decoding {len(paths):,} images of {folder} to {"x".join(map(str, image_shape))}')
    with ThreadPoolExecutor(len(cpu.cores())) as threads:
        rows = threads.map(decode_row, range(len(paths)))
        for _ in tqdm(rows, 'decoding', total=len(paths), leave=False, disable=None, unit=' images'):
            pass
    return {'images': images, 'readable': readable}


def _choose_test(folder: Path, labels: np.ndarray, classes: Sequence[str], fraction: float, seed: int) -> np.ndarray:
    """Bool `[N]`, a fraction of each class.

    Unlike scikit-learn's stratified split, every class has a test image however small the fraction, and another class
    does not change the choice.
    """
    is_test = np.zeros(len(labels), bool)
    for label, name in enumerate(classes):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise InputError(f'class {name!r} of {folder} has one image; a class needs two, to train and to test')
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        is_test[np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(rows)[:count]] = True
    return is_test


def _key(folder: Path, paths: Sequence[Path], image_shape: tuple[int, int, int]) -> str:
    digest = hashlib.sha256(os.fsencode(folder.absolute()) + repr(image_shape).encode())
    for path in paths:
        facts = path.stat()
        digest.update(repr((os.fsencode(path.relative_to(folder)), facts.st_size, facts.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]


def _listed(names: Sequence[str]) -> str:
    more = f' and {len(names) - _LISTED} more' if len(names) > _LISTED else ''
    return ', '.join(names[:_LISTED]) + more

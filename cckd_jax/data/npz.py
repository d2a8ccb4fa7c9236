"""Data sets from a file: an `.npz` with x_train, y_train, x_test and y_test, and optionally class_names."""

import hashlib
import math
import struct
import zipfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cckd_jax.console import log
from cckd_jax.data.cached import cached_arrays
from cckd_jax.data.split import Split
from cckd_jax.data.stored import StoredImages
from cckd_jax.errors import InputError

_IMAGES = ('x_train', 'x_test')
_ARRAYS = ('x_train', 'y_train', 'x_test', 'y_test')
_MAX_CLASSES = 2**16
_MAX_CHANNELS = 4
_LISTED = 10
_BLOCK = 2**24


def read_npz(path: Path, limit: float = math.inf) -> tuple[Split, Split, tuple[str, ...]]:
    """Returns the training split, the test split and the class names of a file.

    Args:
      path: of a file with images `[N, H, W]` or `[N, H, W, C]`, uint8 or floats in [0, 1] (rounded to 8 bits), and
        labels int `[N]` or `[N, 1]`, counted from 0. The strings `class_names` `[C]` are optional; without them the
        classes are those of the labels, and their names '0', '1', ...
      limit: bytes above which the images stay on the disk. They must be uint8, and the file not compressed.

    Raises:
      InputError: the file cannot be read, an array is missing, or a shape, dtype or value is wrong.
    """
    (arrays, is_stored) = _read(path, limit)
    (train, test) = (
        Split(_images(path, f'x_{name}', arrays), _labels(path, f'y_{name}', arrays)) for name in ('train', 'test')
    )
    for name, split in (('train', train), ('test', test)):
        if len(split.images) != len(split.labels):
            raise InputError(f'{path} has {len(split.images)} images x_{name} and {len(split.labels)} labels y_{name}')
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(f'{path}: x_train has images of {train.images.shape[1:]}, x_test of {test.images.shape[1:]}')
    first = min(train.labels.min(), test.labels.min())
    if first > 0:
        raise InputError(
            f'labels of {path} begin at {first}, but classes count from 0; subtract {first} from y_train and y_test'
        )
    names = _class_names(path, arrays, 1 + int(max(train.labels.max(), test.labels.max())))
    absent = np.setdiff1d(np.arange(len(names)), train.labels)
    if absent.size:
        listed = ', '.join(map(str, absent[:_LISTED])) + (', ...' if absent.size > _LISTED else '')
        log(f'warning: y_train of {path} skips {absent.size} of the classes 0 to {len(names) - 1}: {listed}')
    if is_stored:
        (train, test) = (_stored(path, name, split) for name, split in (('x_train', train), ('x_test', test)))
    return train, test, names


def _read(path: Path, limit: float) -> tuple[dict[str, np.ndarray], bool]:
    """The arrays, and whether their images are mapped into memory and not read."""
    try:
        with path.open('rb') as file, np.load(file, allow_pickle=False) as archive:
            names = archive.files
            sizes = {entry.filename: entry.file_size for entry in archive.zip.infolist()}
            is_stored = sum(sizes.get(f'{name}.npy', 0) for name in _IMAGES) > limit
            read = lambda name: _mapped(path, archive.zip, name) if is_stored and name in _IMAGES else archive[name]
            arrays = {name: read(name) for name in (*_ARRAYS, 'class_names') if name in names}
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f'no data set at {path}') from None
    except Exception as error:  # a damaged or foreign file raises anything, from zlib.error to MemoryError
        if 'pickle' in str(error):
            reason = 'it holds Python objects; save plain arrays with np.savez'
        else:
            reason = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
        raise InputError(f'cannot read {path} as .npz ({reason})') from None
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise InputError(f'{path} has no {", ".join(missing)}; it has: {", ".join(names) or "nothing"}')
    return arrays, is_stored


def _mapped(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array of an `.npz`, where it is in the file."""
    entry = archive.getinfo(f'{name}.npy')
    remedy = (
        f'save it with np.savez and as uint8, or set --config.dataset.memory_gib above {entry.file_size / 2**30:,.3g}'
    )
    if entry.compress_type != zipfile.ZIP_STORED:
        raise InputError(f'{name} of {path} is larger than the memory limit and compressed; {remedy}')
    with path.open('rb') as file:
        # The name and an extra field of these lengths follow the 30 bytes of the entry's header.
        file.seek(entry.header_offset + 26)
        file.seek(entry.header_offset + 30 + sum(struct.unpack('<HH', file.read(4))))
        is_first = np.lib.format.read_magic(file) == (1, 0)
        read_header = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
        (shape, is_fortran, dtype) = read_header(file)
        if dtype != np.uint8:
            raise InputError(f'{name} of {path} is larger than the memory limit and {dtype}; {remedy}')
        _check_crc(path, archive, entry)
        return np.memmap(path, dtype, 'r', file.tell(), shape, 'F' if is_fortran else 'C')


def _check_crc(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Reads an array, which raises if it is damaged; once for a file, because mapped arrays have no checksums."""

    def read() -> dict[str, np.ndarray]:
        blocks = -(-entry.file_size // _BLOCK)
        with archive.open(entry) as file:
            # The last read compares the checksum.
            for _ in tqdm(range(blocks + 1), f'checking {path.name}', leave=False, disable=None, delay=2):
                file.read(_BLOCK)
        return {'crc': np.array(entry.CRC)}

    key = hashlib.sha256(_key(path, entry.filename).encode()).hexdigest()[:16]
    cached_arrays(f'checked-{path.stem[:100]}-{key}', read, lambda arrays: arrays['crc'] == entry.CRC)


def _stored(path: Path, name: str, split: Split) -> Split:
    assert isinstance(split.images, np.ndarray)  # mapped so far
    return Split(StoredImages(split.images, _key(path, name)), split.labels)


def _key(path: Path, name: str) -> str:
    facts = path.stat()
    return f'{path.absolute()}-{name}-{facts.st_size}-{facts.st_mtime_ns}'


def _images(path: Path, name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    images = arrays[name]
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise InputError(f'{name} of {path} must be [N, H, W] or [N, H, W, C], not {arrays[name].shape}')
    if images.size == 0:
        raise InputError(f'{name} of {path} has no images: its shape is {arrays[name].shape}')
    if images.shape[1] <= _MAX_CHANNELS < min(images.shape[2:]):
        raise InputError(
            f'{name} of {path} has the shape {images.shape}, which looks like [N, C, H, W]; '
            f'images are [N, H, W, C]: save {name}.transpose(0, 2, 3, 1)'
        )
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(f'{name} of {path} must be uint8, or floats in [0, 1], not {images.dtype}')
    if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
        raise InputError(f'{name} of {path} has values outside [0, 1], NaN or infinity; scale it, or give uint8')
    return np.round(images * 255).astype(np.uint8)


def _labels(path: Path, name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    labels = arrays[name]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f'{name} of {path} must be ints [N], not {labels.dtype} {labels.shape}')
    if labels.size == 0:
        raise InputError(f'{name} of {path} has no labels')
    if labels.min() < 0:
        raise InputError(f'{name} of {path} has the label {labels.min()}; labels count from 0')
    if labels.max() >= _MAX_CLASSES:
        raise InputError(f'{name} of {path} has the label {labels.max()}; class indices must be below {_MAX_CLASSES}')
    return labels.astype(np.int32)


def _class_names(path: Path, arrays: dict[str, np.ndarray], classes: int) -> tuple[str, ...]:
    if 'class_names' not in arrays:
        return tuple(map(str, range(classes)))
    names = arrays['class_names']
    if names.ndim != 1 or names.dtype.kind != 'U':
        raise InputError(f'class_names of {path} must be strings [C], not {names.dtype} {names.shape}')
    if len(names) < classes:
        raise InputError(f'class_names of {path} has {len(names)} names, and the labels have {classes} classes')
    if len(set(names)) < len(names):
        raise InputError(f'class_names of {path} has a name twice; give every class its own')
    return tuple(map(str, names))

"""A data set of one's own: an `.npz` of x_train, y_train, x_test, y_test."""

import zipfile
from pathlib import Path

import numpy as np

from cckd_jax.data.split import Split
from cckd_jax.errors import InputError

_ARRAYS = ('x_train', 'y_train', 'x_test', 'y_test')


def read_npz(path: Path) -> tuple[Split, Split]:
    """Returns the training and the test split.

    Args:
      path: of a file with images `[N, H, W]` or `[N, H, W, C]`, uint8, or floats in [0, 1] (rounded to 8 bits); labels
        int `[N]` or `[N, 1]`, from 0.

    Raises:
      InputError: the file cannot be read, an array is missing, or shapes, types or values do not fit.
    """
    try:
        with path.open('rb') as file:
            arrays = dict(np.load(file, allow_pickle=False))
    except FileNotFoundError:
        raise InputError(f'no data set at {path}') from None
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f'{path} cannot be read as .npz ({type(error).__name__}: {error})') from None
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise InputError(f'{path} has no {", ".join(missing)}; it has: {", ".join(arrays) or "nothing"}')
    (train, test) = (
        Split(_images(path, f'x_{part}', arrays), _labels(path, f'y_{part}', arrays)) for part in ('train', 'test')
    )
    for part, split in (('train', train), ('test', test)):
        if len(split.images) != len(split.labels) or not len(split):
            raise InputError(f'{path} has {len(split.images)} images x_{part} and {len(split.labels)} labels y_{part}')
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(f'{path}: x_train has images of {train.images.shape[1:]}, x_test of {test.images.shape[1:]}')
    return train, test


def _images(path: Path, name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    images = arrays[name]
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise InputError(f'{name} of {path} must be [N, H, W] or [N, H, W, C], not {arrays[name].shape}')
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
    if labels.size and labels.min() < 0:
        raise InputError(f'{name} of {path} has the label {labels.min()}; labels count from 0')
    return labels.astype(np.int32)

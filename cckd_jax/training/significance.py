"""The file `significance.npz`: how often each training example took part in a self-regulated training.

Its arrays are `index` int `[N]`, the position of the example in the data set's own order; `label` int `[N]`; `count`
int `[N]`; `epochs`, the number of epochs; `key`, the fingerprint of the training images and labels. The rows may be in
any order.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cckd_jax import io
from cckd_jax.data import Dataset
from cckd_jax.errors import InputError

_NAMES = ('index', 'label', 'count', 'epochs', 'key')


class Significance(NamedTuple):
    """Counts int `[N]` in the order of the training set, and the number of epochs that they cover."""

    counts: np.ndarray
    epochs: int


def save(path: Path, significance: Significance, dataset: Dataset) -> None:
    """Writes the counts atomically.

    Args:
      path: the file.
      significance: the counts.
      dataset: the data that they belong to.
    """
    io.save_arrays(
        path,
        index=dataset.rows,
        label=dataset.train.labels,
        count=significance.counts,
        epochs=np.array(significance.epochs),
        key=np.array(dataset.train.fingerprint()),
    )


def load(path: Path, dataset: Dataset) -> Significance:
    """Reads a file that `save` wrote, or a file of the user's in the same format.

    Raises:
      InputError: the file is not readable, an array is missing, or the counts belong to other training data.
    """
    arrays = io.load_arrays(path, description='significance', default_key='count')
    missing = [name for name in _NAMES if name not in arrays]
    if missing:
        raise InputError(f'{path} has no {", ".join(missing)}; significance.npz of any run shows the form')
    (index, labels, counts) = (arrays[name] for name in ('index', 'label', 'count'))
    examples = len(dataset.train)
    if not index.shape == labels.shape == counts.shape == (examples,):
        raise InputError(
            f'index, label and count of {path} have shapes {list(index.shape)}, {list(labels.shape)} and '
            f'{list(counts.shape)}; the training set needs [{examples}] of each'
        )
    key = dataset.train.fingerprint()
    if str(arrays['key']) != key:
        raise InputError(
            f'{path} was counted on other training data (its key is {arrays["key"]}, this run needs {key}); '
            'give a file of this data set, with the same dataset.examples and validation_fraction'
        )
    order = np.argsort(index)
    if not (np.array_equal(index[order], dataset.rows) and np.array_equal(labels[order], dataset.train.labels)):
        raise InputError(
            f'index and label of {path} are not those of the training set; keep the columns of a row together'
        )
    if arrays['epochs'].shape or not np.issubdtype(arrays['epochs'].dtype, np.integer):
        raise InputError(f'epochs of {path} must be one int, not {arrays["epochs"].dtype} {arrays["epochs"].shape}')
    return Significance(counts[order], int(arrays['epochs']))

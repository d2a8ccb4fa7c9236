"""How often each training example took part in a self-regulated training, as a file: `significance.npz`.

`index` int `[N]`, the example's place in the data set's own order; `label` int `[N]`; `count` int `[N]`; `epochs`, how
many were counted; `key`, the fingerprint of the training images and labels. The rows may stand in any order.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cckd_jax import io
from cckd_jax.data import Dataset
from cckd_jax.errors import InputError

_NAMES = ('index', 'label', 'count', 'epochs', 'key')


class Significance(NamedTuple):
    """Counts int `[N]` in the order of the training set, and the epochs that were counted."""

    counts: np.ndarray
    epochs: int


def save(path: Path, found: Significance, dataset: Dataset) -> None:
    """Writes the counts whole or not at all.

    Args:
      path: of the file.
      found: the counts.
      dataset: what they belong to.
    """
    io.save_arrays(
        path,
        index=dataset.rows,
        label=dataset.train.labels,
        count=found.counts,
        epochs=np.array(found.epochs),
        key=np.array(dataset.train.fingerprint()),
    )


def load(path: Path, dataset: Dataset) -> Significance:
    """Reads what `save` wrote, or counts of one's own in the same form.

    Raises:
      InputError: the file cannot be read, an array is missing, or they belong to other training data.
    """
    found = io.load_arrays(path, description='significance', default_key='count')
    missing = [name for name in _NAMES if name not in found]
    if missing:
        raise InputError(f'{path} has no {", ".join(missing)}; significance.npz of any run shows the form')
    (index, labels, counts) = (found[name] for name in ('index', 'label', 'count'))
    examples = len(dataset.train)
    if not index.shape == labels.shape == counts.shape == (examples,):
        raise InputError(
            f'index, label and count of {path} have shapes {list(index.shape)}, {list(labels.shape)} and '
            f'{list(counts.shape)}; the training set needs [{examples}] of each'
        )
    key = dataset.train.fingerprint()
    if str(found['key']) != key:
        raise InputError(
            f'{path} was counted on other training data (its key is {found["key"]}, this run needs {key}); '
            'give a file of this data set, with the same dataset.examples and validation_fraction'
        )
    order = np.argsort(index)
    if not (np.array_equal(index[order], dataset.rows) and np.array_equal(labels[order], dataset.train.labels)):
        raise InputError(
            f'index and label of {path} are not those of the training set; keep the columns of a row together'
        )
    if found['epochs'].shape or not np.issubdtype(found['epochs'].dtype, np.integer):
        raise InputError(f'epochs of {path} must be one int, not {found["epochs"].dtype} {found["epochs"].shape}')
    return Significance(counts[order], int(found['epochs']))

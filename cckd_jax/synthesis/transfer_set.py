"""A transfer set: images that take the place of a training set, with the teacher's outputs and labels."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cckd_jax import io
from cckd_jax.data import Split
from cckd_jax.errors import InputError

LABELS = ('nominal', 'soft', 'teacher')


class TransferSet(NamedTuple):
    """Images that take the place of a training set.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: int32 `[N]`.
      logits: float32 `[N, C]`, the teacher's.
      targets: float32 `[N, C]`, a label that is a distribution; None if labels are classes.
      agreement: share of all samples, rejected ones included, whose label is the teacher's class.
      rejected: number of samples that were left out because their label is not the teacher's class.
    """

    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    targets: np.ndarray | None
    agreement: float
    rejected: int

    @property
    def split(self) -> Split:
        """Images and labels as a split of a data set."""
        return Split(self.images, self.labels)


def label_samples(
    images: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray | None,
    targets: np.ndarray | None,
    *,
    source: str,
    reject: bool,
) -> TransferSet:
    """Gives samples their labels, and leaves out those whose label is not the teacher's class.

    Args:
      images: uint8 `[N, H, W, C]`.
      logits: float32 `[N, C]`, the teacher's.
      labels: int32 `[N]`, the class that each image was made for, or None.
      targets: float32 `[N, C]`, the distribution that each image was made for, or None.
      source: `nominal` for `labels`, `soft` for `targets`, `teacher` for the teacher's class.
      reject: whether to leave out samples whose label is not the teacher's class. The label of a soft target is its
        largest entry.

    Returns:
      The transfer set.

    Raises:
      InputError: no sample is left.

    >>> logits = np.float32([[2, 0], [0, 1]])
    >>> images, classes = np.zeros((2, 1, 1, 1), np.uint8), np.int32([0, 0])
    >>> label_samples(images, logits, classes, None, source='nominal', reject=True).labels.tolist()
    [0]
    """
    teacher = logits.argmax(-1).astype(np.int32)
    chosen = {'nominal': labels, 'soft': None if targets is None else targets.argmax(-1), 'teacher': teacher}[source]
    if chosen is None:
        raise ValueError(f'the samples have no {source} labels')
    agrees = chosen == teacher
    keep = np.flatnonzero(agrees) if reject else np.arange(len(images))
    if not len(keep):
        raise InputError(
            'the teacher classifies no sample as the class it was made for; raise transfer.steps, or set '
            '--config.transfer.reject=false'
        )
    return TransferSet(
        images[keep],
        chosen.astype(np.int32)[keep],
        logits[keep],
        targets[keep] if source == 'soft' and targets is not None else None,
        float(agrees.mean()),
        len(images) - len(keep),
    )


def save(path: Path, transfer: TransferSet, key: str) -> None:
    """Writes a transfer set atomically.

    Args:
      path: of the `.npz`.
      transfer: the set.
      key: a digest of everything that it depends on.
    """
    arrays = {name: np.asarray(value) for name, value in transfer._asdict().items() if value is not None}
    io.save_arrays(path, key=np.array(key), **arrays)


def load(path: Path, key: str) -> TransferSet:
    """Reads a transfer set.

    Raises:
      InputError: the file is damaged, or depends on something else.
    """
    remedy = 'delete it to make it again'
    try:
        arrays = io.load_arrays(path, description='the transfer set', default_key='images')
    except InputError as error:
        raise InputError(f'{error}; {remedy}') from None
    if str(arrays.pop('key', None)) != key:
        raise InputError(f'{path} was made with other teacher weights or settings; {remedy}')
    if arrays.keys() | {'targets'} != set(TransferSet._fields):
        raise InputError(f'{path} is incomplete; {remedy}')
    return TransferSet(
        arrays['images'],
        arrays['labels'],
        arrays['logits'],
        arrays.get('targets'),
        float(arrays['agreement']),
        int(arrays['rejected']),
    )

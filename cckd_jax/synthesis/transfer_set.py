"""A transfer set: images that take the place of a training set, with the teacher's outputs and labels."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cckd_jax import io
from cckd_jax.data import Split
from cckd_jax.errors import InputError
from cckd_jax.synthesis.system import Samples

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
    samples: Samples,
    logits: np.ndarray,
    *,
    source: str,
    reject: bool,
) -> TransferSet:
    """Gives samples their labels, and leaves out those whose label is not the teacher's class.

    Args:
      samples: what a system made.
      logits: float32 `[N, C]`, the teacher's.
      source: `nominal` for the class that an image was made for, `soft` for its distribution, `teacher` for the
        teacher's class.
      reject: whether to leave out samples whose label is not the teacher's class. The label of a soft target is its
        largest entry.

    Returns:
      The transfer set.

    Raises:
      InputError: no sample is left.

    >>> logits = np.float32([[2, 0], [0, 1]])
    >>> samples = Samples(np.zeros((2, 1, 1, 1), np.uint8), labels=np.int32([0, 0]))
    >>> label_samples(samples, logits, source='nominal', reject=True).labels.tolist()
    [0]
    """
    (images, labels, targets, _) = samples
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


def save(path: Path, samples: Samples, logits: np.ndarray, key: str) -> None:
    """Writes samples with the teacher's outputs atomically. Their labels are chosen when they are read.

    Args:
      path: of the `.npz`.
      samples: what a system made.
      logits: float32 `[N, C]`, the teacher's.
      key: a digest of everything that they depend on.
    """
    arrays = {name: value for name, value in samples._asdict().items() if value is not None and name != 'logits'}
    io.save_arrays(path, key=np.array(key), logits=logits, **arrays)


def load(path: Path, key: str) -> tuple[Samples, np.ndarray]:
    """Reads samples and the teacher's outputs.

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
    if not {'images', 'logits'} <= arrays.keys() <= {'logits', *Samples._fields}:
        raise InputError(f'{path} is incomplete; {remedy}')
    return Samples(arrays['images'], arrays.get('labels'), arrays.get('targets')), arrays['logits']

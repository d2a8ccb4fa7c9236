"""The comparison of an exported file with the student on a test split."""

from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from cckd_jax.data import Split
from cckd_jax.errors import InputError
from cckd_jax.export.formats import Logits

TOLERANCE = 1e-4

_BATCH = 256


class Comparison(NamedTuple):
    """Logits of a file beside those of the student.

    Attributes:
      accuracy: of the file, in [0, 1].
      absolute_difference: the largest over examples and classes.
      relative_difference: for each example, the largest difference divided by its largest absolute logit, so that
        logits near zero do not count more than others; the largest over examples.
      changed_predictions: the number of examples in another class.
    """

    accuracy: float
    absolute_difference: float
    relative_difference: float
    changed_predictions: int


def compare(logits: np.ndarray, student_logits: np.ndarray, labels: np.ndarray) -> Comparison:
    """Compares logits `[N, C]` with those of the student.

    >>> compare(np.array([[0.0, 4.0]]), np.array([[0.5, 4.0]]), np.array([1]))
    Comparison(accuracy=1.0, absolute_difference=0.5, relative_difference=0.125, changed_predictions=0)
    """
    difference = np.abs(logits - student_logits).max(-1)
    scale = np.maximum(np.abs(student_logits).max(-1), np.finfo(np.float32).tiny)
    predictions = logits.argmax(-1)
    return Comparison(
        accuracy=float((predictions == labels).mean()),
        absolute_difference=float(difference.max()),
        relative_difference=float((difference / scale).max()),
        changed_predictions=int((predictions != student_logits.argmax(-1)).sum()),
    )


def check(comparison: Comparison, file: str) -> None:
    """Raises InputError if a float32 file differs from the student: refused exports are not kept."""
    # Written so that NaN is refused.
    if not comparison.relative_difference <= TOLERANCE or comparison.changed_predictions:
        raise InputError(
            f'{file} differs from the student on the test split, and nothing is exported: relative difference '
            f'{comparison.relative_difference:.1e} (at most {TOLERANCE:.0e}), {comparison.changed_predictions} changed '
            'predictions'
        )


def run(function: Logits, split: Split, title: str) -> np.ndarray:
    """Logits `[N, C]` of all images of a split, with a progress bar."""
    starts = range(0, len(split), _BATCH)
    return np.concatenate(
        [
            function(split.images[start : start + _BATCH])
            for start in tqdm(starts, title, leave=False, disable=None, delay=2)
        ]
    )

"""Teacher logits: computed once for fixed inputs, saved with the run, refused when they belong to something else."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cckd_jax.data import Dataset
from cckd_jax.errors import InputError
from cckd_jax.training import arrays


class TeacherOutputs(NamedTuple):
    """Logits of K teachers, float32: `train` `[N, K, C]`, and `test` `[M, K, C]` or None where a file gave none."""

    train: np.ndarray
    test: np.ndarray | None


def digest(*trees: Any) -> str:
    """A short digest of the values of pytrees; what the teachers' outputs are keyed by."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(np.ascontiguousarray(leaf))
    return sha.hexdigest()[:16]


def save(path: Path, outputs: TeacherOutputs, key: str) -> None:
    """Writes the outputs whole or not at all."""
    test = {} if outputs.test is None else {'test_logits': outputs.test}
    arrays.save(path, logits=outputs.train, key=np.array(key), **test)


def load(path: Path, key: str) -> TeacherOutputs:
    """Reads what `save` wrote.

    Raises:
      InputError: the file was made for other teachers or other data, or is damaged.
    """
    found = _arrays(path)
    if str(found.get('key')) != key:
        raise InputError(
            f'{path} was computed for other teacher weights, data or preprocessing '
            f'(its key is {found.get("key")}, this run needs {key}); delete it to have it computed again'
        )
    return TeacherOutputs(found['logits'], found.get('test_logits'))


def load_given(path: Path, dataset: Dataset) -> TeacherOutputs:
    """Reads logits that another framework computed, of the whole training set in the data set's own order.

    Args:
      path: `.npz` with `logits` `[N, C]` or `[N, K, C]` and perhaps `test_logits`, or `.npy` with the first alone.
      dataset: what they belong to.

    Raises:
      InputError: the file cannot be read, its shapes do not fit, or a value is not finite.
    """
    found = _arrays(path)
    if 'logits' not in found:
        raise InputError(f'{path} has no array named logits; it has: {", ".join(found) or "none"}')
    train = _checked(path, 'logits', found['logits'], dataset.source_size, dataset.num_classes)[dataset.rows]
    if 'test_logits' not in found:
        return TeacherOutputs(train, None)
    test = _checked(path, 'test_logits', found['test_logits'], len(dataset.test), dataset.num_classes)
    if train.shape[1] != test.shape[1]:
        raise InputError(
            f'{path} has logits of {train.shape[1]} and test_logits of {test.shape[1]} teachers; give those of the same'
        )
    return TeacherOutputs(train, test)


def stack(outputs: Sequence[TeacherOutputs]) -> TeacherOutputs:
    """Several teachers' outputs as one, along K."""
    tests = [each.test for each in outputs]
    return TeacherOutputs(
        np.concatenate([each.train for each in outputs], axis=1),
        None if any(test is None for test in tests) else np.concatenate(tests, axis=1),
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    return arrays.load(path, what='teacher logits', alone='logits')


def _checked(path: Path, name: str, logits: np.ndarray, examples: int, classes: int) -> np.ndarray:
    if logits.ndim not in (2, 3) or (len(logits), logits.shape[-1]) != (examples, classes):
        raise InputError(
            f'{name} of {path} have shape {logits.shape}; the data set needs [{examples}, {classes}] '
            f'or [{examples}, teachers, {classes}]'
        )
    if not np.issubdtype(logits.dtype, np.floating) or not np.isfinite(logits).all():
        raise InputError(f'{name} of {path} must be finite floats; found {logits.dtype} or NaN or infinity')
    return logits.reshape(examples, -1, classes).astype(np.float32)

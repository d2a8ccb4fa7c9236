"""Teacher logits: computed once for fixed inputs and cached in the run directory, or loaded from the user's file."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from cckd_jax import io
from cckd_jax.console import log
from cckd_jax.data import Dataset, Images, consecutive_batches
from cckd_jax.errors import InputError
from cckd_jax.paths import expand
from cckd_jax.training import plausibility

_REMEDY = 'delete it to compute it again'
_FORCE = 'set check_logits=false for this teacher to use them as they are'


class TeacherOutputs(NamedTuple):
    """Logits of K teachers, float32: `train` `[N, K, C]`, and `test` `[M, K, C]`, or None if a file lacks it."""

    train: np.ndarray
    test: np.ndarray | None


def digest(*trees: Any) -> str:
    """Returns a short hash of the leaves of pytrees and their paths.

    >>> digest({'kernel': np.zeros(2)}) == digest({'kernel': np.ones(2)})
    False
    """
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(np.ascontiguousarray(leaf).data)
    return sha.hexdigest()[:16]


def save(path: Path, outputs: TeacherOutputs, key: str) -> None:
    """Writes the cache file atomically.

    Args:
      path: the file.
      outputs: the logits.
      key: a digest of everything that the logits depend on.
    """
    test = {} if outputs.test is None else {'test_logits': outputs.test}
    io.save_arrays(path, logits=outputs.train, key=np.array(key), digest=np.array(digest(outputs)), **test)


def load(path: Path, key: str) -> TeacherOutputs:
    """Reads a file that `save` wrote.

    Raises:
      InputError: the key differs, so that the file belongs to other teachers or data, or the file is damaged.
    """
    try:
        arrays = _load_arrays(path)
    except InputError as error:
        raise InputError(f'{error}; {_REMEDY}') from None
    if str(arrays.get('key')) != key:
        raise InputError(
            f'{path} was computed for other teacher weights, data or preprocessing '
            f'(its key is {arrays.get("key")}, this run needs {key}); {_REMEDY}'
        )
    if 'logits' in arrays:
        outputs = TeacherOutputs(arrays['logits'], arrays.get('test_logits'))
        if str(arrays.get('digest')) == digest(outputs):
            return outputs
    raise InputError(f'the teacher logits in {path} are incomplete, or were changed after they were saved; {_REMEDY}')


def load_logits(path: Path, dataset: Dataset, *, check: bool = True) -> TeacherOutputs:
    """Reads logits that were computed elsewhere, for the whole training set in the data set's own order.

    Rows in another order, other class numbers, or probabilities in place of logits would train a student without any
    error, so they are refused: probabilities, and logits whose accuracy on the training labels is at chance
    (`plausibility.assess`). Logits that another numbering of the classes would make more accurate cause a warning.

    Args:
      path: an `.npz` file with `logits` `[N, C]` or `[N, K, C]` and optionally `test_logits`, or an `.npy` file with
        the former.
      dataset: the data that the logits belong to.
      check: whether to refuse logits that look wrong although their shape is right.

    Raises:
      InputError: the file is not readable, a shape does not fit, a value is not finite, or the check fails.
    """
    arrays = _load_arrays(path)
    if 'logits' not in arrays:
        raise InputError(f'{path} has no array named logits; it has: {", ".join(arrays) or "none"}')
    train = _as_logits(path, 'logits', arrays['logits'], dataset.source_size, dataset.num_classes, check)[dataset.rows]
    test = None
    if 'test_logits' in arrays:
        test = _as_logits(path, 'test_logits', arrays['test_logits'], len(dataset.test), dataset.num_classes, check)
        if train.shape[1] != test.shape[1]:
            raise InputError(
                f'{path} has logits of {train.shape[1]} teachers and test_logits of {test.shape[1]}; '
                'give both for the same teachers'
            )
    for index in range(train.shape[1]):
        teacher = 'the teacher' if train.shape[1] == 1 else f'teacher {index}'
        report_plausibility(f'{teacher} in {path}', train[:, index], dataset.train.labels, refuse=check)
    return TeacherOutputs(train, test)


def write_logits(
    path: str | Path, function: Callable[[np.ndarray], Any], dataset: Dataset, *, batch_size: int = 256
) -> None:
    """Computes a teacher's logits with any Python function, and writes the file that `teacher.logits` reads.

    Args:
      path: the `.npz` file to write.
      function: maps images uint8 `[B, H, W, C]` to logits `[B, C]`, as an array that NumPy converts. It scales the
        pixels, moves axes and calls the network of another framework.
      dataset: what `cckd_jax.data.load` returns without `examples` and `validation_fraction`, so that the file serves
        runs with any of them.
      batch_size: images per call.

    Raises:
      InputError: there is no such folder, training examples are left out, or the function returns another shape, NaN,
        infinity or probabilities.

    >>> import tempfile
    >>> from cckd_jax import data
    >>> digits = data.load('digits')
    >>> def brightness(images):
    ...     return images.mean((1, 2)) * np.ones(10)
    >>> write_logits(Path(tempfile.mkdtemp()) / 'logits.npz', brightness, digits)
    """
    path = expand(path)
    if path.suffix != '.npz':
        raise InputError(f'the logits of both splits need an .npz file, not {path.name}; give {path.stem}.npz')
    if not path.parent.is_dir():
        raise InputError(f'cannot write {path}: there is no folder {path.parent}; create it first')
    if len(dataset.train) != dataset.source_size:
        raise InputError(
            f'logits cover the whole training set, and {dataset.source_size - len(dataset.train)} of its '
            f'{dataset.source_size} examples are left out; load it without examples and validation_fraction'
        )
    arrays = {
        name: _apply(function, split.images, dataset.num_classes, batch_size, title)
        for name, split, title in (
            ('logits', dataset.train, 'logits of the training images'),
            ('test_logits', dataset.test, 'logits of the test images'),
        )
    }
    io.save_arrays(path, **arrays)


def _apply(
    function: Callable[[np.ndarray], Any], images: Images, classes: int, batch_size: int, title: str
) -> np.ndarray:
    batches = []
    total = -(-len(images) // batch_size)
    for batch in tqdm(consecutive_batches(images, batch_size), title, total=total, leave=False, disable=None, delay=2):
        logits = np.asarray(function(batch), np.float32)
        if logits.shape != (len(batch), classes):
            raise InputError(
                f'the teacher returns {list(logits.shape)} for images {list(batch.shape)}; the data set needs '
                f'[{len(batch)}, {classes}]'
            )
        batches.append(logits)
    result = np.concatenate(batches)
    check_finite_logits(title, result, check=True, force='')
    return result


def stack(outputs: Sequence[TeacherOutputs]) -> TeacherOutputs:
    """Concatenates the outputs of several teachers along K."""
    train = np.concatenate([teacher.train for teacher in outputs], axis=1)
    tests = [teacher.test for teacher in outputs if teacher.test is not None]
    return TeacherOutputs(train, np.concatenate(tests, axis=1) if len(tests) == len(outputs) else None)


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    return io.load_arrays(path, description='teacher logits', default_key='logits')


def _as_logits(path: Path, name: str, logits: np.ndarray, examples: int, classes: int, check: bool) -> np.ndarray:
    """Returns float32 `[N, K, C]`."""
    if logits.ndim not in (2, 3) or (len(logits), logits.shape[-1]) != (examples, classes):
        raise InputError(
            f'{name} of {path} have shape {logits.shape}; the data set needs [{examples}, {classes}] '
            f'or [{examples}, teachers, {classes}]'
        )
    if not np.issubdtype(logits.dtype, np.floating):
        raise InputError(f'{name} of {path} must be finite floats, not {logits.dtype}')
    with np.errstate(over='ignore'):
        logits = logits.reshape(examples, -1, classes).astype(np.float32)
    check_finite_logits(f'{name} of {path}', logits, check=check)
    return logits


def check_finite_logits(name: str, logits: np.ndarray, *, check: bool, force: str = f'; {_FORCE}') -> None:
    """Raises InputError for values that are not finite, and with `check` for probabilities.

    Args:
      name: what the values are, for messages.
      logits: float32 `[..., C]`.
      check: whether to refuse rows that are not negative and sum to 1.
      force: how to accept them nevertheless, which ends the message.
    """
    if not np.isfinite(logits).all():
        raise InputError(f'{name} must be finite floats; as float32, some are NaN or infinite')
    # Half precision and 1,000 classes leave a sum of probabilities within 0.01 of 1.
    if check and (logits >= 0).all() and np.allclose(logits.sum(-1), 1, atol=0.01):
        raise InputError(
            f'{name} are probabilities: no value is negative and every row sums to 1; '
            f'give the logits, or the logarithm of the probabilities{force}'
        )


def report_plausibility(teacher: str, logits: np.ndarray, labels: np.ndarray, *, refuse: bool = False) -> None:
    """Logs the accuracy of a teacher on the training labels, as a warning if it is implausible.

    Args:
      teacher: which teacher, for the message.
      logits: float `[N, C]`.
      labels: int `[N]`.
      refuse: whether an implausible accuracy is an error.

    Raises:
      InputError: the accuracy is implausible, and `refuse` is set.
    """
    result = plausibility.assess(logits, labels)
    description = plausibility.describe(teacher, result)
    if refuse and result.is_implausible:
        raise InputError(f'{description}; {_FORCE}')
    log(f'warning: {description}' if result.is_suspicious else description)

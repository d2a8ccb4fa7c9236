"""The significance of training examples in a run: its source, its file, and the weights that follow from it.

The file `significance.npz` says how often each training example passed the gate of a self-regulated training. Its
arrays are `index` int `[N]`, the position of the example in the data set's own order; `label` int `[N]`; `count` int
`[N]`; `epochs`, the number of epochs; `key`, the fingerprint of the training images and labels. The rows may be in any
order.
"""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from cckd_jax import config as settings, io, processes, selection
from cckd_jax.console import log
from cckd_jax.data import Dataset
from cckd_jax.errors import InputError, lookup
from cckd_jax.evaluators import Significance, TrainedNetwork
from cckd_jax.experiment.networks import Run
from cckd_jax.methods import Method
from cckd_jax.paths import expand

_REMEDY = (
    'train a teacher with --config.teacher.self_regulate=true, or give --config.significance.file=RUN/significance.npz '
    'of a run with such a teacher'
)
_NAMES = ('index', 'label', 'count', 'epochs', 'key')


def check(config: ConfigDict, method: Method) -> None:
    """Raises InputError if the settings alone show that the method needs significance and nothing provides it."""
    lookup(selection.NORMALIZATIONS, config.significance.normalization, 'significance.normalization')
    if config.num_teachers == 0 and (config.significance.file or method.weighting is not None):
        raise InputError(
            'the significance of samples is reported beside a teacher, and num_teachers=0; set --config.num_teachers=1'
        )
    if method.weighting is None or config.significance.file:
        return
    teacher = settings.teachers(config)[0]
    source = settings.logits_source(teacher)
    if source:
        raise InputError(
            f'{config.method} needs the significance of samples, which teacher.{source} does not give; {_REMEDY}'
        )
    if not (teacher.self_regulate or teacher.checkpoint):
        raise InputError(
            f'{config.method} needs the significance of samples, and the teacher is not self-regulated; {_REMEDY}'
        )


def load_or_count(run: Run, method: Method, teacher: TrainedNetwork | None) -> Significance | None:
    """Reads the counts of `significance.file`, or takes those of the (first) teacher.

    Returns:
      The counts; None if there are none and the run does not need them.

    Raises:
      InputError: the settings ask for counts that do not exist, or that do not fit the training data or the batch.
    """
    counts = _load_or_count(run, method, teacher)
    if method.weighting is None:
        if run.config.significance.file:
            log(f'{run.config.method} does not weigh by significance; only the report uses significance.file')
        return counts
    if counts is None:
        raise InputError(f'{run.config.method} needs the significance of samples; {_REMEDY}')
    positive = np.count_nonzero(weights(run, counts))
    if run.config.batch_size > positive:
        raise InputError(
            f'batch_size={run.config.batch_size} is larger than the {positive} training examples with a significance '
            f'above zero; set --config.batch_size to at most {positive}'
        )
    return counts


def weights(run: Run, significance: Significance) -> np.ndarray:
    """Weights of the training examples in the loss, float32 `[N]`."""
    return selection.significance(
        significance.counts, epochs=significance.epochs, normalization=run.config.significance.normalization
    )


def save_counts(run: Run, significance: Significance) -> None:
    """Writes `significance.npz` into the run directory.

    Raises:
      InputError: the run directory already holds other counts.
    """
    path = run.workdir / 'significance.npz'
    if path.exists():
        saved = load(path, run.dataset)
        if saved.epochs != significance.epochs or not np.array_equal(saved.counts, significance.counts):
            raise InputError(
                f'{path} holds other counts of significance, from an earlier start; give another --workdir'
            )
        return
    save(path, significance, run.dataset)


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


def _load_or_count(run: Run, method: Method, teacher: TrainedNetwork | None) -> Significance | None:
    config = run.config
    if config.significance.file:
        return processes.from_process_0(lambda: load(expand(config.significance.file), run.dataset))
    if teacher is None:
        return None
    folder = run.teachers[0].checkpoint
    key = run.dataset.train.fingerprint()
    if not teacher.meta.get('gate') or teacher.participation is None:
        reason = (
            f'the teacher in {folder} was trained without self-regulation, so it counted no significance; {_REMEDY}'
        )
    elif teacher.meta['train_data'] != key:
        reason = (
            f'the teacher in {folder} counted the significance of {len(teacher.participation)} other training examples '
            f'(their key is {teacher.meta["train_data"]}, that of the {len(run.dataset.train)} of this run is {key}); '
            'use the dataset.examples and validation_fraction that it was trained with, or train it again'
        )
    else:
        return Significance(teacher.participation, teacher.meta['epochs'])
    if method.weighting is not None or run.teachers[0].self_regulate:
        raise InputError(reason)
    return None

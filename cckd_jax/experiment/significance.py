"""The significance of the training examples in a run: where it comes from, and the weights that follow from it."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from cckd_jax import config as settings, selection
from cckd_jax.console import say
from cckd_jax.errors import InputError, lookup
from cckd_jax.experiment.networks import Run, Trained
from cckd_jax.methods import Method
from cckd_jax.training import significance as files
from cckd_jax.training.significance import Significance

_HOW = (
    'train one with --config.teacher.self_regulate=true, or give --config.significance.file=RUN/significance.npz of a '
    'run whose teacher was'
)


def check(config: ConfigDict, method: Method) -> None:
    """Raises InputError where it is certain from the settings that significance is asked for and none can be had."""
    lookup(selection.NORMALIZATIONS, config.significance.normalization, 'significance.normalization')
    if method.weighting is None or config.significance.file:
        return
    teacher = settings.teachers(config)[0]
    if teacher.logits:
        raise InputError(f'{config.method} needs the significance of samples, and teacher.logits have none; {_HOW}')
    if not (teacher.self_regulate or teacher.checkpoint):
        raise InputError(
            f'{config.method} needs the significance of samples, and the teacher is not self-regulated; {_HOW}'
        )


def find(this: Run, method: Method, teacher: Trained | None) -> Significance | None:
    """The counts of `significance.file`, or else of the (first) teacher; None where there are none and none are needed.

    Raises:
      InputError: the counts that the settings ask for are not there, or do not fit the training data or the batch.
    """
    found = _found(this, method, teacher)
    if method.weighting is not None:
        kept = np.count_nonzero(weights(this, found))
        if this.config.batch_size > kept:
            raise InputError(
                f'batch_size={this.config.batch_size} is larger than the {kept} training examples of a significance '
                f'above zero; set --config.batch_size to at most {kept}'
            )
    elif this.config.significance.file:
        say(f'{this.config.method} does not weigh by significance; the file given is described in the report alone')
    return found


def weights(this: Run, found: Significance) -> np.ndarray:
    """What the examples weigh, float32 `[N]`."""
    return selection.significance(
        found.counts, epochs=found.epochs, normalization=this.config.significance.normalization
    )


def keep(this: Run, found: Significance) -> None:
    """Writes `significance.npz` into the run.

    Raises:
      InputError: the run was begun with other counts.
    """
    path = this.workdir / 'significance.npz'
    if path.exists():
        begun = files.load(path, this.dataset)
        if begun.epochs != found.epochs or not np.array_equal(begun.counts, found.counts):
            raise InputError(
                f'{this.workdir} was begun with other counts of significance, kept in {path}; give another --workdir'
            )
        return
    files.save(path, found, this.dataset)


def _found(this: Run, method: Method, teacher: Trained | None) -> Significance | None:
    config = this.config
    if config.significance.file:
        return files.load(Path(config.significance.file).expanduser(), this.dataset)
    if teacher is None:
        return None
    reason = _why_none(this, teacher)
    if reason is None:
        return Significance(teacher.participation, teacher.meta['epochs'])
    if method.weighting is not None or this.teachers[0].self_regulate:
        raise InputError(reason)
    return None


def _why_none(this: Run, teacher: Trained) -> str | None:
    where = this.teachers[0].checkpoint
    if not teacher.meta.get('gate'):
        return f'the teacher in {where} was trained without self-regulation, so it counted no significance; {_HOW}'
    key = this.dataset.train.fingerprint()
    if teacher.meta['train_data'] != key:
        return (
            f'the teacher in {where} counted the significance of {len(teacher.participation)} other training examples '
            f'(their key is {teacher.meta["train_data"]}, that of the {len(this.dataset.train)} of this run is {key}); '
            'use the dataset.examples and validation_fraction that it was trained with, or train it again'
        )
    return None

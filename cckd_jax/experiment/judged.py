"""The networks of a finished run, with what they say of the test split: what its further sections judge."""

from typing import NamedTuple

import jax
import numpy as np

from cckd_jax import evaluation, models
from cckd_jax.experiment.networks import Run, Trained
from cckd_jax.experiment.teachers import Teachers

# Images that a device is given at a time: few enough that progress is seen.
EACH = 128


class Judged(NamedTuple):
    """Networks and their logits `[N, C]` of the test split, by `teacher`, `student` and `separate`.

    A teacher that is a file of logits has no network, and perhaps no logits of the test split; several teachers have
    the logits of their ensemble and no one network. `separate` is left out where it is the student. `of_this_split` are
    those that were trained on this run's training images, and so never saw its validation images.
    """

    networks: dict[str, models.Network]
    logits: dict[str, np.ndarray]
    of_this_split: frozenset[str]

    def students(self) -> list[str]:
        """Those that may be compared with the teacher."""
        return [name for name in ('student', 'separate') if name in self.networks]


def judged(this: Run, taught: Teachers, student: Trained, separate: Trained) -> Judged:
    """What is known of the networks of a run; each is asked about the test split once."""
    trained = {'student': student}
    if separate is not student:
        trained['separate'] = separate
    if len(taught.networks) == 1 and taught.networks[0] is not None:
        trained = {'teacher': taught.networks[0], **trained}
    networks = {name: each.network for name, each in trained.items()}
    logits = {
        name: evaluation.predict(network, this.dataset.test.images, devices=this.devices)
        for name, network in networks.items()
        if name != 'teacher'
    }
    if taught.outputs.test is not None:
        logits = {'teacher': evaluation.ensemble(taught.outputs.test), **logits}
    key = this.dataset.train.fingerprint()
    of_this_split = frozenset(name for name, each in trained.items() if each.meta.get('train_data') == key)
    return Judged(networks, logits, of_this_split)


def example_keys(this: Run, index: jax.Array) -> jax.Array:
    """One key for each example `[B]`, a function of the seed and its place in the test split."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(this.config.seed), index)

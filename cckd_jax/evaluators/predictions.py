"""The networks of a finished run and their predictions, computed once for all evaluators."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cckd_jax import evaluation, models
from cckd_jax.evaluators.finished_run import FinishedRun

# Images that a device attacks at a time: few enough for the progress bar to move.
IMAGES_PER_DEVICE = 128


class Predictions(NamedTuple):
    """Networks and predictions by the names `teacher`, `student` and `separate`, the student trained alone.

    Several students are `student_0` and so on.

    Attributes:
      networks: `teacher` is missing unless there is one teacher that is not a file of logits. `separate` is
        missing if the run has no such network, or if it is the student itself.
      logits: float32 `[M, C]` of the test split; `teacher` is the ensemble of several teachers, and is missing if
        there is none, or if a file of logits does not cover the test split.
      train_correct: bool `[N]`, which training images the `teacher` (or the ensemble), if there is one, and the
        students classify correctly.
      trained_here: names of networks trained on the training split of this run, which have not seen its validation
        split.
    """

    networks: dict[str, models.Network]
    logits: dict[str, np.ndarray]
    train_correct: dict[str, np.ndarray]
    trained_here: frozenset[str]

    def students(self) -> list[str]:
        """Names of the networks to compare with the teacher."""
        return [name for name in self.networks if name != 'teacher']


def predict(run: FinishedRun) -> Predictions:
    """Predictions of all networks on the test split, and of teacher and student on the training split."""
    (dataset, outputs) = (run.dataset, run.teachers.outputs)
    trained = dict(zip(run.student_names, run.students, strict=True))
    if run.baseline is not None and run.baseline is not run.student:
        trained['separate'] = run.baseline
    if len(run.teachers.networks) == 1 and run.teachers.networks[0] is not None:
        trained = {'teacher': run.teachers.networks[0], **trained}
    networks = {name: network.network for name, network in trained.items()}
    logits = {
        name: evaluation.predict(network, dataset.test.images, devices=run.devices)
        for name, network in networks.items()
        if name != 'teacher'
    }
    if outputs.test is not None:
        logits = {'teacher': evaluation.ensemble(outputs.test), **logits}
    train_correct = {}
    if run.teachers.networks:
        train_correct['teacher'] = evaluation.correct(evaluation.ensemble(outputs.train), dataset.train.labels)
    for name in run.student_names:
        train_logits = evaluation.predict(networks[name], dataset.train.images, devices=run.devices)
        train_correct[name] = evaluation.correct(train_logits, dataset.train.labels)
    key = dataset.train.fingerprint()
    trained_here = frozenset(name for name, network in trained.items() if network.meta.get('train_data') == key)
    return Predictions(networks, logits, train_correct, trained_here)


def selected(names: Iterable[str], kinds: Sequence[str]) -> list[str]:
    """The networks of the kinds that `evaluate.networks` lists, where `student` stands for all students.

    >>> selected(['teacher', 'student_0', 'student_1'], ['student'])
    ['student_0', 'student_1']
    """
    return [name for name in names if name.partition('_')[0] in kinds]

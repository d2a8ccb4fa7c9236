"""The finished run that evaluators measure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import data, models
from cckd_jax.methods import Method
from cckd_jax.paths import network_names
from cckd_jax.synthesis import TransferSet
from cckd_jax.training.teacher_outputs import TeacherOutputs


class TrainedNetwork(NamedTuple):
    """A network with its training; one that was restored from another run has no rows and took no time.

    Attributes:
      network: the network.
      meta: what its checkpoint records, such as `model`, `epochs` and `method`.
      rows: its rows of `metrics.jsonl`.
      participation: int32 `[N]`, in how many epochs each example of its own training set trained it; None for a
        restored network without a gate.
    """

    network: models.Network
    meta: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    participation: np.ndarray | None

    @property
    def seconds(self) -> float:
        """Duration of its epochs."""
        return sum(row['epoch_seconds'] for row in self.rows)


class Teachers(NamedTuple):
    """The teachers: networks (None for a teacher that is a file of logits) and the logits of all of them."""

    networks: tuple[TrainedNetwork | None, ...]
    outputs: TeacherOutputs


class Significance(NamedTuple):
    """In how many epochs each training example passed a gate, int `[N]`, and the number of these epochs."""

    counts: np.ndarray
    epochs: int


class FinishedRun(NamedTuple):
    """A run whose networks are trained.

    Attributes:
      config: the settings of the run.
      dataset: its train, validation and test split.
      workdir: the run directory.
      devices: the devices to compute on.
      method: the method that trained the student.
      teachers: the teachers and their logits.
      students: the distilled student, or several that trained together.
      baseline: the student trained without a teacher; the student itself if the method is `separate`; None if the
        run leaves it out.
      significance: how often each training example trained the teacher, or None.
      transfer: what the student learned from in place of the training set, or None.
    """

    config: ConfigDict
    dataset: data.Dataset
    workdir: Path
    devices: Sequence[jax.Device]
    method: Method
    teachers: Teachers
    students: tuple[TrainedNetwork, ...]
    baseline: TrainedNetwork | None
    significance: Significance | None
    transfer: TransferSet | None = None

    @property
    def student(self) -> TrainedNetwork:
        """The distilled student, of several the first."""
        return self.students[0]

    @property
    def student_names(self) -> list[str]:
        """`student`, or `student_0` and so on."""
        return network_names('student', len(self.students))

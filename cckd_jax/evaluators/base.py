"""What an evaluator is, and the finished run that it measures."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import data, models
from cckd_jax.evaluators.predictions import Predictions
from cckd_jax.methods import Method
from cckd_jax.training import arrays
from cckd_jax.training.significance import Significance
from cckd_jax.training.teacher_outputs import TeacherOutputs


class TrainedNetwork(Protocol):
    """A network with its training.

    Attributes:
      network: the network.
      meta: what its checkpoint records, such as `model`, `epochs` and `method`.
      rows: its rows of `metrics.jsonl`; none if it was restored from another run.
      participation: int `[N]`, in how many epochs each training example trained it, or None if unknown.
      seconds: duration of its epochs.
    """

    network: models.Network
    meta: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    participation: np.ndarray | None
    seconds: float


class Teachers(Protocol):
    """The teachers: networks (None for a teacher that is a file of logits) and the logits of all of them."""

    networks: Sequence[TrainedNetwork | None]
    outputs: TeacherOutputs


class FinishedRun(NamedTuple):
    """A run whose networks are trained.

    Attributes:
      config: the settings of the run.
      dataset: its train, validation and test split.
      workdir: the run directory.
      devices: the devices to compute on.
      method: the method that trained the student.
      teachers: the teachers and their logits.
      student: the distilled student.
      baseline: the student trained without a teacher; the student itself if the method is `separate`; None if the
        run leaves it out.
      significance: how often each training example trained the teacher, or None.
    """

    config: ConfigDict
    dataset: data.Dataset
    workdir: Path
    devices: Sequence[jax.Device]
    method: Method
    teachers: Teachers
    student: TrainedNetwork
    baseline: TrainedNetwork | None
    significance: Significance | None


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """One section of `results.json` and of the report.

    Attributes:
      measure: `(run, predictions) -> dict`, numbers that JSON can hold; None if there is nothing to measure.
      table: `(section) -> Markdown`, from what `measure` returned; an empty string for no section.
      figure: `(workdir, section)`, draws into `<workdir>/figures`. It reads the section and files of the run directory
        alone, so that figures can be redrawn without the networks; `save_arrays` stores values of single examples.
      shared: whether `measure` fills several entries of `results.json` that other evaluators fill as well, such as
        `student`. `table` and `figure` then take the whole of `results.json`.
    """

    measure: Callable[[FinishedRun, Predictions], dict[str, Any] | None]
    table: Callable[[Mapping[str, Any]], str]
    figure: Callable[[Path, Mapping[str, Any]], None] | None = None
    shared: bool = False


def save_arrays(workdir: Path, name: str, **values: np.ndarray) -> None:
    """Writes `<workdir>/evaluation/<name>.npz`, what a figure needs beside `results.json`."""
    folder = workdir / 'evaluation'
    folder.mkdir(exist_ok=True)
    arrays.save(folder / f'{name}.npz', **values)


def load_arrays(workdir: Path, name: str) -> dict[str, np.ndarray]:
    """Reads what `save_arrays` wrote.

    Raises:
      InputError: the file is missing or damaged.
    """
    return arrays.load(workdir / 'evaluation' / f'{name}.npz', what='evaluation', alone=name)

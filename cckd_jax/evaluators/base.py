"""What an evaluator is, and the files that its figures are drawn from."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cckd_jax import io
from cckd_jax.evaluators.finished_run import FinishedRun
from cckd_jax.evaluators.predictions import Predictions


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """One section of `results.json` and of the report.

    Attributes:
      measure: `(run, predictions) -> dict`, numbers that JSON can hold; None if there is nothing to measure.
      table: `(section) -> Markdown`, from what `measure` returned; an empty string for no section.
      figure: `(workdir, section)`, draws into `<workdir>/figures`. It reads the section and files of the run directory
        alone, so that figures can be redrawn without the networks; `save_arrays` stores values of single examples.
      shared: whether `measure` fills several entries of `results.json` that other evaluators fill as well, such as
        `student`, or None for an entry without numbers. `table` and `figure` then take the whole of `results.json`.
    """

    measure: Callable[[FinishedRun, Predictions], dict[str, Any] | None]
    table: Callable[[Mapping[str, Any]], str]
    figure: Callable[[Path, Mapping[str, Any]], None] | None = None
    shared: bool = False


def one_or_lists(networks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries of one network, or for several networks a list for each entry.

    >>> one_or_lists([{'seconds': 1.0}]), one_or_lists([{'seconds': 1.0}, {'seconds': 2.0}])
    ({'seconds': 1.0}, {'seconds': [1.0, 2.0]})
    """
    if len(networks) == 1:
        return dict(networks[0])
    return {name: [network[name] for network in networks] for name in networks[0]}


def save_arrays(workdir: Path, name: str, **values: np.ndarray) -> None:
    """Writes `<workdir>/evaluation/<name>.npz`, what a figure needs beside `results.json`."""
    folder = workdir / 'evaluation'
    folder.mkdir(exist_ok=True)
    io.save_arrays(folder / f'{name}.npz', **values)


def load_arrays(workdir: Path, name: str) -> dict[str, np.ndarray]:
    """Reads what `save_arrays` wrote.

    Raises:
      InputError: the file is missing or damaged.
    """
    path = workdir / 'evaluation' / f'{name}.npz'
    return io.load_arrays(path, description=f'values for the section {name}', default_key=name)

"""Trackers of experiments, such as Weights & Biases: they receive the scalars that TensorBoard shows.

A run directory is one run of the tracker. The scalar `loss` of the network in `student/` is `student/loss`, and its
step is the epoch. `tracker.json` in the run directory counts the epochs that were sent, so that a resumed run continues
without gaps. The count is saved every ten seconds: after a kill, rows of the last seconds may be sent again.
"""

import contextlib
import importlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cckd_jax.console import log
from cckd_jax.imports import require, resolve
from cckd_jax.io import write_json
from cckd_jax.report.metrics import scalars

_PROJECT = 'cckd-jax'
_FILE = 'tracker.json'
_SECONDS_BETWEEN_SAVES = 10.0


class Session(NamedTuple):
    """What a tracker is told when a run begins or resumes.

    Attributes:
      workdir: the run directory, whose path names the run.
      id: of the run, the same when it resumes.
      rows_sent: number of rows, of all networks, that earlier processes sent.
      config: the settings.
    """

    workdir: Path
    id: str
    rows_sent: int
    config: Mapping[str, Any]


class Connection(Protocol):
    """An open run of a tracker."""

    def log(self, network: str, values: Mapping[str, float], epoch: int) -> None:
        """Sends the scalars of one epoch of a network."""

    def finish(self) -> None:
        """Ends the run."""


class _WandB:
    """Weights & Biases; its own environment variables choose project, folder and offline mode."""

    def __init__(self, session: Session):
        # Optional, and slow to import.
        self._run = importlib.import_module('wandb').init(
            project=os.environ.get('WANDB_PROJECT', _PROJECT),
            dir=os.environ.get('WANDB_DIR', str(session.workdir)),
            name=str(session.workdir),
            id=session.id,
            resume='allow',
            config=dict(session.config),
        )
        self._rows = session.rows_sent

    def log(self, network: str, values: Mapping[str, float], epoch: int) -> None:
        """Sends the scalars of one epoch of a network."""
        # The step of a run only grows, and every network begins with epoch 0: each has an axis of its own.
        axis = f'{network}/epoch'
        self._run.define_metric(f'{network}/*', step_metric=axis)
        self._run.log({**_with_network(network, values), axis: epoch}, step=self._rows)
        self._rows += 1

    def finish(self) -> None:
        """Uploads what is left."""
        self._run.finish()


class _Trackio:
    """trackio, which writes into a local data base unless its own environment variables name a server."""

    def __init__(self, session: Session):
        # Optional, and slow to import.
        self._trackio = importlib.import_module('trackio')
        self._trackio.init(
            project=os.environ.get('TRACKIO_PROJECT', _PROJECT),
            name=str(session.workdir),
            resume='allow' if session.rows_sent else 'never',
            config=dict(session.config),
        )

    def log(self, network: str, values: Mapping[str, float], epoch: int) -> None:
        """Sends the scalars of one epoch of a network."""
        self._trackio.log(_with_network(network, values), step=epoch)

    def finish(self) -> None:
        """Writes what is left."""
        self._trackio.finish()


# By the names of their packages, and of the extras that install them.
TRACKERS: Mapping[str, Callable[[Session], Connection]] = {'wandb': _WandB, 'trackio': _Trackio}


def check(name: str | None) -> None:
    """Raises InputError if there is no such tracker, or if its package is not installed."""
    if name is None:
        return
    resolve(name, TRACKERS, 'tracker')
    if name in TRACKERS:
        require(name, extra=name)


class Tracker:
    """The run of a tracker. If the tracker fails, training continues without it.

    Args:
      name: a key of `TRACKERS`, or `package.module:NAME` of a function from a `Session` to a `Connection`.
      workdir: the run directory.
      config: the settings, as JSON values.
    """

    def __init__(self, name: str, workdir: Path, config: Mapping[str, Any]):
        self._name, self._path = name, workdir / _FILE
        earlier = _read(self._path)
        # Rows that another tracker received are unknown to this one.
        is_resumed = earlier.get('tracker') == name
        self._id = earlier['id'] if is_resumed else uuid.uuid4().hex
        self._sent: dict[str, int] = dict(earlier['epochs']) if is_resumed else {}
        self._connection: Connection | None = None
        self._saved = time.monotonic()
        with self._survived():
            session = Session(workdir, self._id, sum(self._sent.values()), config)
            self._connection = resolve(name, TRACKERS, 'tracker')(session)

    def writer(self, network: str) -> 'TrackerWriter':
        """An observer that sends the rows of a network."""
        return TrackerWriter(self, network)

    def send(self, network: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Sends the rows of the epochs that were not sent before."""
        for row in rows:
            if self._connection is None or row['epoch'] < self._sent.get(network, 0):
                continue
            with self._survived():
                self._connection.log(network, dict(scalars(row)), row['epoch'])
                self._sent[network] = row['epoch'] + 1
        if time.monotonic() - self._saved >= _SECONDS_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        """Writes how many epochs were sent."""
        write_json(self._path, {'tracker': self._name, 'id': self._id, 'epochs': self._sent})
        self._saved = time.monotonic()

    def finish(self) -> None:
        """Ends the run of the tracker."""
        self.save()
        if self._connection is not None:
            with self._survived():
                self._connection.finish()

    @contextlib.contextmanager
    def _survived(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a tracker fails in ways of its own, such as those of the network
            self._connection = None
            reason = ' '.join(str(error).split()) or type(error).__name__
            log(f'warning: the tracker {self._name} failed: {reason}; the run continues without it')


class TrackerWriter:
    """Sends the rows of one network to a tracker; an observer of the loop."""

    def __init__(self, tracker: Tracker, network: str):
        self._tracker, self._network = tracker, network

    def start(self, rows: Sequence[dict[str, Any]]) -> None:
        """Sends rows of an earlier process that it did not send."""
        self._tracker.send(self._network, rows)

    def step(self, epoch: int, metrics: dict[str, Any]) -> None:
        """Does nothing: rows are per epoch."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Sends a row."""
        self._tracker.send(self._network, [row])

    def close(self) -> None:
        """Writes how many epochs were sent."""
        self._tracker.save()


@contextlib.contextmanager
def opened(name: str | None, workdir: Path, config: Mapping[str, Any]) -> Iterator[Tracker | None]:
    """Opens a tracker for the time of the block; None without a name."""
    if name is None:
        yield None
        return
    tracker = Tracker(name, workdir, config)
    try:
        yield tracker
    finally:
        tracker.finish()


def _with_network(network: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f'{network}/{name}': value for name, value in values.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}

"""The training loop: epochs, metrics fetched one step late, and checkpoints. It knows no method by name."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import numpy as np

from cckd_jax import processes
from cckd_jax.data import epoch_batches
from cckd_jax.errors import InputError
from cckd_jax.training.state import TrainData, replicate
from cckd_jax.training.step import Metrics
from cckd_jax.training.streaming import Stream
from cckd_jax.training.totals import EpochTotals, Row, Totals

# The state of one network, or of several that train together.
State = TypeVar('State', bound='LoopState')


class LoopState(Protocol):
    """What the loop needs of a state, a pytree: `TrainState` or `PeerState`."""

    @property
    def params(self) -> Any: ...

    @property
    def records(self) -> Mapping[str, Any]: ...

    def at_epoch(self, epoch: int, devices: Sequence[jax.Device]) -> Any:
        """The state at the start of an epoch."""


class StateCheckpoints(Protocol[State]):
    """What the loop needs of checkpoints: `Checkpoints` or `PeerCheckpoints`."""

    def save(self, state: State, rows: Sequence[Row]) -> None:
        """Starts to write the state after `len(rows)` epochs."""

    def restore(self, state: State) -> tuple[State, list[Row]]:
        """The state and the rows of the newest checkpoint; the argument and no rows without one."""

    def describe(self) -> str:
        """A phrase that names the newest checkpoint."""


class Observer(Protocol):
    """Receives the metrics of a run, for example to write or to show them."""

    def start(self, rows: Sequence[Row]) -> None:
        """Called before the first step, with the rows of the epochs that are already done."""

    def step(self, epoch: int, metrics: dict[str, Any]) -> None:
        """Called with the metrics of each step, one step late."""

    def epoch(self, row: Row) -> None:
        """Called with the row of each finished epoch."""


class Schedule(NamedTuple):
    """Number of epochs, size of batches and order of examples.

    Attributes:
      epochs: number of epochs.
      batch_size: B, over all devices.
      seed: seed of the order, or of the order of each network of a `SeedsState`.
      subset: int `[M]`, the examples of an epoch.
      steps_per_call: largest number of steps that one call of the step takes; 1 for a step without scan.
    """

    epochs: int
    batch_size: int
    seed: int | tuple[int, ...]
    subset: np.ndarray
    steps_per_call: int = 1

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * -(-len(self.subset) // self.batch_size)


class NonFiniteLoss(InputError):
    """Training diverged; the last good checkpoint is kept."""


def train(
    step: Callable[[State, TrainData, Any], tuple[State, Metrics]],
    state: State,
    data: TrainData,
    schedule: Schedule,
    *,
    checkpoints: StateCheckpoints[State],
    observers: Sequence[Observer],
    devices: Sequence[jax.Device],
    measures: Callable[[State], Row] = lambda state: {},
    save_seconds: float = 10.0,
    totals: Callable[[], EpochTotals] = Totals,
    stream: Stream = iter,
) -> tuple[State, list[Row]]:
    """Trains to the end of the schedule, and resumes from the newest checkpoint if there is one.

    Args:
      step: of `make_step` or `make_peer_step`, for the same devices.
      state: the initial state, if there is no checkpoint.
      data: the training set.
      schedule: epochs, batch size, seed, and the examples of an epoch.
      checkpoints: read at the start; written after the last epoch, and after an epoch that ends `save_seconds` or more
        after the last write.
      observers: receive all metrics.
      devices: of this process, which hold the replicated state; the batch is split over those of all processes.
      measures: `state -> columns`, further columns of an epoch's row, such as the accuracy on held-out data.
      save_seconds: time between checkpoints, in seconds; 0 saves after every epoch.
      totals: makes the sums of an epoch, for one network or for several.
      stream: of `make_stream`, for images that stay on the disk.

    Returns:
      The trained state, and one row per epoch.

    Raises:
      NonFiniteLoss: the loss, the gradient or a weight became NaN or infinite.
      InputError: the batch does not divide over the devices, or is larger than an epoch.
    """
    all_devices = processes.all_devices(devices)
    check_batch(schedule.batch_size, len(schedule.subset), all_devices)
    state, rows = checkpoints.restore(state)
    for observer in observers:
        observer.start(rows)
    if len(rows) >= schedule.epochs:
        return state, rows
    state, data = replicate(state, devices), replicate(data, devices)
    saved = time.monotonic()
    for epoch in range(len(rows), schedule.epochs):
        state = state.at_epoch(epoch, devices)
        started = time.monotonic()
        sums = _Steps(totals(), checkpoints)
        pending = None
        subset = schedule.subset
        if 'next_epoch' in state.records:
            subset = subset[jax.device_get(state.records['next_epoch'])[subset] <= epoch]
        for batch in stream(_dispatches(schedule, subset, epoch, len(all_devices))):
            state, metrics = step(state, data, batch)
            # Fetching the previous call's metrics lets the devices run ahead by one call and no more: XLA:CPU deadlocks
            # when hundreds of collective steps are queued.
            if pending is not None:
                sums.add(epoch, jax.device_get(pending), observers)
            pending = metrics
        if pending is not None:
            sums.add(epoch, jax.device_get(pending), observers)
        columns = measures(state) | {'epoch_seconds': time.monotonic() - started}
        row = sums.totals.row(epoch, len(schedule.subset), columns)
        rows.append(row)
        for observer in observers:
            observer.epoch(row)
        last = epoch + 1 == schedule.epochs
        if last or time.monotonic() - saved >= save_seconds:
            if not _all_finite(state.params):
                raise _diverged(epoch, sums.steps, checkpoints)
            checkpoints.save(state, rows)
            saved = time.monotonic()
    return state, rows


def _dispatches(schedule: Schedule, subset: np.ndarray, epoch: int, devices: int) -> Iterator[np.ndarray]:
    """The indices of each call of the step: `[devices, B / devices]`, or `[devices, steps, B / devices]`.

    With several seeds, their axis comes before that of the batch.
    """
    order = lambda seed: [
        indices.reshape(devices, -1)
        for indices in epoch_batches(subset, batch_size=schedule.batch_size, seed=seed, epoch=epoch)
    ]
    if isinstance(schedule.seed, tuple):
        batches = [np.stack(own, axis=1) for own in zip(*map(order, schedule.seed), strict=True)]
    else:
        batches = order(schedule.seed)
    if schedule.steps_per_call == 1:
        yield from batches
    elif batches:
        calls = -(-len(batches) // schedule.steps_per_call)
        yield from (np.swapaxes(group, 0, 1) for group in np.array_split(np.stack(batches), calls))


class _Steps:
    """Passes the metrics of each step of one epoch on, and stops at the first that is not finite."""

    def __init__(self, totals: EpochTotals, checkpoints: StateCheckpoints[Any]):
        self._checkpoints = checkpoints
        self.totals = totals
        self.steps = 0

    def add(self, epoch: int, metrics: dict[str, Any], observers: Sequence[Observer]) -> None:
        """Adds the metrics of one call of the step: scalars of one step, or arrays over several steps."""
        if np.ndim(metrics['finite']) == 0:
            self._add_step(epoch, metrics, observers)
            return
        for step in range(len(metrics['finite'])):
            self._add_step(epoch, jax.tree.map(lambda values, step=step: values[step], metrics), observers)

    def _add_step(self, epoch: int, metrics: dict[str, Any], observers: Sequence[Observer]) -> None:
        self.steps += 1
        if not metrics['finite']:
            raise _diverged(epoch, self.steps, self._checkpoints)
        self.totals.add(metrics)
        for observer in observers:
            observer.step(epoch, metrics)


def check_batch(batch_size: int, examples: int, devices: Sequence[jax.Device]) -> None:
    """Raises InputError for a batch that is larger than an epoch or does not divide over the devices."""
    if batch_size > examples:
        raise InputError(
            f'batch_size={batch_size} is larger than the {examples} training examples; '
            f'set --config.batch_size to at most {examples}'
        )
    if batch_size % len(devices):
        raise InputError(
            f'batch_size={batch_size} does not divide over {len(devices)} devices; '
            f'set --config.batch_size to a multiple of {len(devices)}'
        )


def _all_finite(tree: Any) -> bool:
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


def _diverged(epoch: int, step: int, checkpoints: StateCheckpoints[Any]) -> NonFiniteLoss:
    return NonFiniteLoss(
        f'the loss or a weight became NaN or infinite in epoch {epoch}, step {step} of it; {checkpoints.describe()}; '
        'lower the learning rate, or raise the temperature, in a new workdir'
    )

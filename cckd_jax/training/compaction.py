"""The training step with a backward pass over the kept samples only.

A forward pass over the whole batch evaluates the gate. The kept samples are packed into the smallest of a few fixed
sizes, and only the packed batch is differentiated. Without batch norm, the update equals that of the masked step to
float tolerance, dropout included, because its keys belong to examples. With batch norm there is one difference: the
packed samples are normalised by their own statistics, not by those of the whole batch. The running statistics are
updated by the pass over the whole batch in both cases.
"""

from collections.abc import Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cckd_jax import processes
from cckd_jax.data import PADDING, Augment
from cckd_jax.methods import Method
from cckd_jax.training.batch import Rows, select
from cckd_jax.training.state import TrainData, TrainState
from cckd_jax.training.step import AXIS, Metrics, Step, TrainStep, parallel, sum_over_devices

# A smaller backward pass than this is not faster.
_SMALLEST = 16
# Above this fraction of kept samples, a second forward pass costs more than it saves.
_FORWARD_PAYS = 0.25


def sizes(rows: int) -> list[int]:
    """Sizes that the kept of a device's `rows` are packed into: a quarter, halves of that, or all; each is a program.

    >>> sizes(512)
    [16, 32, 64, 128, 512]
    """
    choices = [rows]
    size = rows // 4
    while size >= _SMALLEST:
        choices.insert(0, size)
        size //= 2
    return choices


def make_compact_step(
    method: Method,
    student: nn.Module,
    teachers: Sequence[nn.Module],
    optimizer: optax.GradientTransformation,
    *,
    devices: Sequence[jax.Device],
    augment: Augment | None = None,
) -> Step:
    """Like `make_step`, with the packed size chosen on the host between two dispatches; for CPUs.

    If the previous step kept more than a quarter of its samples, the masked step runs instead. The first step of an
    epoch ignores the previous one, so that a resumed run takes the same steps.
    """
    train_step = TrainStep(method, student, tuple(teachers), optimizer, augment)

    def forward(state: TrainState, data: TrainData, rows: Rows):
        aux = train_step.forward(state, data, rows)
        keep = jax.lax.all_gather(aux.keep, AXIS)
        return (train_step.update_records(state, aux), aux.batch_stats), (keep, train_step.batch_counts(aux))

    def packed(state: TrainState, constants: tuple[TrainData, Any], rows: Rows) -> tuple[TrainState, Metrics]:
        (data, (records, batch_stats)) = constants
        (loss_sum, aux), gradients = train_step.gradients(state, data, rows, gated=False)
        (state, metrics) = train_step.apply_gradients(state, loss_sum, gradients, aux.keep, batch_stats)
        return state.replace(records=records), metrics | sum_over_devices(aux.teacher_weights)

    masked, packed = parallel(train_step.masked, devices), parallel(packed, devices)
    forward = parallel(forward, devices, donate=False)
    count = len(processes.all_devices(devices))
    last: dict[str, Any] = {'epoch': None, 'metrics': None}

    def step(state: TrainState, data: TrainData, rows: Rows) -> tuple[TrainState, Metrics]:
        epoch = int(state.epoch)
        if last['epoch'] == epoch and _kept_fraction(last['metrics']) > _FORWARD_PAYS:
            (state, metrics) = masked(state, data, rows)
        else:
            constants, (keep, counts) = forward(state, data, rows)
            kept = np.flatnonzero(keep)
            needed = -(-len(kept) // count)
            size = next(size for size in sizes(keep.shape[1]) if size >= needed)
            positions = np.full(size * count, PADDING, np.int32)
            positions[: len(kept)] = kept
            # Devices receive samples in turn, so that their numbers are equal.
            positions = np.ascontiguousarray(positions.reshape(size, count).T)
            (state, metrics) = packed(state, (data, constants), select(_joined(rows), positions))
            metrics = metrics | counts
        last.update(epoch=epoch, metrics=metrics)
        return state, metrics

    return step


def make_compact_step_on_device(
    method: Method,
    student: nn.Module,
    teachers: Sequence[nn.Module],
    optimizer: optax.GradientTransformation,
    *,
    devices: Sequence[jax.Device] | None = None,
    augment: Augment | None = None,
    scan: bool = False,
) -> Step:
    """Like `make_compact_step`, in one dispatch, with the size that the fullest device needs; for accelerators.

    On a CPU, a switch inside the program is slower than the masked step.
    """
    train_step = TrainStep(method, student, tuple(teachers), optimizer, augment)

    def step(state: TrainState, data: TrainData, rows: Rows) -> tuple[TrainState, Metrics]:
        aux = train_step.forward(state, data, rows)
        choices = sizes(len(aux.keep))
        needed = jax.lax.pmax(jnp.sum(aux.keep), AXIS)
        order = jnp.argsort(~aux.keep)
        positions = jnp.where(aux.keep[order], order, PADDING)

        def gradients(size: int) -> tuple[chex.Array, Any, Any]:
            (loss_sum, packed), gradients = train_step.gradients(
                state, data, select(rows, positions[:size]), gated=False
            )
            return loss_sum, gradients, packed.teacher_weights

        index = jnp.searchsorted(jnp.asarray(choices), needed)
        branches = [lambda size=size: gradients(size) for size in choices]
        (loss_sum, summed, teacher_weights) = jax.lax.switch(index, branches)
        (new, metrics) = train_step.apply_gradients(state, loss_sum, summed, aux.keep, aux.batch_stats)
        new = new.replace(records=train_step.update_records(state, aux))
        return new, train_step.batch_counts(aux) | metrics | sum_over_devices(teacher_weights)

    return parallel(step, devices, scan=scan)


def _joined(rows: Rows) -> Rows:
    """Rows `[devices, B / devices]` as `[B]`, on the host."""
    return jax.tree.map(lambda values: np.asarray(values).reshape(-1, *values.shape[2:]), rows)


def _kept_fraction(metrics: Metrics) -> float:
    return int(metrics['kept']) / int(metrics['presented'])

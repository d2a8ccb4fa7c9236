"""The same update with the backward pass over the kept samples alone.

A forward pass over everyone decides who takes part; those are packed into the smallest of a few fixed sizes, and only
they are differentiated. The update is the masked step's to float tolerance for networks without batch norm, dropout
drawn by example included. With batch norm it differs in one thing: the packed samples are normalised by their own
statistics and not by the whole batch's. The running statistics are moved by the pass over everyone, as always.
"""

from collections.abc import Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cckd_jax.data import PADDING, Augment
from cckd_jax.methods import Method, everyone
from cckd_jax.training.state import Frozen, TrainState
from cckd_jax.training.step import AXIS, Metrics, Step, Update, parallel, totals

# Below this, a backward pass is no faster for being smaller.
_SMALLEST = 16
# Above this share of kept samples, a second forward pass costs more than it saves.
_WORTH_A_LOOK = 0.25


def sizes(rows: int) -> list[int]:
    """What a device's share of `rows` is packed into: a quarter of it, halves of that, or all; each is a program.

    >>> sizes(512)
    [16, 32, 64, 128, 512]
    """
    found = [rows]
    size = rows // 4
    while size >= _SMALLEST:
        found.insert(0, size)
        size //= 2
    return found


def make_compact_step(
    method: Method,
    student: nn.Module,
    teachers: Sequence[nn.Module],
    optimizer: optax.GradientTransformation,
    *,
    devices: Sequence[jax.Device],
    augment: Augment | None = None,
) -> Step:
    """As `make_step`, with the size chosen on the host between two dispatches: the way for CPUs.

    While more than a quarter of the step before was kept, the masked step is taken; the first step of an epoch looks
    anew, so that a run that is resumed takes the same steps.
    """
    update = Update(method, student, tuple(teachers), optimizer, augment)

    def look(state: TrainState, frozen: Frozen, indices: chex.Array):
        seen = update.look(state, frozen, indices)
        keep = jax.lax.all_gather(seen.keep, AXIS)
        return (update.records(state, seen), seen.batch_stats), (keep, update.counts(seen))

    def packed(state: TrainState, constants: tuple[Frozen, Any], indices: chex.Array) -> tuple[TrainState, Metrics]:
        (frozen, batch_stats) = constants
        (loss_sum, seen), gradients = update.gradients(state, frozen, indices, everyone)
        (state, taken) = update.descend(state, loss_sum, gradients, seen.keep, batch_stats)
        return state, taken | totals(seen.shares)

    masked, packed = parallel(update.masked, devices), parallel(packed, devices)
    look = jax.pmap(look, axis_name=AXIS, in_axes=(None, None, 0), out_axes=(None, None), devices=devices)
    before = {'epoch': None, 'metrics': None}

    def step(state: TrainState, frozen: Frozen, indices: chex.Array) -> tuple[TrainState, Metrics]:
        epoch = int(state.epoch)
        if before['epoch'] == epoch and _share(before['metrics']) > _WORTH_A_LOOK:
            (state, metrics) = masked(state, frozen, indices)
        else:
            (records, batch_stats), (keep, counts) = look(state, frozen, indices)
            kept = np.asarray(indices)[np.asarray(keep)]
            share = -(-len(kept) // len(devices))
            size = next(size for size in sizes(indices.shape[1]) if size >= share)
            rows = np.full(size * len(devices), PADDING, np.int32)
            rows[: len(kept)] = kept
            # Dealt out in turn, so that no device is left without any while another has many.
            rows = np.ascontiguousarray(rows.reshape(size, len(devices)).T)
            (state, metrics) = packed(state.replace(**records), (frozen, batch_stats), rows)
            metrics = metrics | counts
        before.update(epoch=epoch, metrics=metrics)
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
    """As `make_compact_step`, in one dispatch, with the size that the fullest device needs: the way for accelerators.

    On a CPU a switch inside the program is slower than the masked step.
    """
    update = Update(method, student, tuple(teachers), optimizer, augment)

    def step(state: TrainState, frozen: Frozen, indices: chex.Array) -> tuple[TrainState, Metrics]:
        seen = update.look(state, frozen, indices)
        choices = sizes(len(indices))
        needed = jax.lax.pmax(jnp.sum(seen.keep), AXIS)
        rows = jnp.where(seen.keep, indices, PADDING)[jnp.argsort(~seen.keep)]

        def gradients(size: int) -> tuple[chex.Array, Any, Any]:
            (loss_sum, packed), gradients = update.gradients(state, frozen, rows[:size], everyone)
            return loss_sum, gradients, packed.shares

        place = jnp.searchsorted(jnp.asarray(choices), needed)
        (loss_sum, found, shares) = jax.lax.switch(place, [lambda size=size: gradients(size) for size in choices])
        (new, taken) = update.descend(state, loss_sum, found, seen.keep, seen.batch_stats)
        return new.replace(**update.records(state, seen)), update.counts(seen) | taken | totals(shares)

    return parallel(step, devices, scan=scan)


def _share(metrics: Metrics) -> float:
    return int(metrics['kept']) / int(metrics['presented'])

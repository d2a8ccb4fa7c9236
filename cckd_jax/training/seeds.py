"""One network under several seeds, trained in one program: a step of all of them costs one dispatch.

On accelerators a small network leaves most of the device idle, and training several at once fills it. Each seed keeps
its own weights, order of examples, dropout and augmentation, so it ends as it would alone, up to rounding. Unlike
students that teach each other (`peers.py`), the networks have one architecture, so their states are one pytree with a
leading axis.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from cckd_jax.data import Augment
from cckd_jax.errors import lookup
from cckd_jax.methods import Method
from cckd_jax.training.batch import Rows
from cckd_jax.training.state import TrainData, TrainState, replicate
from cckd_jax.training.step import Metrics, TrainStep, parallel

# A step of one seed, and the same step of all seeds.
_Step = Callable[[TrainState, TrainData, Rows], tuple[TrainState, Metrics]]


class SeedsState(flax.struct.PyTreeNode):
    """The train states of all seeds, stacked; donated to the step.

    Attributes:
      stacked: arrays `[S, ...]`.
    """

    stacked: TrainState

    @classmethod
    def stack(cls, states: Sequence[TrainState]) -> 'SeedsState':
        """Stacks the state of each seed."""
        return cls(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))

    @property
    def params(self) -> Any:
        return self.stacked.params

    @property
    def records(self) -> dict[str, chex.Array]:
        """Empty: the records that the loop reads let examples skip epochs, which would differ by seed."""
        return {}

    @property
    def peers(self) -> tuple[TrainState, ...]:
        """The state of each seed, in host memory."""
        stacked = jax.device_get(self.stacked)
        return tuple(jax.tree.map(lambda leaf, index=index: leaf[index], stacked) for index in range(len(stacked.step)))

    def with_peers(self, states: Sequence[TrainState]) -> 'SeedsState':
        """The state that consists of these."""
        return self.stack(states)

    def at_epoch(self, epoch: int, devices: Sequence[jax.Device]) -> 'SeedsState':
        """The state at the start of an epoch."""
        epochs = jnp.full(self.stacked.epoch.shape, epoch, jnp.int32)
        return self.replace(stacked=self.stacked.replace(epoch=replicate(epochs, devices)))


def stack_data(data: Sequence[TrainData]) -> TrainData:
    """The training data of all seeds: images and labels once, and everything else stacked.

    Args:
      data: of each seed, with equal images and labels.
    """
    stack = lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves])
    return data[0].replace(
        aux=jax.tree.map(stack, *(own.aux for own in data)),
        teachers=jax.tree.map(stack, *(own.teachers for own in data)),
        key=jnp.stack([own.key for own in data]),
    )


def make_seeds_step(
    method: Method,
    student: nn.Module,
    teachers: Sequence[nn.Module],
    optimizer: optax.GradientTransformation,
    *,
    devices: Sequence[jax.Device] | None = None,
    augment: Augment | None = None,
    scan: bool = False,
    form: str = 'vmap',
) -> Callable[[SeedsState, TrainData, Rows], tuple[SeedsState, Metrics]]:
    """Like `make_step`, for S seeds of one network.

    Args:
      method: the row; it may not let examples skip epochs.
      student: the module in training.
      teachers: modules of the live teachers.
      optimizer: receives the gradients of each seed.
      devices: hold the replicated state, `SeedsState`, and the data, of `stack_data`.
      augment: changes the images, or None.
      scan: whether one call takes many steps.
      form: how the seeds share the program. `vmap`: as one batch, in which convolutions become grouped convolutions;
        `map`: one after the other, in a loop; `unrolled`: one after the other, without a loop, so that compile time
        grows with S.

    Returns:
      `step(state, data, rows) -> (state, metrics)`. Rows are int32 `[devices, S, B / devices]`, with `scan`
      `[devices, steps, S, B / devices]`. Metrics are those of `make_step`: means over the seeds, `finite` if all are,
      and under `peers` arrays `[S]`.

    Raises:
      InputError: there is no such form.
    """
    step = lookup(FORMS, form, 'form')(TrainStep(method, student, tuple(teachers), optimizer, augment).masked)

    def together(state: SeedsState, data: TrainData, rows: Rows) -> tuple[SeedsState, Metrics]:
        (stacked, metrics) = step(state.stacked, data, rows)
        means = {name: jnp.mean(metrics[name]) for name in ('loss', 'kept', 'correct', 'presented')}
        return SeedsState(stacked), {**means, 'finite': jnp.all(metrics['finite']), 'peers': metrics}

    return parallel(together, devices, scan=scan)


def _own(data: TrainData, fields: Any) -> TrainData:
    (aux, teachers, key) = fields
    return data.replace(aux=aux, teachers=teachers, key=key)


def _vmap(step: _Step) -> _Step:
    def together(state: TrainState, data: TrainData, rows: Rows) -> tuple[TrainState, Metrics]:
        own = (data.aux, data.teachers, data.key)
        return jax.vmap(lambda state, own, rows: step(state, _own(data, own), rows))(state, own, rows)

    return together


def _map(step: _Step) -> _Step:
    def together(state: TrainState, data: TrainData, rows: Rows) -> tuple[TrainState, Metrics]:
        own = (data.aux, data.teachers, data.key)
        return jax.lax.map(lambda seed: step(seed[0], _own(data, seed[1]), seed[2]), (state, own, rows))

    return together


def _unrolled(step: _Step) -> _Step:
    def together(state: TrainState, data: TrainData, rows: Rows) -> tuple[TrainState, Metrics]:
        own = (data.aux, data.teachers, data.key)
        results = []
        for index in range(len(data.key)):
            (seed, fields, batch) = jax.tree.map(lambda leaf, index=index: leaf[index], (state, own, rows))
            results.append(step(seed, _own(data, fields), batch))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return together


FORMS: Mapping[str, Callable[[_Step], _Step]] = MappingProxyType({'vmap': _vmap, 'map': _map, 'unrolled': _unrolled})

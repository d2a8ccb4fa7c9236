"""One update: the method's four answers over a batch that is split across the devices.

The mean is global. Each device differentiates the sum over its kept examples, the gradients and the number kept are
summed over the devices, and one is divided by the other: a mean of per-device means would weigh examples by the
company they happen to be in. Where nothing was kept anywhere, nothing changes, the optimizer's state included.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from cckd_jax.data import Augment, to_unit
from cckd_jax.methods import TEACHER_OUTPUTS, Batch, Context, Method, Outputs, Points
from cckd_jax.models import Network, Training, train_forward
from cckd_jax.training.state import Frozen, TrainState, as_variables

AXIS = 'batch'

Metrics = dict[str, chex.Array]
Step = Callable[[TrainState, Frozen, chex.Array], tuple[TrainState, Metrics]]


class Seen(NamedTuple):
    """What one device's share of a batch showed in the clean forward pass.

    Attributes:
      batch: the examples.
      keep: bool `[B]`, who takes part.
      again: int32 `[B]`, the epoch when each is to be looked at again.
      correct: bool `[B]`.
      batch_stats: the running statistics, moved by this pass.
      shares: float32 `[C, K]` by name, how much each teacher counted for the kept, summed by their class.
    """

    batch: Batch
    keep: chex.Array
    again: chex.Array
    correct: chex.Array
    batch_stats: Any
    shares: Mapping[str, chex.Array]


@dataclasses.dataclass(frozen=True)
class Update:
    """A method with what it trains; its functions run on one device, inside an axis over all of them.

    Attributes:
      method: what is matched, and by whom.
      student: the module in training.
      teachers: modules of the live teachers.
      optimizer: what the gradients are given to.
      augment: how images are changed, or None.
    """

    method: Method
    student: nn.Module
    teachers: tuple[nn.Module, ...]
    optimizer: optax.GradientTransformation
    augment: Augment | None = None

    def masked(self, state: TrainState, frozen: Frozen, indices: chex.Array) -> tuple[TrainState, Metrics]:
        """The reference: one pass over everyone, whose loss is masked."""
        (loss_sum, seen), gradients = self.gradients(state, frozen, indices, self.method.select)
        (state, taken) = self.descend(state, loss_sum, gradients, seen.keep, seen.batch_stats)
        return state.replace(**self.records(state, seen)), self.counts(seen) | taken | totals(seen.shares)

    def look(self, state: TrainState, frozen: Frozen, indices: chex.Array) -> Seen:
        """One forward pass over everyone."""
        (batch, keys) = self._batch(state, frozen, indices)
        points = self._points(state, frozen, batch, keys)
        (outputs, batch_stats) = self._forward(state.params, state, batch, keys)
        return self._seen(state, frozen, batch, keys, points, outputs, batch_stats, self.method.select)

    def gradients(
        self, state: TrainState, frozen: Frozen, indices: chex.Array, select: Callable[..., chex.Array]
    ) -> tuple[tuple[chex.Array, Seen], Any]:
        """The weighted loss summed over those whom `select` keeps of this device's share, and its gradients."""
        (batch, keys) = self._batch(state, frozen, indices)
        points = self._points(state, frozen, batch, keys)

        def kept_sum(params: Any) -> tuple[chex.Array, Seen]:
            (outputs, batch_stats) = self._forward(params, state, batch, keys)
            clean = jax.lax.stop_gradient(outputs)
            seen = self._seen(state, frozen, batch, keys, points, clean, batch_stats, select)
            mean = _kept_mean(seen.keep)
            context = self._context(params, state, frozen, keys, mean)
            loss = self.method.loss(context, batch, points, outputs)
            chex.assert_equal_shape((loss, seen.keep))
            shares = self.method.shares(context, batch, points, clean)
            by_class = {name: _by_class(weights, seen, clean.logits) for name, weights in shares.items()}
            seen = seen._replace(shares=jax.lax.stop_gradient(by_class))
            return jnp.sum(jnp.where(seen.keep, self.method.weight(batch) * loss, 0.0)), seen

        return jax.value_and_grad(kept_sum, has_aux=True)(state.params)

    def descend(
        self, state: TrainState, loss_sum: chex.Array, gradients: Any, keep: chex.Array, batch_stats: Any
    ) -> tuple[TrainState, Metrics]:
        """Takes the step along every device's gradients, unless nothing was kept anywhere."""
        kept = _total(keep)
        gradients = jax.tree.map(lambda gradient: gradient / jnp.maximum(kept, 1), jax.lax.psum(gradients, AXIS))
        updates, opt_state = self.optimizer.update(gradients, state.opt_state, state.params)
        updated = state.replace(
            params=optax.apply_updates(state.params, updates), batch_stats=batch_stats, opt_state=opt_state
        )
        new = jax.tree.map(lambda after, before: jnp.where(kept > 0, after, before), updated, state)
        loss = _total(loss_sum) / jnp.maximum(kept, 1)
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradients))
        return new.replace(step=state.step + 1), {'loss': loss, 'kept': kept, 'finite': finite}

    def records(self, state: TrainState, seen: Seen) -> dict[str, chex.Array]:
        """The state's per-example records, `[N]`, with what every device saw."""
        everywhere = jax.lax.all_gather((seen.batch.index, seen.keep, seen.again), AXIS)
        (index, keep, again) = (values.reshape(-1) for values in everywhere)
        return {
            'participation': state.participation.at[index].add(keep.astype(jnp.int32), mode='drop'),
            'due': state.due.at[index].set(again, mode='drop'),
        }

    def counts(self, seen: Seen) -> Metrics:
        """How many were presented, and of how many the student was right, over all devices."""
        valid = seen.batch.valid
        return {'presented': _total(valid), 'correct': _total(seen.correct & valid)}

    def _batch(self, state: TrainState, frozen: Frozen, indices: chex.Array) -> tuple[Batch, chex.Array]:
        batch = _gather(frozen, indices)
        keys = _example_keys(frozen.key, state.epoch, batch.index)
        if self.augment is not None:
            batch = batch.replace(image=self.augment(keys, batch.image))
        teachers = tuple(map(Network, self.teachers, frozen.teachers))
        live = {name: TEACHER_OUTPUTS[name](teachers, batch.image) for name in self.method.said - frozen.aux.keys()}
        return batch.replace(aux={**batch.aux, **live}), keys

    def _points(self, state: TrainState, frozen: Frozen, batch: Batch, keys: chex.Array) -> Points:
        return jax.lax.stop_gradient(self.method.points(self._context(state.params, state, frozen, keys), batch))

    def _context(self, params: Any, state: TrainState, frozen: Frozen, keys: chex.Array, mean=None) -> Context:
        variables = as_variables(params['student'], state.batch_stats['student'])
        return Context(
            student=Network(self.student, variables),
            teachers=tuple(map(Network, self.teachers, frozen.teachers)),
            epoch=state.epoch,
            step=state.step,
            keys=keys,
            mean=mean,
        )

    def _forward(self, params: Any, state: TrainState, batch: Batch, keys: chex.Array) -> tuple[Outputs, Any]:
        mode = Training(batch.valid, keys, AXIS)
        variables = {name: as_variables(params[name], state.batch_stats[name]) for name in ('student', 'extra')}
        stats = dict(state.batch_stats)
        (logits, features, stats['student']) = train_forward(self.student, variables['student'], batch.image, mode)
        beside = None
        extra = self.method.extra(self.student, self.teachers, batch.image.shape[1:])
        if extra is not None:
            beside, moved = extra.apply(variables['extra'], features, mode, mutable=['batch_stats'])
            stats['extra'] = moved.get('batch_stats', {})
        return Outputs(logits, features, beside), stats

    def _seen(self, state, frozen, batch, keys, points, outputs, batch_stats, select) -> Seen:
        context = self._context(state.params, state, frozen, keys)
        keep = select(context, batch, points, outputs) & batch.valid
        again = jnp.where(keep, state.epoch + 1, self.method.again(context, batch, points, outputs))
        correct = jnp.argmax(outputs.logits, -1) == batch.label
        return Seen(batch, keep, again, correct, batch_stats, shares={})


def make_step(
    method: Method,
    student: nn.Module,
    teachers: Sequence[nn.Module],
    optimizer: optax.GradientTransformation,
    *,
    devices: Sequence[jax.Device] | None = None,
    augment: Augment | None = None,
    scan: bool = False,
) -> Step:
    """Returns `step(state, frozen, indices) -> (state, metrics)`, pmapped over the devices.

    With `scan` it takes many steps in one dispatch: indices are `[devices, steps, B / devices]`, metrics `[steps]`.
    That is the way for accelerators; XLA:CPU runs convolutions inside a loop several times slower.

    `state` (donated) and `frozen` are replicated (`replicate`); indices are int32 `[devices, B / devices]`, -1 where a
    row only fills up. Metrics are scalars over all devices: `loss` (weighted mean over the kept), `presented`, `kept`,
    `correct` (of the presented, before the update), `finite` (loss and gradient). A method that weighs its teachers
    against each other adds `shares`: by name, float32 `[C, K]`, how much each teacher counted for the kept, relative to
    all, summed by their class.

    What the method needs of its teachers and `frozen.aux` has not, because images are augmented or feature maps are too
    large to keep, the teachers compute inside the step.
    """
    update = Update(method, student, tuple(teachers), optimizer, augment)
    return parallel(update.masked, devices, scan=scan)


def parallel(
    step: Callable[..., Any], devices: Sequence[jax.Device] | None, *, scan: bool = False
) -> Callable[..., Any]:
    """The function on every device: of a donated state and further replicated arguments, and of indices, split."""

    def steps(state: TrainState, frozen: Frozen, indices: chex.Array) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda state, each: step(state, frozen, each), state, indices)

    return jax.pmap(
        steps if scan else step,
        axis_name=AXIS,
        in_axes=(None, None, 0),
        out_axes=(None, None),
        donate_argnums=0,
        devices=devices,
    )


def totals(shares: Mapping[str, chex.Array]) -> Metrics:
    """Every device's shares together, as a metric; nothing where teachers are not weighed."""
    return {'shares': jax.lax.psum(dict(shares), AXIS)} if shares else {}


def _by_class(weights: chex.Array, seen: Seen, logits: chex.Array) -> chex.Array:
    whole = jnp.sum(weights, axis=0, keepdims=True)
    relative = weights / jnp.where(whole > 0, whole, 1.0)
    classes = jax.nn.one_hot(seen.batch.label, logits.shape[-1]) * seen.keep[:, None]
    return jnp.einsum('bc,kb->ck', classes, jnp.where(seen.keep[None], relative, 0.0), precision='highest')


def _total(values: chex.Array) -> chex.Array:
    return jax.lax.psum(jnp.sum(values), AXIS)


def _kept_mean(keep: chex.Array) -> Callable[[chex.Array], chex.Array]:
    kept = jnp.maximum(_total(keep), 1)

    def mean(values: chex.Array) -> chex.Array:
        mask = keep.reshape(keep.shape + (1,) * (values.ndim - 1))
        local = jnp.sum(jnp.where(mask, jax.lax.stop_gradient(values), 0), axis=0)
        return jax.lax.psum(local, AXIS) / kept

    return mean


def _gather(frozen: Frozen, indices: chex.Array) -> Batch:
    valid = indices >= 0
    index = jnp.where(valid, indices, 0)
    take = lambda values: jnp.take(values, index, axis=0, mode='clip')
    return Batch(
        image=to_unit(take(frozen.images)),
        label=take(frozen.labels),
        index=jnp.where(valid, indices, len(frozen.labels)),
        valid=valid,
        aux=jax.tree.map(take, frozen.aux),
    )


def _example_keys(key: chex.PRNGKey, epoch: chex.Array, index: chex.Array) -> chex.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, epoch), index)

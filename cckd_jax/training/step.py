"""One update: the method's columns over a batch that is split across the devices.

The mean is global. Each device differentiates the sum over its kept examples; gradients and kept counts are summed over
the devices, then divided. A mean of per-device means would weigh an example by how many of its neighbours were kept. If
nothing is kept on any device, nothing changes, the optimizer's state included.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from cckd_jax import processes
from cckd_jax.data import Augment
from cckd_jax.methods import Batch, Inputs, Method, Outputs
from cckd_jax.models import Network, TrainMode, train_forward
from cckd_jax.training.batch import Rows, StreamedRows, example_keys, gather, teacher_outputs
from cckd_jax.training.state import TrainData, TrainState, as_variables

AXIS = 'batch'

Metrics = dict[str, chex.Array]
Step = Callable[[TrainState, TrainData, Rows], tuple[TrainState, Metrics]]


class StepAux(NamedTuple):
    """Results of the clean forward pass over one device's slice of a batch.

    Attributes:
      batch: the examples.
      keep: bool `[B]`, the gate's decision.
      correct: bool `[B]`.
      records: the method's per-example records after this step, `[B, ...]` by name.
      batch_stats: the running statistics, updated by this pass.
      teacher_weights: float32 `[C, K]` by name, weights of the teachers, summed over the kept examples of each class.
      measures: the method's reported numbers, `[B]` by name.
    """

    batch: Batch
    keep: chex.Array
    correct: chex.Array
    records: Mapping[str, chex.Array]
    batch_stats: Any
    teacher_weights: Mapping[str, chex.Array]
    measures: Mapping[str, chex.Array]


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """A method with the modules that it trains; its functions run on one device, inside an axis over all of them.

    Attributes:
      method: the row.
      student: the module in training.
      teachers: modules of the live teachers.
      optimizer: receives the gradients.
      augment: changes the images, or None.
    """

    method: Method
    student: nn.Module
    teachers: tuple[nn.Module, ...]
    optimizer: optax.GradientTransformation
    augment: Augment | None = None

    def masked(self, state: TrainState, data: TrainData, rows: Rows) -> tuple[TrainState, Metrics]:
        """The reference step: one pass over all examples, whose loss is masked."""
        (loss_sum, aux), gradients = self.gradients(state, data, rows)
        (state, metrics) = self.apply_gradients(state, loss_sum, gradients, aux.keep, aux.batch_stats)
        state = state.replace(records=self.update_records(state, aux))
        return state, self.batch_counts(aux) | metrics | sum_over_devices(aux.teacher_weights)

    def forward(self, state: TrainState, data: TrainData, rows: Rows) -> StepAux:
        """One forward pass over all examples, with the gate's decision."""
        inputs = self.prepare(state, data, rows)
        (outputs, batch_stats) = self.outputs(state.params, state, inputs)
        return self._aux(inputs._replace(outputs=outputs), state, batch_stats, gated=True)

    def gradients(
        self, state: TrainState, data: TrainData, rows: Rows, *, gated: bool = True
    ) -> tuple[tuple[chex.Array, StepAux], Any]:
        """The weighted loss summed over this device's kept examples, and its gradients.

        Args:
          state: before the step.
          data: the training set.
          rows: `[B]` of this device; the index -1 pads.
          gated: whether the gate decides; otherwise all valid examples are kept.
        """
        prepared = self.prepare(state, data, rows)

        def kept_sum(params: Any) -> tuple[chex.Array, StepAux]:
            (outputs, batch_stats) = self.outputs(params, state, prepared)
            return self.kept_sum(params, state, prepared, outputs, batch_stats, gated=gated)

        return jax.value_and_grad(kept_sum, has_aux=True)(state.params)

    def kept_sum(
        self,
        params: Any,
        state: TrainState,
        prepared: Inputs,
        outputs: Outputs,
        batch_stats: Any,
        *,
        gated: bool = True,
    ) -> tuple[chex.Array, StepAux]:
        """The weighted loss summed over this device's kept examples.

        Args:
          params: of the student and the adapter, which gradients are taken for.
          state: before the step.
          prepared: what columns read before the forward pass.
          outputs: the forward pass with these parameters.
          batch_stats: the running statistics, updated by it.
          gated: whether the gate decides; otherwise all valid examples are kept.
        """
        clean = prepared._replace(outputs=jax.lax.stop_gradient(outputs))
        aux = self._aux(clean, state, batch_stats, gated=gated)
        decided = {'kept': aux.keep, 'mean': _kept_mean(aux.keep)}
        variables = as_variables(params['student'], state.batch_stats['student'])
        inputs = prepared._replace(outputs=outputs, student=Network(self.student, variables), **decided)
        loss = self.method.loss(inputs)
        chex.assert_equal_shape((loss, aux.keep))
        if self.method.teacher_weights is not None:
            weights = self.method.teacher_weights(clean._replace(**decided))
            by_class = {name: _by_class(values, aux, clean.logits) for name, values in weights.items()}
            aux = aux._replace(teacher_weights=jax.lax.stop_gradient(by_class))
        return jnp.sum(jnp.where(aux.keep, self.method.weight(inputs.batch) * loss, 0.0)), aux

    def apply_gradients(
        self, state: TrainState, loss_sum: chex.Array, gradients: Any, keep: chex.Array, batch_stats: Any
    ) -> tuple[TrainState, Metrics]:
        """Takes the step along the gradients of all devices, unless nothing was kept anywhere."""
        kept = _total(keep)
        gradients = jax.tree.map(lambda gradient: gradient / jnp.maximum(kept, 1), jax.lax.psum(gradients, AXIS))
        updates, opt_state = self.optimizer.update(gradients, state.opt_state, state.params)
        updated = state.replace(
            params=optax.apply_updates(state.params, updates), batch_stats=batch_stats, opt_state=opt_state
        )
        new = jax.tree.map(lambda after, before: jnp.where(kept > 0, after, before), updated, state)
        loss = _total(loss_sum) / jnp.maximum(kept, 1)
        # Where nothing was kept, gradients of padding alone may be NaN under batch norm; they are not applied.
        finite = (kept == 0) | (jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradients)))
        return new.replace(step=state.step + 1), {'loss': loss, 'kept': kept, 'finite': finite}

    def update_records(self, state: TrainState, aux: StepAux) -> dict[str, chex.Array]:
        """The state's per-example records with the new values of all devices."""
        (index, values) = jax.lax.all_gather((aux.batch.index, aux.records), AXIS)
        flat = lambda array: array.reshape(-1, *array.shape[2:])
        return {
            name: record.at[flat(index)].set(flat(values[name]), mode='drop') for name, record in state.records.items()
        }

    def batch_counts(self, aux: StepAux) -> Metrics:
        """Numbers of presented examples and of correct predictions among them, and sums of measures over the presented.

        All are over all devices. The result has no entry `measures` for a method without measures.
        """
        valid = aux.batch.valid
        counts = {'presented': _total(valid), 'correct': _total(aux.correct & valid)}
        if not aux.measures:
            return counts
        return counts | {'measures': {name: _total(jnp.where(valid, v, 0.0)) for name, v in aux.measures.items()}}

    def prepare(
        self, state: TrainState, data: TrainData, rows: Rows, *, augment_key: chex.PRNGKey | None = None
    ) -> Inputs:
        """What columns read before the student's forward pass.

        Args:
          state: before the step.
          data: the training set.
          rows: `[B]` of this device; the index -1 pads.
          augment_key: replaces the key of the data for augmentation, so that several students see the same images.
        """
        batch = gather(data, rows)
        keys = example_keys(data.key, state.epoch, batch.index)
        if self.augment is not None:
            drawn = keys if augment_key is None else example_keys(augment_key, state.epoch, batch.index)
            batch = batch.replace(image=self.augment(drawn, batch.image))
        teachers = tuple(map(Network, self.teachers, data.teachers))
        needed = self.method.teacher_outputs_needed - data.aux.keys()
        batch = batch.replace(aux={**batch.aux, **teacher_outputs(self.method, teachers, batch.image, needed)})
        row = jnp.minimum(batch.index, len(data.labels) - 1)
        inputs = Inputs(
            batch=batch,
            hyper=self.method.hyper(state.epoch),
            student=Network(self.student, as_variables(state.params['student'], state.batch_stats['student'])),
            teachers=teachers,
            epoch=state.epoch,
            step=state.step,
            keys=keys,
            records={name: record[row] for name, record in state.records.items()},
        )
        if self.method.perturb is None:
            return inputs
        return inputs._replace(perturbed=jax.lax.stop_gradient(self.method.perturb(inputs)))

    def outputs(self, params: Any, state: TrainState, inputs: Inputs) -> tuple[Outputs, Any]:
        """The forward pass in training mode, and the running statistics that it updated."""
        mode = TrainMode(inputs.batch.valid, inputs.keys, AXIS)
        variables = {name: as_variables(params[name], state.batch_stats[name]) for name in ('student', 'extra')}
        stats = dict(state.batch_stats)
        (logits, features, stats['student']) = train_forward(self.student, variables['student'], inputs.images, mode)
        adapted = None
        adapter = self.method.adapter(self.teachers, inputs.images.shape[1:])
        if adapter is not None:
            adapted, moved = adapter.apply(variables['extra'], features, mode, mutable=['batch_stats'])
            stats['extra'] = moved.get('batch_stats', {})
        return Outputs(logits, features, adapted), stats

    def _aux(self, inputs: Inputs, state: TrainState, batch_stats: Any, *, gated: bool) -> StepAux:
        keep = inputs.batch.valid
        if gated and self.method.gate is not None:
            keep = keep & self.method.gate.keep(inputs)
        decided = inputs._replace(kept=keep, mean=_kept_mean(keep))
        records = {name: record.update(decided) for name, record in self.method.all_records.items()}
        correct = jnp.argmax(inputs.logits, -1) == inputs.labels
        measures = {} if self.method.measures is None else dict(self.method.measures(decided))
        return StepAux(inputs.batch, keep, correct, records, batch_stats, teacher_weights={}, measures=measures)


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
    """Returns `step(state, data, rows) -> (state, metrics)`, pmapped over the devices.

    With `scan` one dispatch takes many steps: rows are `[devices, steps, B / devices]`, metrics `[steps]`. Use it on
    accelerators; XLA:CPU runs convolutions inside a loop several times slower.

    `state` (donated) and `data` are replicated (`replicate`); rows are indices int32 `[devices, B / devices]`, -1 for
    padding, or `StreamedRows` with the images that `data` lacks. Metrics are scalars over all devices: `loss` (weighted
    mean over the kept), `presented`, `kept`, `correct` (of the presented, before the update), `finite` (loss and
    gradient). A method with `teacher_weights` adds them by
    name: float32 `[C, K]`, normalized weights of the teachers, summed over the kept examples of each class.

    Teacher outputs that the method needs and `data.aux` lacks are computed inside the step, because images are
    augmented or feature maps are too large to cache.
    """
    train_step = TrainStep(method, student, tuple(teachers), optimizer, augment)
    return parallel(train_step.masked, devices, scan=scan)


def parallel(
    step: Callable[..., Any], devices: Sequence[jax.Device] | None, *, scan: bool = False, donate: bool = True
) -> Callable[..., Any]:
    """Runs a step on every device: the state is replicated and donated, the data replicated, the rows split.

    In several processes, it runs on the devices of all. Every process gives the indices of all devices, or the streamed
    rows of its own.
    """

    def steps(state: TrainState, data: TrainData, rows: Rows) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda state, batch: step(state, data, batch), state, rows)

    mapped = jax.pmap(
        steps if scan else step,
        axis_name=AXIS,
        in_axes=(None, None, 0),
        out_axes=(None, None),
        donate_argnums=0 if donate else (),
        devices=devices and processes.all_devices(devices),
    )
    if processes.count() == 1:
        return mapped

    def on_own_devices(state: Any, data: Any, rows: Rows) -> Any:
        return mapped(state, data, rows if isinstance(rows, StreamedRows) else processes.own_rows(rows))

    return on_own_devices


def sum_over_devices(teacher_weights: Mapping[str, chex.Array]) -> Metrics:
    """The teachers' weights of all devices as a metric; empty for methods that do not weigh teachers."""
    return {'teacher_weights': jax.lax.psum(dict(teacher_weights), AXIS)} if teacher_weights else {}


def _by_class(weights: chex.Array, aux: StepAux, logits: chex.Array) -> chex.Array:
    whole = jnp.sum(weights, axis=0, keepdims=True)
    relative = weights / jnp.where(whole > 0, whole, 1.0)
    # `one_hot` computes in the dtype of the labels, where int8 cannot tell 128 classes apart.
    classes = jax.nn.one_hot(aux.batch.label.astype(jnp.int32), logits.shape[-1]) * aux.keep[:, None]
    return jnp.einsum('bc,kb->ck', classes, jnp.where(aux.keep[None], relative, 0.0), precision='highest')


def _total(values: chex.Array) -> chex.Array:
    return jax.lax.psum(jnp.sum(values), AXIS)


def _kept_mean(keep: chex.Array) -> Callable[[chex.Array], chex.Array]:
    kept = jnp.maximum(_total(keep), 1)

    def mean(values: chex.Array) -> chex.Array:
        mask = keep.reshape(keep.shape + (1,) * (values.ndim - 1))
        local = jnp.sum(jnp.where(mask, jax.lax.stop_gradient(values), 0), axis=0)
        return jax.lax.psum(local, AXIS) / kept

    return mean

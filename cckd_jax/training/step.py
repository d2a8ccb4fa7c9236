"""One update: the method's four answers over a batch that is split across the devices.

The mean is global. Each device differentiates the sum over its kept examples, the gradients and the number kept are
summed over the devices, and one is divided by the other: a mean of per-device means would weigh examples by the
company they happen to be in. Where nothing was kept anywhere, nothing changes, the optimizer's state included.
"""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from cckd_jax.data import Augment, to_unit
from cckd_jax.methods import Batch, Context, Method, Outputs
from cckd_jax.models import Network, Training, train_forward
from cckd_jax.training.state import Frozen, TrainState, as_variables

AXIS = 'batch'

Step = Callable[[TrainState, Frozen, chex.Array], tuple[TrainState, dict[str, chex.Array]]]


def make_step(
    method: Method,
    student: nn.Module,
    teachers: Sequence[nn.Module],
    optimizer: optax.GradientTransformation,
    *,
    devices: Sequence[jax.Device] | None = None,
    augment: Augment | None = None,
) -> Step:
    """Returns `step(state, frozen, indices) -> (state, metrics)`, pmapped over the devices.

    `state` (donated) and `frozen` are replicated (`replicate`); indices are int32 `[devices, B / devices]`, -1 where a
    row only fills up. Metrics are scalars over all devices: `loss` (weighted mean over the kept), `presented`, `kept`,
    `correct` (of the presented, before the update), `finite` (loss and gradient).

    Where the method needs `teacher_logits` and `frozen.aux` has none, because images are augmented, the teachers run
    inside the step.
    """
    teachers = tuple(teachers)
    extra_module = method.extra(student, teachers)

    def step(state: TrainState, frozen: Frozen, indices: chex.Array):
        batch = _gather(frozen, indices)
        keys = _example_keys(frozen.key, state.epoch, batch.index)
        if augment is not None:
            batch = batch.replace(image=augment(keys, batch.image))
        if 'teacher_logits' in method.needs - frozen.aux.keys():
            live = [
                Network(module, variables)(batch.image)
                for module, variables in zip(teachers, frozen.teachers, strict=True)
            ]
            batch = batch.replace(aux={**batch.aux, 'teacher_logits': jnp.stack(live, axis=1)})
        total = lambda values: jax.lax.psum(jnp.sum(values), AXIS)

        def context_of(params: Any, mean=None) -> Context:
            variables = as_variables(params['student'], state.batch_stats['student'])
            return Context(
                student=Network(student, variables),
                teachers=tuple(map(Network, teachers, frozen.teachers)),
                epoch=state.epoch,
                step=state.step,
                keys=keys,
                mean=mean,
            )

        def forward(params: Any) -> tuple[Outputs, Any]:
            mode = Training(batch.valid, keys, AXIS)
            variables = {name: as_variables(params[name], state.batch_stats[name]) for name in ('student', 'extra')}
            stats = dict(state.batch_stats)
            (logits, features, stats['student']) = train_forward(student, variables['student'], batch.image, mode)
            beside = None
            if extra_module is not None:
                beside, moved = extra_module.apply(variables['extra'], features, mode, mutable=['batch_stats'])
                stats['extra'] = moved.get('batch_stats', {})
            return Outputs(logits, features, beside), stats

        points = jax.lax.stop_gradient(method.points(context_of(state.params), batch))

        def kept_sum(params: Any):
            outputs, stats = forward(params)
            clean = jax.lax.stop_gradient(outputs)
            keep = method.select(context_of(state.params), batch, points, clean) & batch.valid
            kept = jnp.maximum(total(keep), 1)

            def mean(values: chex.Array) -> chex.Array:
                mask = keep.reshape(keep.shape + (1,) * (values.ndim - 1))
                local = jnp.sum(jnp.where(mask, jax.lax.stop_gradient(values), 0), axis=0)
                return jax.lax.psum(local, AXIS) / kept

            loss = method.loss(context_of(params, mean), batch, points, outputs)
            chex.assert_equal_shape((loss, keep))
            weighted = jnp.where(keep, method.weight(batch) * loss, 0.0)
            return jnp.sum(weighted), (clean.logits, keep, stats)

        (loss_sum, (logits, keep, batch_stats)), gradients = jax.value_and_grad(kept_sum, has_aux=True)(state.params)
        kept = total(keep)
        gradients = jax.tree.map(lambda gradient: gradient / jnp.maximum(kept, 1), jax.lax.psum(gradients, AXIS))
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        updated = state.replace(
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        new = jax.tree.map(lambda after, before: jnp.where(kept > 0, after, before), updated, state)
        loss = total(loss_sum) / jnp.maximum(kept, 1)
        metrics = {
            'loss': loss,
            'presented': total(batch.valid),
            'kept': kept,
            'correct': total((jnp.argmax(logits, -1) == batch.label) & batch.valid),
            'finite': jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradients)),
        }
        return (
            new.replace(step=state.step + 1, participation=_count(state.participation, batch.index, keep)),
            metrics,
        )

    return jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, None, 0),
        out_axes=(None, None),
        donate_argnums=0,
        devices=devices,
    )


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


def _count(participation: chex.Array, index: chex.Array, keep: chex.Array) -> chex.Array:
    everywhere = jax.lax.all_gather((index, keep), AXIS)
    (index, keep) = (values.reshape(-1) for values in everywhere)
    return participation.at[index].add(keep.astype(jnp.int32), mode='drop')

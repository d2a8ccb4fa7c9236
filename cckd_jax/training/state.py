"""The train state, which every step updates, and the training data, which it reads: two replicated pytrees."""

from collections.abc import Mapping, Sequence
from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cckd_jax.data import Split, to_unit
from cckd_jax.methods import Method
from cckd_jax.models import init


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step updates; donated to it.

    Attributes:
      step: int32 scalar, steps taken (with and without an update).
      epoch: int32 scalar, counted from 0; the loop sets it.
      params, batch_stats: `{'student': ..., 'extra': ...}`; `extra` is the method's adapter, only `student` ships.
      opt_state: the optimizer's.
      records: per-example arrays `[N, ...]` by name (`Method.all_records`): `participation`, how often each training
        example was kept; `next_epoch`, when it returns, where the gate lets it skip epochs; and the method's own.
    """

    step: chex.Array
    epoch: chex.Array
    params: Mapping[str, Any]
    batch_stats: Mapping[str, Any]
    opt_state: optax.OptState
    records: Mapping[str, chex.Array]

    def at_epoch(self, epoch: int, devices: Sequence[jax.Device]) -> 'TrainState':
        """The state at the start of an epoch."""
        return self.replace(epoch=replicate(jnp.int32(epoch), devices))

    @property
    def participation(self) -> chex.Array:
        """Int32 `[N]`, how often each training example was kept."""
        return self.records['participation']

    @property
    def student(self) -> dict[str, Any]:
        """The variables that ship."""
        return as_variables(self.params['student'], self.batch_stats['student'])


class TrainData(flax.struct.PyTreeNode):
    """Everything that a step only reads. An argument of it: a closed-over constant is compiled into the program.

    Attributes:
      images: uint8 `[N, H, W, C]`, or None if they stay on the disk; then every batch brings its own.
      labels: int32 `[N]`.
      aux: per-example constants by name, `[N, ...]`, or pytrees of such.
      teachers: variables of the live teachers.
      key: typed PRNG key of the run, or `[K]`, one for each student.
    """

    images: chex.Array | None
    labels: chex.Array
    aux: Mapping[str, chex.Array]
    teachers: tuple[Any, ...]
    key: chex.PRNGKey


def initial_state(
    method: Method,
    student: nn.Module,
    teachers: tuple[nn.Module, ...],
    optimizer: optax.GradientTransformation,
    split: Split,
    key: chex.PRNGKey,
) -> TrainState:
    """The state before the first step."""

    # One program: operation by operation it takes longer than an epoch on a small data set.
    @jax.jit
    def fresh(key: chex.PRNGKey, images: chex.Array) -> dict[str, Any]:
        variables: dict[str, Any] = {'student': init(student, key, images)}
        adapter = method.adapter(teachers, images.shape[1:])
        if adapter is not None:
            features = student.apply(variables['student'], images, method='features')
            variables['extra'] = adapter.init(jax.random.fold_in(key, 1), features)
        return variables

    variables = fresh(key, to_unit(jnp.asarray(split.images[:1])))
    params = {name: variables.get(name, {}).get('params', {}) for name in ('student', 'extra')}
    stats = {name: variables.get(name, {}).get('batch_stats', {}) for name in ('student', 'extra')}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        epoch=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=stats,
        opt_state=optimizer.init(params),
        records={
            name: jnp.full((len(split), *record.shape), record.initial, record.dtype)
            for name, record in method.all_records.items()
        },
    )


def train_data(
    split: Split,
    aux: Mapping[str, Any],
    key: chex.PRNGKey,
    teachers: tuple[Any, ...] = (),
) -> TrainData:
    """The training set and its per-example constants, ready to be put on the devices."""
    images = split.images if isinstance(split.images, np.ndarray) else None
    return TrainData(images=images, labels=split.labels, aux=dict(aux), teachers=teachers, key=key)


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Replicates a pytree over the devices, with the sharding of the pmapped step, so that donation copies nothing."""
    mesh = jax.sharding.Mesh(np.asarray(devices), ('batch',))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def as_variables(params: Any, batch_stats: Any) -> dict[str, Any]:
    """The variables of a module, from its parameters and batch statistics in the state."""
    return {'params': params, 'batch_stats': batch_stats} if batch_stats else {'params': params}

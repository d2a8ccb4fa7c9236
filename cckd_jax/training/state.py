"""What changes while a student trains, and what does not: two explicit pytrees, replicated over the devices."""

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
    """What a step changes; donated to it.

    Attributes:
      step: int32 scalar, steps taken (with and without an update).
      epoch: int32 scalar, the n of the threshold; set by the loop.
      params, batch_stats: `{'student': ..., 'extra': ...}`; only `student` ships.
      opt_state: the optimizer's.
      participation: int32 `[N]`, how often each training example took part.
      due: int32 `[N]`, the epoch when each is to be looked at again.
    """

    step: chex.Array
    epoch: chex.Array
    params: Mapping[str, Any]
    batch_stats: Mapping[str, Any]
    opt_state: optax.OptState
    participation: chex.Array
    due: chex.Array

    @property
    def student(self) -> dict[str, Any]:
        """The variables that ship."""
        return as_variables(self.params['student'], self.batch_stats['student'])


class Frozen(flax.struct.PyTreeNode):
    """What a step only reads; an argument of it, since a constant closed over is compiled into the program.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: int32 `[N]`.
      aux: per-example constants by name, `[N, ...]`, or pytrees of such.
      teachers: variables of the live teachers.
      key: typed PRNG key of the run.
    """

    images: chex.Array
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
    """A student with fresh weights that has seen nothing."""

    # One program: operation by operation it takes longer than an epoch on a small data set.
    @jax.jit
    def fresh(key: chex.PRNGKey, images: chex.Array) -> dict[str, Any]:
        variables = {'student': init(student, key, images)}
        extra = method.extra(student, teachers, images.shape[1:])
        if extra is not None:
            features = student.apply(variables['student'], images, method='features')
            variables['extra'] = extra.init(jax.random.fold_in(key, 1), features)
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
        participation=jnp.zeros(len(split), jnp.int32),
        due=jnp.zeros(len(split), jnp.int32),
    )


def frozen_data(
    split: Split,
    aux: Mapping[str, Any],
    key: chex.PRNGKey,
    teachers: tuple[Any, ...] = (),
) -> Frozen:
    """The training set and its per-example constants, ready to be put on the devices."""
    return Frozen(images=split.images, labels=split.labels, aux=dict(aux), teachers=teachers, key=key)


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Puts a pytree on every device whole, sharded the way the pmapped step wants it: donation then copies nothing."""
    mesh = jax.sharding.Mesh(np.asarray(devices), ('batch',))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def as_variables(params: Any, batch_stats: Any) -> dict[str, Any]:
    """The variables of a module, from what the state keeps of them."""
    return {'params': params, 'batch_stats': batch_stats} if batch_stats else {'params': params}

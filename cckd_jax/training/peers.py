"""Students that train together: one step takes the forward pass of all, then the loss of each against all logits.

Every student has a train state of its own, so that its parameters, batch statistics, optimizer and records are those of
a student that trains alone. All see the same examples in the same order. A student that its gate lets skip an example
still makes a forward pass, and its logits teach the others.

Students are a tuple and not one stacked pytree under `vmap`: they may differ in architecture, and on a CPU XLA computes
convolutions of stacked kernels several times slower.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from cckd_jax import losses
from cckd_jax.data import Augment
from cckd_jax.methods import Method
from cckd_jax.training.batch import Rows
from cckd_jax.training.state import TrainData, TrainState
from cckd_jax.training.step import Metrics, StepAux, TrainStep, parallel, sum_over_devices


class PeerState(flax.struct.PyTreeNode):
    """The train states of several students, in their order; donated to the step."""

    peers: tuple[TrainState, ...]

    @property
    def params(self) -> tuple[Any, ...]:
        """The parameters of all students."""
        return tuple(peer.params for peer in self.peers)

    @property
    def records(self) -> dict[str, chex.Array]:
        """Empty: the records that the loop reads let examples skip epochs, and a student that skips still teaches."""
        return {}

    def with_peers(self, states: Sequence[TrainState]) -> 'PeerState':
        """The state that consists of these."""
        return PeerState(tuple(states))

    def at_epoch(self, epoch: int, devices: Sequence[jax.Device]) -> 'PeerState':
        """The state at the start of an epoch."""
        # An array of its own for every student, because a donated array can be donated once.
        return self.replace(peers=tuple(peer.at_epoch(epoch, devices) for peer in self.peers))


@dataclasses.dataclass(frozen=True)
class PeerStep:
    """The steps of the students, which run on one device, inside an axis over all of them.

    Attributes:
      steps: one for each student.
      own_augmentation: whether every student draws an augmentation of its own; otherwise all see the same images.
    """

    steps: tuple[TrainStep, ...]
    own_augmentation: bool = False

    def masked(self, state: PeerState, data: TrainData, rows: Rows) -> tuple[PeerState, Metrics]:
        """One pass of every student over all examples, and an update of each from its own kept examples.

        Args:
          state: before the step.
          data: the training set; `key` has one key for each student, `[K]`.
          rows: `[B]` of this device; the index -1 pads.
        """
        prepared = [
            step.prepare(
                student,
                data.replace(key=data.key[index]),
                rows,
                augment_key=None if self.own_augmentation else data.key[0],
            )._replace(peer=index)
            for index, (step, student) in enumerate(zip(self.steps, state.peers, strict=True))
        ]

        def total(params: tuple[Any, ...]) -> tuple[chex.Array, tuple[Any, chex.Array]]:
            passes = [
                step.outputs(own, student, inputs)
                for step, own, student, inputs in zip(self.steps, params, state.peers, prepared, strict=True)
            ]
            group = jax.lax.stop_gradient(jnp.stack([outputs.logits for outputs, _ in passes]))
            sums = tuple(
                step.kept_sum(own, student, inputs._replace(group=group), *forward)
                for step, own, student, inputs, forward in zip(
                    self.steps, params, state.peers, prepared, passes, strict=True
                )
            )
            # The losses of other students are constant in a student's parameters.
            return sum((loss_sum for loss_sum, _ in sums), jnp.float32(0)), (sums, group)

        (gradients, (sums, group)) = jax.grad(total, has_aux=True)(state.params)
        students, metrics = [], []
        for index, (step, student, gradient, (loss_sum, aux)) in enumerate(
            zip(self.steps, state.peers, gradients, sums, strict=True)
        ):
            (new, own_metrics) = step.apply_gradients(student, loss_sum, gradient, aux.keep, aux.batch_stats)
            students.append(new.replace(records=step.update_records(student, aux)))
            counts = step.batch_counts(_with_peer_measures(aux, group, index))
            metrics.append(counts | own_metrics | sum_over_devices(aux.teacher_weights))
        return PeerState(tuple(students)), _combined(metrics)


def make_peer_step(
    method: Method,
    students: Sequence[nn.Module],
    teachers: Sequence[nn.Module],
    optimizers: Sequence[optax.GradientTransformation],
    *,
    devices: Sequence[jax.Device] | None = None,
    augment: Augment | None = None,
    own_augmentation: bool = False,
    scan: bool = False,
) -> Callable[[PeerState, TrainData, Rows], tuple[PeerState, Metrics]]:
    """Like `make_step`, for several students.

    Metrics are means over the students, and `finite` is true if all are finite; `peers` has the metrics of each. Its
    `measures` hold two numbers beside the method's: `agreement`, the share of the other students that predict the same
    class, and `logit_gap`, that of the label (`losses.label_gap`).

    Args:
      method: the row.
      students: the modules in training.
      teachers: modules of the live teachers.
      optimizers: one for each student.
      devices: hold the replicated state.
      augment: changes the images, or None.
      own_augmentation: whether every student draws an augmentation of its own.
      scan: whether one call takes many steps.
    """
    steps = tuple(
        TrainStep(method, student, tuple(teachers), optimizer, augment)
        for student, optimizer in zip(students, optimizers, strict=True)
    )
    return parallel(PeerStep(steps, own_augmentation).masked, devices, scan=scan)


def _with_peer_measures(aux: StepAux, group: chex.Array, peer: int) -> StepAux:
    predictions = jnp.argmax(group, axis=-1)
    same = jnp.sum(predictions == predictions[peer][None], axis=0) - 1
    measures = {
        'agreement': same.astype(jnp.float32) / (len(group) - 1),
        'logit_gap': losses.label_gap(group[peer], aux.batch.label),
        **aux.measures,
    }
    return aux._replace(measures=measures)


def _combined(metrics: list[Metrics]) -> Metrics:
    mean = lambda name: sum(values[name] for values in metrics) / len(metrics)
    means = {name: mean(name) for name in ('loss', 'kept', 'correct')}
    finite = functools.reduce(jnp.logical_and, (values['finite'] for values in metrics))
    return {**means, 'presented': metrics[0]['presented'], 'finite': finite, 'peers': tuple(metrics)}

"""Which step trains: masked or compacted, one step per call or many. Runs and benchmarks share this choice."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import optax

from cckd_jax import models, processes
from cckd_jax.data import Augment
from cckd_jax.errors import InputError
from cckd_jax.methods import Method
from cckd_jax.training.compaction import make_compact_step, make_compact_step_on_device
from cckd_jax.training.state import TrainState
from cckd_jax.training.step import Step, make_step

# Few enough that progress is still visible.
_STEPS_PER_CALL = 100


def steps_per_call(method: Method, devices: Sequence[jax.Device], *, is_stored: bool = False) -> int:
    """Number of steps that one call of the step takes: many on accelerators, where a call costs more than a step.

    On CPUs it is one, because XLA:CPU runs convolutions inside a loop several times slower; for methods that skip
    samples, because the host chooses the samples of each epoch; and for images that stay on the disk (`is_stored`),
    because the images of many steps would have to be in memory together.
    """
    return 1 if _on_cpu(devices) or method.skips_samples or is_stored else _STEPS_PER_CALL


def choose_step(
    method: Method,
    student: nn.Module,
    teachers: Sequence[nn.Module],
    optimizer: optax.GradientTransformation,
    state: TrainState,
    *,
    devices: Sequence[jax.Device],
    augment: Augment | None = None,
    compaction: bool | None = None,
    is_stored: bool = False,
) -> Step:
    """Returns the step for a method, a network and the devices.

    Args:
      method: the row.
      student: the module in training.
      teachers: modules of the live teachers.
      optimizer: receives the gradients.
      state: of `initial_state`; with batch statistics, compaction must be requested.
      devices: hold the replicated state.
      augment: changes the images, or None.
      compaction: whether the backward pass runs over the kept samples only; None enables it where it is exact and
        faster.
      is_stored: whether the images stay on the disk, so that every call takes one step.
    """
    if compaction is None:
        exact = isinstance(student, models.Classifier) and not jax.tree.leaves(state.batch_stats)
        compaction = method.gate is not None and exact and _on_cpu(devices) and not _is_split(is_stored)
    scan = {'scan': True} if steps_per_call(method, devices, is_stored=is_stored) > 1 else {}
    compact = make_compact_step if _on_cpu(devices) else make_compact_step_on_device
    make = compact if compaction else make_step
    return make(method, student, teachers, optimizer, devices=devices, augment=augment, **scan)


def check_compaction(devices: Sequence[jax.Device], *, is_stored: bool) -> None:
    """Raises InputError if requested compaction would need images that another process reads from the disk."""
    if _on_cpu(devices) and _is_split(is_stored):
        raise InputError(
            'compaction=true on CPUs packs samples of all processes, and each reads only its own images from the disk; '
            'leave it out, or raise --config.dataset.memory_gib'
        )


def _is_split(is_stored: bool) -> bool:
    """Whether every process has the images of its own devices only."""
    return is_stored and processes.count() > 1


def _on_cpu(devices: Sequence[jax.Device]) -> bool:
    return devices[0].platform == 'cpu'

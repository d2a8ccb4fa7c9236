"""What a step shows to the columns of a method."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import flax.struct

from cckd_jax.models import Network

Points = Mapping[str, chex.Array]


class Batch(flax.struct.PyTreeNode):
    """One device's share of a batch.

    Attributes:
      image: float32 `[B, H, W, C]`, in [0, 1].
      label: int32 `[B]`.
      index: int32 `[B]`, the example's place in the training set.
      valid: bool `[B]`, false for the rows that only fill up the last batch.
      aux: per-example constants by name, such as `teacher_logits` `[B, K, C]`, or `teacher_features`, a map
        `[B, H, W, C]` of each teacher.
    """

    image: chex.Array
    label: chex.Array
    index: chex.Array
    valid: chex.Array
    aux: Mapping[str, chex.Array]


class Outputs(NamedTuple):
    """What the step's one train-mode forward of the student gave.

    Attributes:
      logits: float `[B, C]`.
      features: the feature map after each stage.
      extra: what the method's extra module made of the features, or None.
    """

    logits: chex.Array
    features: tuple[chex.Array, ...]
    extra: Any = None


class Context(NamedTuple):
    """What a method may look at beside its batch.

    Attributes:
      student: the network in training; its running statistics are used when it is called.
      teachers: the frozen networks, where the method needs them live.
      epoch, step: int32 scalars, traced.
      keys: one PRNG key for each example `[B]`, a function of (seed, epoch, index).
      mean: `[B, ...] -> [...]`, the mean over the kept examples of all devices, with no gradient; only in `loss`.
    """

    student: Network
    teachers: tuple[Network, ...]
    epoch: chex.Array
    step: chex.Array
    keys: chex.Array
    mean: Callable[[chex.Array], chex.Array] | None = None

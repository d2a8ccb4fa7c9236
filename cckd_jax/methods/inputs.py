"""What the columns of a method may read."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from cckd_jax.errors import InputError, nearest
from cckd_jax.models import Network


class Batch(flax.struct.PyTreeNode):
    """One device's slice of a batch.

    Attributes:
      image: float32 `[B, H, W, C]`, in [0, 1].
      label: int32 `[B]`.
      index: int32 `[B]`, the position of the example in the training set.
      valid: bool `[B]`, false for rows that pad the last batch.
      aux: per-example constants by name: `teacher_logits` `[B, K, C]`; `teacher_features`, a feature map
        `[B, H, W, C]` for each teacher; `significance` `[B]`; `label_distribution` `[B, C]`, of a transfer set.
    """

    image: jax.Array
    label: jax.Array
    index: jax.Array
    valid: jax.Array
    aux: Mapping[str, Any]


class Outputs(NamedTuple):
    """The student's forward pass in training mode.

    Attributes:
      logits: float `[B, C]`.
      features: the feature map after each stage.
      adapted: the features as the method's adapter maps them to each teacher's shape, or None.
    """

    logits: jax.Array
    features: tuple[jax.Array, ...]
    adapted: Any = None


class Hyperparameters(Mapping[str, Any]):
    """Values of hyper-parameters, as attributes; a name that the row does not declare is an error.

    >>> Hyperparameters({'temperature': 4.0}).temperature
    4.0
    """

    def __init__(self, values: Mapping[str, Any], on_read: Callable[[str], object] = lambda name: None):
        self._values = dict(values)
        self._on_read = on_read

    def __getitem__(self, name: str) -> Any:
        self._on_read(name)
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        if name not in self._values:
            raise InputError(
                f'it reads the hyper-parameter {name!r}{nearest(name, self._values)}, which the row does not declare; '
                f'add hyperparameters={{{name!r}: ...}}'
            )
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _no_mean(values: jax.Array) -> jax.Array:
    raise InputError('it reads inputs.mean, which is only known after the gate has decided')


class Inputs(NamedTuple):
    """The one argument of every column.

    Attributes:
      batch: the examples.
      hyper: the hyper-parameters of this epoch, schedules applied.
      student: the network in training; calling it uses its running statistics.
      teachers: the frozen networks, for methods with `live_teacher` or `features`.
      epoch, step: int32 scalars, traced.
      keys: one PRNG key per example `[B]`, a function of (seed, epoch, index).
      outputs: the student's forward pass; None in `perturb`.
      perturbed: the images that `perturb` returned, or None.
      kept: bool `[B]`, the gate's decision, which columns read as `keep`; None in `perturb` and in the gate.
      peer: index of the student in training among those that train together, 0 if it trains alone.
      group: float `[K, B, C]`, the logits of all students that train together, with no gradient; None for one student.
      records: the method's per-example records, `[B, ...]` by name, as they were before this step.
      mean: `[B, ...] -> [...]`, the mean over the kept examples of all devices, with no gradient; in the columns
        after the gate.
    """

    batch: Batch
    hyper: Hyperparameters
    student: Network
    teachers: tuple[Network, ...]
    epoch: jax.Array
    step: jax.Array
    keys: jax.Array
    outputs: Outputs | None = None
    perturbed: jax.Array | None = None
    kept: jax.Array | None = None
    records: Mapping[str, jax.Array] = MappingProxyType({})
    mean: Callable[[jax.Array], jax.Array] = _no_mean
    peer: int = 0
    group: jax.Array | None = None

    @property
    def images(self) -> jax.Array:
        """Float32 `[B, H, W, C]`, in [0, 1]."""
        return self.batch.image

    @property
    def labels(self) -> jax.Array:
        """Int32 `[B]`."""
        return self.batch.label

    @property
    def label_targets(self) -> jax.Array:
        """The labels, or the distributions `[B, C]` that samples of a transfer set have in their place."""
        targets: jax.Array = self.batch.aux.get('label_distribution', self.labels)
        return targets

    @property
    def logits(self) -> jax.Array:
        """The student's logits in training mode, `[B, C]`."""
        if self.outputs is None:
            raise InputError('`perturb` runs before the forward pass; call inputs.student(images) for logits there')
        return self.outputs.logits

    @property
    def peer_logits(self) -> jax.Array:
        """The logits of all students, `[K, B, C]`; gradients flow into those of this student alone, at `peer`."""
        return self.group_logits.at[self.peer].set(self.logits)

    @property
    def group_logits(self) -> jax.Array:
        """The logits of all students, `[K, B, C]`, with no gradient: one array for all, so that targets are shared."""
        if self.group is None:
            raise InputError('it reads the logits of other students; set peers=True in the row')
        return self.group

    @property
    def adapted(self) -> Any:
        """The student's features as the adapter maps them to each teacher's shape."""
        if self.outputs is None or self.outputs.adapted is None:
            raise InputError('it reads adapted features; set features=FeatureMatching(...) in the row')
        return self.outputs.adapted

    @property
    def keep(self) -> jax.Array:
        """Bool `[B]`, which valid examples the gate keeps."""
        if self.kept is None:
            raise InputError('it reads inputs.keep, which is only known after the gate has decided')
        return self.kept

    @property
    def teacher_logits(self) -> jax.Array:
        """The first teacher's logits, `[B, C]`."""
        return self._aux('teacher_logits', "teachers='one'")[:, 0]

    @property
    def optional_teacher_logits(self) -> jax.Array | None:
        """The first teacher's logits, `[B, C]`, or None in a run without a teacher."""
        return self.teacher_logits if 'teacher_logits' in self.batch.aux else None

    @property
    def all_teacher_logits(self) -> jax.Array:
        """The logits of all teachers, `[K, B, C]`."""
        return jnp.moveaxis(self._aux('teacher_logits', "teachers='several'"), 1, 0)

    @property
    def teacher_features(self) -> tuple[jax.Array, ...]:
        """The feature map of each teacher at the stage of `features`, `[B, H, W, C]`."""
        return self._aux('teacher_features', 'features=FeatureMatching(...)')

    @property
    def teacher(self) -> Network:
        """The first teacher's network."""
        if not self.teachers:
            raise InputError('it reads the teacher network; set live_teacher=True in the row')
        return self.teachers[0]

    @property
    def adversarial(self) -> jax.Array:
        """The images that `perturb` returned, `[B, H, W, C]`."""
        if self.perturbed is None:
            raise InputError('it reads adversarial images; set perturb=... in the row')
        return self.perturbed

    def _aux(self, name: str, setting: str) -> Any:
        if name not in self.batch.aux:
            raise InputError(f'it reads {name}; set {setting} in the row')
        return self.batch.aux[name]

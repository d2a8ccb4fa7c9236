"""A method as one row of a table: what to match, where to look, which samples train, and with what weight."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax import models
from cckd_jax.errors import InputError, nearest
from cckd_jax.methods.inputs import Batch, Hyperparameters, Inputs
from cckd_jax.methods.validation import validate

Column = Callable[[Inputs], jax.Array]
Measures = Callable[[Inputs], Mapping[str, jax.Array]]
Schedule = Callable[[jax.Array, Hyperparameters], jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Gate:
    """Which samples train: a decision inside the jitted step, from the same forward pass as the loss.

    Attributes:
      keep: `inputs -> bool [B]`.
      hyperparameters: the gate's names and defaults; a row that declares one of them replaces its default.
      threshold: `(epoch, hyper) -> scalar` in [0, 1], drawn in the report; None if the gate has no such curve.
      next_epoch: `inputs -> int32 [B]`, the epoch in which a dropped sample returns. Until then it also skips the
        forward pass. None presents every sample in every epoch.
    """

    keep: Column
    hyperparameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    threshold: Callable[[Any, Hyperparameters], Any] | None = None
    next_epoch: Column | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Weighting:
    """With what weight samples train.

    Attributes:
      weight: `batch -> float32 [B]`. The update is sum(keep * weight * loss) / sum(keep) over all devices.
      subset: `(labels, aux) -> indices` of the samples of an epoch, computed once on the host; None presents all.
    """

    weight: Callable[[Batch], jax.Array]
    subset: Callable[[np.ndarray, Mapping[str, Any]], np.ndarray] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureMatching:
    """Which feature maps of the teachers the loss matches.

    Attributes:
      stage: index of the stage, counted as in a list.
      adapter: `shapes -> module`, from the `(H, W, C)` of each teacher's map. The module is called with the student's
        stage features and `train=`. It trains beside the student and does not ship; `outputs.adapted` is its output.
      weight: name of the hyper-parameter that weighs the term; at 0 no feature map is computed.
    """

    stage: int
    adapter: Callable[[tuple[Any, ...]], nn.Module]
    weight: str = 'feature_weight'


class Record(NamedTuple):
    """One array per training example that the train state keeps, such as a memory bank or a running average.

    Attributes:
      update: `inputs -> [B, *shape]`, the new values of the batch; `inputs.records` has the old ones.
      initial: value of every entry before training.
      shape: of one example's entry.
      dtype: of the array.
    """

    update: Column
    initial: Any = 0
    shape: tuple[int, ...] = ()
    dtype: Any = jnp.float32


PARTICIPATION = Record(lambda inputs: inputs.records['participation'] + inputs.keep.astype(jnp.int32), dtype=jnp.int32)


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of the table. Every column is a function of `Inputs`; a column that is absent is None.

    A row is checked when it is constructed: its columns run once on abstract arrays, so that a wrong shape, a name that
    nobody declares or a hyper-parameter that nobody reads is an error here and not in the middle of a run.

    Attributes:
      loss: what to match, `inputs -> float32 [B]`, never reduced.
      hyperparameters: names and values, the papers' where a paper gives them. `None` stands for an optional float.
      perturb: where to look, `inputs -> [B, H, W, C]`, computed before the gradient is taken.
      gate: which samples train.
      weighting: with what weight.
      features: feature maps to match.
      teacher_weights: `inputs -> {name: [K, B]}`, weights of the teachers; only reported.
      measures: `inputs -> {name: float [B]}`, whose means over the presented examples become columns of
        `metrics.jsonl`; only reported.
      teachers: how many teachers the method takes; `optional` is one or none.
      peers: whether the method trains several students, which read the logits of each other.
      live_teacher: whether columns call `inputs.teachers`.
      schedules: hyper-parameters that grow, by name: `(epoch, hyper) -> factor`.
      records: per-example arrays in the train state, by name.
      learning_rate: the paper's rate for this method.
      check: whether to check the row now; the package's own rows leave it to their test, because it takes seconds.

    Raises:
      InputError: the row cannot work; the message names the column.

    >>> from cckd_jax import losses
    >>> def sharp_kd(inputs):
    ...     return losses.kd(inputs.logits, inputs.teacher_logits, inputs.labels, temperature=inputs.hyper.heat)
    >>> Method(sharp_kd, {'heat': 2.0}).override(heat=3.0).hyperparameters
    {'heat': 3.0}
    """

    loss: Column
    hyperparameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    perturb: Column | None = None
    gate: Gate | None = None
    weighting: Weighting | None = None
    features: FeatureMatching | None = None
    teacher_weights: Callable[[Inputs], Mapping[str, jax.Array]] | None = None
    measures: Measures | None = None
    teachers: Literal['none', 'one', 'optional', 'several'] = 'one'
    peers: bool = False
    live_teacher: bool = False
    schedules: Mapping[str, Schedule] = dataclasses.field(default_factory=dict)
    records: Mapping[str, Record] = dataclasses.field(default_factory=dict)
    learning_rate: float = 1e-2
    check: dataclasses.InitVar[bool] = True

    def __post_init__(self, check: bool) -> None:
        gate_defaults = self.gate.hyperparameters if self.gate else {}
        object.__setattr__(self, 'hyperparameters', {**gate_defaults, **self.hyperparameters})
        if check:
            validate(self)

    def override(self, **values: Any) -> 'Method':
        """Returns the method with other values of its hyper-parameters.

        Raises:
          InputError: the method has no hyper-parameter of that name.

        >>> from cckd_jax.methods import METHODS
        >>> METHODS['kd'].override(temperature=4.0).hyperparameters
        {'temperature': 4.0, 'hard_weight': 0.3}
        """
        for name in values:
            if name not in self.hyperparameters:
                raise InputError(
                    f'the method has no hyper-parameter {name!r}{nearest(name, self.hyperparameters)}; '
                    f'it has: {", ".join(self.hyperparameters) or "none"}'
                )
        return dataclasses.replace(self, hyperparameters={**self.hyperparameters, **values}, check=False)

    def with_gate(self, gate: Gate | None) -> 'Method':
        """Returns the method with another gate, or with none.

        Values that the new gate declares as well are kept; hyper-parameters that only the old gate read are removed.

        >>> from cckd_jax.methods import METHODS
        >>> METHODS['cckd_t_reg'].with_gate(None).hyperparameters
        {'temperature': 20.0, 'confidence_temperature': None}
        """
        reads = validate(self)
        kept = set().union(*(names for column, names in reads.items() if column != 'gate'))
        kept |= set(gate.hyperparameters if gate else ())
        values = {name: value for name, value in self.hyperparameters.items() if name in kept}
        return dataclasses.replace(self, gate=gate, hyperparameters=values)

    @property
    def gate_hyperparameters(self) -> dict[str, Any] | None:
        """The values that the gate declares, or None without a gate."""
        return None if self.gate is None else {name: self.hyperparameters[name] for name in self.gate.hyperparameters}

    @property
    def matched_features(self) -> FeatureMatching | None:
        """`features`, unless their weight is 0."""
        if self.features is None or self.hyperparameters[self.features.weight] == 0:
            return None
        return self.features

    @property
    def teacher_outputs_needed(self) -> frozenset[str]:
        """Which of `teacher_logits` and `teacher_features` a batch must have."""
        logits = {'teacher_logits'} if self.teachers != 'none' else set()
        return frozenset(logits | ({'teacher_features'} if self.matched_features else set()))

    @property
    def skips_samples(self) -> bool:
        """Whether a dropped sample may also skip its forward pass."""
        return self.gate is not None and self.gate.next_epoch is not None

    @property
    def all_records(self) -> dict[str, Record]:
        """The method's records, and those that training keeps of every method."""
        records = {'participation': PARTICIPATION, **self.records}
        next_epoch = self.gate.next_epoch if self.gate else None
        if next_epoch is not None:
            returns = lambda inputs: jnp.where(inputs.keep, inputs.epoch + 1, next_epoch(inputs))
            records['next_epoch'] = Record(returns, dtype=jnp.int32)
        return records

    def hyper(self, epoch: Any) -> Hyperparameters:
        """The hyper-parameters of an epoch, schedules applied; the epoch may be traced."""
        values = Hyperparameters(self.hyperparameters)
        scheduled = {name: schedule(epoch, values) * values[name] for name, schedule in self.schedules.items()}
        return Hyperparameters({**values, **scheduled})

    def weight(self, batch: Batch) -> jax.Array:
        """The weight of each sample, `[B]`."""
        return jnp.ones(batch.label.shape, jnp.float32) if self.weighting is None else self.weighting.weight(batch)

    def epoch_subset(self, labels: np.ndarray, aux: Mapping[str, Any]) -> np.ndarray:
        """The indices of an epoch's examples, before they are shuffled."""
        if self.weighting is None or self.weighting.subset is None:
            return np.arange(len(labels))
        return self.weighting.subset(labels, aux)

    def adapter(self, teachers: tuple[nn.Module, ...], image_shape: tuple[int, ...]) -> nn.Module | None:
        """The module that maps the student's features to the teachers' shapes, or None."""
        features = self.matched_features
        if features is None:
            return None
        return features.adapter(
            tuple(models.feature_shapes(module, image_shape)[features.stage] for module in teachers)
        )

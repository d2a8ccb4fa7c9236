"""A method is four answers: where to look, what to match, who takes part, how much.

`METHODS` is the table of those that the papers name. A row holds pure functions over one batch and nothing of loops,
devices or files; any other combination of the columns is a method of one's own:

    focused = dataclasses.replace(METHODS['kd'], select=self_regulated)

Adding a method is one function in `losses/` and one row here.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from cckd_jax import losses, multi_teacher, neighbourhood, robustness, selection
from cckd_jax.context import Batch as Batch
from cckd_jax.context import Context as Context
from cckd_jax.context import Outputs as Outputs
from cckd_jax.context import Points as Points
from cckd_jax.errors import InputError, nearest
from cckd_jax.models import Network


def no_points(context: Context, batch: Batch) -> Points:
    """Looks at the sample itself and nowhere else."""
    return {}


def everyone(context: Context, batch: Batch, points: Points, outputs: Outputs) -> chex.Array:
    """Every sample takes part."""
    return jnp.ones_like(batch.valid)


def self_regulated(
    context: Context,
    batch: Batch,
    points: Points,
    outputs: Outputs,
    *,
    alpha: float = 0.01,
    temperature: float = 20.0,
    margin_temperature: float | None = None,
) -> chex.Array:
    """A sample takes part until the student is right about it by the epoch's margin (`selection.self_regulate`).

    The margin's temperature is the method's unless `margin_temperature` is given.
    """
    return selection.self_regulate(
        outputs.logits,
        batch.label,
        context.epoch,
        alpha=alpha,
        temperature=temperature if margin_temperature is None else margin_temperature,
    )


def every_epoch(context: Context, batch: Batch, points: Points, outputs: Outputs) -> chex.Array:
    """Every sample is looked at in every epoch."""
    return jnp.full(batch.label.shape, context.epoch + 1)


def once_reached(
    context: Context,
    batch: Batch,
    points: Points,
    outputs: Outputs,
    *,
    alpha: float = 0.01,
    temperature: float = 20.0,
    margin_temperature: float | None = None,
    longest_rest: int = 5,
) -> chex.Array:
    """A sample that rests is looked at again once the threshold could have reached its margin (`selection.next_look`).

    The margin's temperature is the method's unless `margin_temperature` is given.
    """
    return selection.next_look(
        outputs.logits,
        context.epoch,
        alpha=alpha,
        longest_rest=longest_rest,
        temperature=temperature if margin_temperature is None else margin_temperature,
    )


def equally(batch: Batch) -> chex.Array:
    """Every sample counts the same."""
    return jnp.ones(batch.label.shape, jnp.float32)


def by_significance(batch: Batch) -> chex.Array:
    """A sample counts by its significance to the teacher (`selection.significance`)."""
    return batch.aux['significance']


def all_examples(labels: np.ndarray, aux: Mapping[str, np.ndarray]) -> np.ndarray:
    """An epoch contains every example."""
    return np.arange(len(labels))


def significant_examples(labels: np.ndarray, aux: Mapping[str, np.ndarray]) -> np.ndarray:
    """An epoch contains the examples of a significance above zero: the others cost no forward pass either."""
    return np.flatnonzero(aux['significance'] > 0)


def nothing_extra(
    student: nn.Module, teachers: tuple[nn.Module, ...], image_shape: tuple[int, int, int]
) -> nn.Module | None:
    """Nothing trains beside the student."""
    return None


def no_maps() -> frozenset[str]:
    """The teachers' logits say everything."""
    return frozenset()


def no_shares(context: Context, batch: Batch, points: Points, outputs: Outputs) -> Mapping[str, chex.Array]:
    """Teachers are not weighed against each other."""
    return {}


# What teachers say of images, by the name that a method needs it under; cached, or computed inside the step.
TEACHER_OUTPUTS: Mapping[str, Callable[[tuple[Network, ...], chex.Array], Any]] = {
    'teacher_logits': multi_teacher.teacher_logits,
    **{name: multi_teacher.feature_maps(name) for name in multi_teacher.MAP_STAGES},
}

_COLUMNS = ('loss', 'points', 'select', 'again', 'weight', 'layout', 'extra', 'maps', 'shares')


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
      loss: `(context, batch, points, outputs) -> [B]`, float32, never reduced.
      points: `(context, batch) -> {name: [B, H, W, C]}`, made before the gradient is taken.
      select: `(context, batch, points, outputs) -> bool [B]`.
      again: `(context, batch, points, outputs) -> int32 [B]`, the epoch when a sample that is not kept is looked at
        again; those that are kept are in the next one.
      weight: `(batch) -> [B]`; the update is sum(keep * weight * loss) / sum(keep) over all devices.
      layout: `(labels, aux) -> indices`, what an epoch contains, decided on the host before the loop.
      extra: `(student, teachers, image_shape) -> module or None`, what trains beside the student and does not ship; the
        module is called with the stage features (and `train=`), and its result is `outputs.extra`.
      maps: `() -> names`, which of the teachers' feature maps are needed; the teachers are then in `context.teachers`.
      shares: `(context, batch, points, outputs) -> {name: [K, B]}`, how much each teacher counts, to be reported.
      needs: names of what must be prepared before the loop: `teacher_logits`, `significance`; `teacher` is the live
        network.
      several: whether it takes several teachers, and never one.
      learning_rate: the papers' rate for this method.

    Keyword-only arguments of the columns are the method's hyper-parameters, their defaults its defaults.
    """

    loss: Callable[..., chex.Array]
    points: Callable[..., Points] = no_points
    select: Callable[..., chex.Array] = everyone
    again: Callable[..., chex.Array] = every_epoch
    weight: Callable[..., chex.Array] = equally
    layout: Callable[..., np.ndarray] = all_examples
    extra: Callable[..., nn.Module | None] = nothing_extra
    maps: Callable[..., frozenset[str]] = no_maps
    shares: Callable[..., Mapping[str, chex.Array]] = no_shares
    needs: frozenset[str] = frozenset()
    several: bool = False
    learning_rate: float = 1e-2

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Names and present values; where two columns share a name, the loss's value stands for both."""
        return {
            name: value for column in reversed(_COLUMNS) for name, value in _settings(getattr(self, column)).items()
        }

    @property
    def said(self) -> frozenset[str]:
        """Names of what the teachers say of the images that must be known: keys of `TEACHER_OUTPUTS`."""
        return (self.needs | self.maps()) & TEACHER_OUTPUTS.keys()

    @property
    def gate(self) -> dict[str, Any] | None:
        """The settings of `select`, or None where everyone takes part."""
        return None if self.select is everyone else _settings(self.select)

    def configured(self, **overrides: Any) -> 'Method':
        """Returns the method with these hyper-parameters, one value for all columns that take the name.

        Raises:
          InputError: the method has no hyper-parameter of that name.

        >>> METHODS['kd'].configured(temperature=4.0).hyperparameters
        {'temperature': 4.0, 'hard_weight': 0.3}
        """
        settings = self.hyperparameters
        for name in overrides:
            if name not in settings:
                raise InputError(
                    f'the method has no hyper-parameter {name!r}{nearest(name, settings)}; '
                    f'it has: {", ".join(settings) or "none"}'
                )
        settings |= overrides
        columns = {column: _bound(getattr(self, column), settings) for column in _COLUMNS}
        return dataclasses.replace(self, **columns)


def _settings(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _bound(function: Callable[..., Any], settings: Mapping[str, Any]) -> Callable[..., Any]:
    taken = {name: settings[name] for name in _settings(function)}
    return functools.partial(function, **taken) if taken else function


def on_logits(loss: Callable[..., chex.Array]) -> Callable[..., chex.Array]:
    """Lifts a loss over (student_logits, teacher_logits, labels), or fewer of them, to a `loss` column.

    The loss is given those that it names, from the first teacher; its keyword-only arguments stay the column's. Names
    with `worst` are of the points that the method looks at, where networks are in inference mode.
    """
    parameters = inspect.signature(loss).parameters.values()
    names = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    sources = {
        'student_logits': lambda context, batch, points, outputs: outputs.logits,
        'teacher_logits': lambda context, batch, points, outputs: batch.aux['teacher_logits'][:, 0],
        'labels': lambda context, batch, points, outputs: batch.label,
        'worst_logits': lambda context, batch, points, outputs: context.student(points['worst']),
        'worst_teacher_logits': lambda context, batch, points, outputs: context.teachers[0](points['worst']),
    }

    def lifted(context, batch, points, outputs, **hyperparameters):
        return loss(*(sources[name](context, batch, points, outputs) for name in names), **hyperparameters)

    # The signature carries the hyper-parameters, which is where `Method` reads them.
    front = inspect.signature(everyone).parameters.values()
    lifted.__signature__ = inspect.Signature([*front, *(p for p in parameters if p.kind is p.KEYWORD_ONLY)])
    return lifted


def at_worst(loss: Callable[..., chex.Array]) -> Callable[..., chex.Array]:
    """The same column with the student's logits at the worst point for those at the sample."""

    def moved(context, batch, points, outputs, **hyperparameters):
        outputs = outputs._replace(logits=context.student(points['worst']))
        return loss(context, batch, points, outputs, **hyperparameters)

    moved.__signature__ = inspect.signature(loss)
    return moved


def ramped(column: Callable[..., Any], *names: str, warm_up: int = 0, ramp: int = 10) -> Callable[..., Any]:
    """The column with hyper-parameters that grow from 0 to their values over the epochs (`robustness.ramp`).

    Args:
      column: whose first argument is the context.
      *names: of its hyper-parameters.
      warm_up: default of the hyper-parameter of that name, epochs of 0.
      ramp: the same, epochs between 0 and 1.
    """
    parameters = [p for p in inspect.signature(column).parameters.values() if p.name not in ('warm_up', 'ramp')]
    own = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value)
        for name, value in (('warm_up', warm_up), ('ramp', ramp))
    ]

    def growing(context, *rest, **hyperparameters):
        values = _settings(growing) | hyperparameters
        share = robustness.ramp(context.epoch, warm_up=values.pop('warm_up'), length=values.pop('ramp'))
        return column(context, *rest, **values | {name: share * values[name] for name in names})

    growing.__signature__ = inspect.Signature([*parameters, *own])
    return growing


_ONE_TEACHER = frozenset({'teacher_logits'})
_LIVE_TEACHER = frozenset({'teacher_logits', 'teacher'})
_BY_SIGNIFICANCE = {
    'weight': by_significance,
    'layout': significant_examples,
    'needs': _ONE_TEACHER | {'significance'},
}

_SEVERAL_TEACHERS = {'needs': _ONE_TEACHER, 'several': True}
# Of ours, for Adam; the papers take SGD at 0.1.
_ROBUST = {'learning_rate': 1e-3}

# The three of arXiv:2102.07125 are readings of its abstract: loss, weight and mean are not known from its text. So are
# the two faithful ones, of arXiv:2306.04431.
METHODS: Mapping[str, Method] = {
    'separate': Method(on_logits(losses.cross_entropy), learning_rate=1e-3),
    'kd': Method(on_logits(losses.kd), needs=_ONE_TEACHER),
    'teacher_only': Method(on_logits(losses.teacher_only), needs=_ONE_TEACHER),
    'cckd_l': Method(on_logits(losses.cckd_l), needs=_ONE_TEACHER),
    'cckd_t': Method(on_logits(losses.cckd_t), needs=_ONE_TEACHER),
    'cckd_t_reg': Method(on_logits(losses.cckd_t), select=self_regulated, needs=_ONE_TEACHER),
    'significance': Method(on_logits(losses.kd), **_BY_SIGNIFICANCE),
    'regulated': Method(on_logits(losses.kd), select=self_regulated, needs=_ONE_TEACHER),
    'hybrid': Method(on_logits(losses.kd), select=self_regulated, **_BY_SIGNIFICANCE),
    'ca_mkd': Method(
        multi_teacher.ca_mkd,
        extra=multi_teacher.alignments,
        maps=multi_teacher.last_maps,
        shares=multi_teacher.by_label,
        **_SEVERAL_TEACHERS,
    ),
    'aver': Method(multi_teacher.aver, **_SEVERAL_TEACHERS),
    'fitnet_mkd': Method(
        multi_teacher.fitnet_mkd,
        extra=multi_teacher.regressors,
        maps=multi_teacher.middle_maps,
        **_SEVERAL_TEACHERS,
    ),
    'ebkd': Method(multi_teacher.ebkd, shares=multi_teacher.by_entropy, **_SEVERAL_TEACHERS),
    'aekd': Method(multi_teacher.aekd, shares=multi_teacher.by_agreement, **_SEVERAL_TEACHERS),
    'ard': Method(on_logits(losses.ard), neighbourhood.worst_for_label, needs=_ONE_TEACHER, **_ROBUST),
    'rslad': Method(on_logits(losses.rslad), neighbourhood.worst_for_teacher, needs=_ONE_TEACHER, **_ROBUST),
    'iad': Method(
        ramped(on_logits(losses.iad), 'trust_power', warm_up=60, ramp=0),
        neighbourhood.worst_for_label,
        needs=_LIVE_TEACHER,
        **_ROBUST,
    ),
    'faithful_adversarial': Method(
        ramped(on_logits(losses.faithful_adversarial), 'rho'),
        ramped(neighbourhood.worst_for_both, 'epsilon'),
        needs=_LIVE_TEACHER,
        **_ROBUST,
    ),
    'faithful_certified': Method(ramped(neighbourhood.certified_gap, 'epsilon', 'rho'), needs=_LIVE_TEACHER, **_ROBUST),
}

# Training by the labels alone, for teachers that there is something to be faithful to all around a sample.
ROBUST_TRAINING: Mapping[str, Method] = {
    # Not of the paper: without a ramp a LeNet stays where all classes are alike at the radius customary on MNIST.
    'adversarial': Method(
        at_worst(on_logits(losses.cross_entropy)), ramped(neighbourhood.worst_for_label, 'epsilon'), **_ROBUST
    ),
    'ibp': Method(ramped(neighbourhood.certified_label, 'epsilon', 'rho'), **_ROBUST),
}

"""Optimizers and learning rate schedules by name, all of them optax's, or by import path."""

from collections.abc import Callable, Mapping

import optax

from cckd_jax.errors import InputError, lookup
from cckd_jax.imports import resolve

Factory = Callable[[optax.ScalarOrSchedule], optax.GradientTransformation]

OPTIMIZERS: Mapping[str, Factory] = {
    'adam': optax.adam,
    'sgd': lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
}

SCHEDULES: Mapping[str, Callable[[float, int], optax.ScalarOrSchedule]] = {
    'constant': lambda rate, steps: rate,
    'cosine': lambda rate, steps: optax.cosine_decay_schedule(rate, steps),
    # A tenth after 5, 6 and 7 eighths: of 240 epochs after 150, 180 and 210, as in CRD's code.
    'step': lambda rate, steps: optax.piecewise_constant_schedule(
        rate, {round(eighths / 8 * steps): 0.1 for eighths in (5, 6, 7)}
    ),
}


def create(
    name: str, learning_rate: float, *, schedule: str = 'constant', steps: int, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Returns the optimizer; weight decay is L2, added to the gradient before it.

    Args:
      name: a key of `OPTIMIZERS`, or `package.module:NAME` of a function from a learning rate to an optax optimizer,
        such as `optax:lion`.
      learning_rate: the peak of the schedule.
      schedule: a key of `SCHEDULES`; it counts updates, so a step that keeps no sample does not advance it.
      steps: length of the schedule.
      weight_decay: >= 0. For decoupled decay, name an optimizer of yours instead.

    Raises:
      InputError: there is no such optimizer or schedule.

    >>> create('optax:lion', 1e-3, steps=100).init({'w': 0.0})[0].count.item()
    0
    """
    rate = lookup(SCHEDULES, schedule, 'schedule')(learning_rate, steps)
    factory = resolve(name, OPTIMIZERS, 'optimizer')
    try:
        optimizer = factory(rate)
    except Exception as error:  # a factory from an import path is a user's code
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise InputError(
            f'optimizer {name!r} cannot be created from a learning rate: {type(error).__name__}: {reason}'
        ) from error
    if not isinstance(optimizer, optax.GradientTransformation):
        raise InputError(f'optimizer {name!r} returns a {type(optimizer).__name__}, not an optax optimizer')
    if weight_decay == 0:
        return optimizer
    return optax.chain(optax.add_decayed_weights(weight_decay), optimizer)

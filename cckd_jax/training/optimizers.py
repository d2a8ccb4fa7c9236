"""Optimizers and learning rate schedules by name, all of them optax's."""

from collections.abc import Callable, Mapping

import optax

from cckd_jax.errors import lookup

OPTIMIZERS: Mapping[str, Callable[[optax.ScalarOrSchedule], optax.GradientTransformation]] = {
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
      name: a key of `OPTIMIZERS`.
      learning_rate: its peak.
      schedule: a key of `SCHEDULES`; it counts updates, so a step that kept nothing does not move it.
      steps: length of the schedule.
      weight_decay: >= 0.

    Raises:
      InputError: there is no optimizer or schedule of that name.
    """
    rate = lookup(SCHEDULES, schedule, 'schedule')(learning_rate, steps)
    optimizer = lookup(OPTIMIZERS, name, 'optimizer')(rate)
    if weight_decay == 0:
        return optimizer
    return optax.chain(optax.add_decayed_weights(weight_decay), optimizer)

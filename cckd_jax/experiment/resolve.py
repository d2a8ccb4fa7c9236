"""Resolves the settings of a run to the methods that train its student and its baseline."""

import dataclasses

from ml_collections import ConfigDict

from cckd_jax import config as settings, methods
from cckd_jax.errors import InputError
from cckd_jax.methods import Method


def resolve_method(config: ConfigDict) -> Method:
    """The method's row with the config's gate, hyper-parameters and learning rate.

    Raises:
      InputError: there is no such method or gate, or they do not fit together.
    """
    method = methods.get(config.method)
    if config.gate is not None and config.self_regulate is not None:
        raise InputError(
            f'gate={config.gate} and self_regulate={str(config.self_regulate).lower()} are both set; set one of them'
        )
    if config.gate is not None:
        method = method.with_gate(methods.get_gate(config.gate))
    elif config.self_regulate is not None:
        method = method.with_gate(methods.SELF_REGULATED if config.self_regulate else None)
    if method.teachers == 'optional':
        method = dataclasses.replace(method, teachers='one' if config.num_teachers else 'none', check=False)
    if config.recheck:
        method = _rechecked(config, method)
    values = {name: config.get(name) for name in method.hyperparameters}
    method = method.override(**{name: value for name, value in values.items() if value is not None})
    student = settings.students(config)[0] if config.num_students == 1 else config.student
    return dataclasses.replace(method, learning_rate=student.learning_rate or method.learning_rate, check=False)


def baseline_method(config: ConfigDict) -> Method:
    """The method that trains the baseline, the student without a teacher."""
    method = methods.METHODS['separate']
    return dataclasses.replace(method, learning_rate=config.separate.learning_rate or method.learning_rate, check=False)


def _rechecked(config: ConfigDict, method: Method) -> Method:
    if method.gate is None:
        raise InputError(f'recheck=true needs a gate, and {config.method} has no gate; add --config.self_regulate=true')
    if method.gate is methods.SELF_REGULATED:
        return method.with_gate(methods.SELF_REGULATED_RECHECK)
    if not method.skips_samples:
        raise InputError(f'recheck=true needs a gate with next_epoch, and {config.gate} lacks it; set recheck=false')
    return method

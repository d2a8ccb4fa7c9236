"""The table of methods. A row is data: losses on `Inputs`, the papers' hyper-parameters, a gate, weights.

`get` returns a built-in row or a row of yours at `package.module:NAME`. A new row is one function and one line; the
training loop knows no method by name.
"""

import functools
from collections.abc import Callable, Mapping
from typing import TypeVar

import jax

from cckd_jax import losses
from cckd_jax.errors import InputError
from cckd_jax.imports import resolve
from cckd_jax.methods import cckd, multi_teacher, online, robust
from cckd_jax.methods.cckd import BY_SIGNIFICANCE, SELF_REGULATED, SELF_REGULATED_RECHECK
from cckd_jax.methods.inputs import (
    Batch as Batch,
    Hyperparameters as Hyperparameters,
    Inputs as Inputs,
    Outputs as Outputs,
)
from cckd_jax.methods.method import (
    FeatureMatching as FeatureMatching,
    Gate as Gate,
    Method as Method,
    Record as Record,
    Weighting as Weighting,
)

T = TypeVar('T')

GATES: Mapping[str, Gate] = {
    'self_regulated': SELF_REGULATED,
    'self_regulated_recheck': SELF_REGULATED_RECHECK,
}

_TAU = {'temperature': 20.0}
_KD = {**_TAU, 'hard_weight': 0.3}
_CCKD = {**_TAU, 'confidence_temperature': None}
_SEVERAL = {'temperature': 4.0, 'soft_weight': 1.0, 'hard_weight': 1.0}
_MUTUAL = {'soft_weight': 1.0, 'hard_weight': 1.0}
_ONLINE = {**_CCKD, 'gamma': 1.0, 'teacher_prior': 1.0, 'include_self': False, 'relative_trust': False}
_EPSILON = {'epsilon': 8 / 255}
_SEARCH = {**_EPSILON, 'attack_steps': 10}
_RAMP = {'warm_up': 0, 'ramp': 10}
# For the gate of 2102.07125, on a teacher's own training and on students. At tau = 20 the margins of an ordinary
# network are near 0, so the gate keeps every sample in every epoch.
SPARSE = {'margin_temperature': 1.0}

_row = functools.partial(Method, check=False)


def _kdcl(combine: Callable[[jax.Array, jax.Array], jax.Array]) -> Method:
    (loss, measures) = online.kdcl(combine)
    values = {'temperature': 2.0, **_MUTUAL}
    return _row(loss, values, measures=measures, teachers='none', peers=True, learning_rate=1e-3)


_cckd_online = functools.partial(
    _row,
    measures=online.cckd_measures,
    teacher_weights=online.source_weights,
    teachers='optional',
    peers=True,
)

# Loss, weights and normalization of significance, regulated and hybrid are our interpretation of the abstract of
# arXiv:2102.07125; the two faithful methods are our interpretation of the abstract of arXiv:2306.04431.
# The robust methods, dml and kdcl learn at 1e-3 with Adam, which is our choice: their papers use SGD at 0.1.
# CCKD among students (cckd_online) is our proposal.
METHODS: Mapping[str, Method] = {
    'separate': _row(cckd.cross_entropy, teachers='none', learning_rate=1e-3),
    'kd': _row(cckd.kd, _KD),
    'teacher_only': _row(cckd.teacher_only, _TAU),
    'cckd_l': _row(cckd.cckd_l, _CCKD),
    'cckd_t': _row(cckd.cckd_t, _CCKD),
    'cckd_t_reg': _row(cckd.cckd_t, _CCKD, gate=SELF_REGULATED),
    'significance': _row(cckd.kd, _KD, weighting=BY_SIGNIFICANCE),
    'regulated': _row(cckd.kd, {**_KD, **SPARSE}, gate=SELF_REGULATED),
    'hybrid': _row(cckd.kd, {**_KD, **SPARSE}, gate=SELF_REGULATED, weighting=BY_SIGNIFICANCE),
    'ca_mkd': _row(
        multi_teacher.ca_mkd,
        {**_SEVERAL, 'feature_weight': 50.0, 'reduction': 'official', 'weights_gradient': True},
        features=multi_teacher.LAST_STAGE,
        teacher_weights=multi_teacher.ca_mkd_weights,
        teachers='several',
    ),
    'aver': _row(multi_teacher.aver, _SEVERAL, teachers='several'),
    'fitnet_mkd': _row(
        multi_teacher.fitnet_mkd,
        {**_SEVERAL, 'feature_weight': 100.0},
        features=multi_teacher.HINT_STAGE,
        teachers='several',
    ),
    'ebkd': _row(multi_teacher.ebkd, _SEVERAL, teacher_weights=multi_teacher.ebkd_weights, teachers='several'),
    'aekd': _row(
        multi_teacher.aekd,
        {**_SEVERAL, 'largest_weight': 0.6},
        teacher_weights=multi_teacher.aekd_weights,
        teachers='several',
    ),
    'ard': _row(
        robust.ard,
        {'temperature': 30.0, 'adversarial_weight': 1.0, **_SEARCH},
        perturb=robust.pgd_on_label,
        learning_rate=1e-3,
    ),
    'rslad': _row(
        robust.rslad,
        {'temperature': 1.0, 'adversarial_weight': 5 / 6, **_SEARCH},
        perturb=robust.pgd_on_teacher,
        learning_rate=1e-3,
    ),
    'iad': _row(
        robust.iad,
        {'temperature': 1.0, 'trust_power': 0.1, **_SEARCH, 'warm_up': 60, 'ramp': 0},
        perturb=robust.pgd_on_label,
        schedules={'trust_power': robust.ramp},
        live_teacher=True,
        learning_rate=1e-3,
    ),
    'faithful_adversarial': _row(
        robust.faithful_adversarial,
        {'temperature': 1.0, 'rho': 0.5, **_SEARCH, **_RAMP},
        perturb=robust.pgd_on_disagreement,
        schedules={'epsilon': robust.ramp, 'rho': robust.ramp},
        live_teacher=True,
        learning_rate=1e-3,
    ),
    'faithful_certified': _row(
        robust.faithful_certified,
        {'temperature': 1.0, 'rho': 0.5, 'bounds': 'ibp', **_EPSILON, **_RAMP},
        schedules={'epsilon': robust.ramp, 'rho': robust.ramp},
        live_teacher=True,
        learning_rate=1e-3,
    ),
    'dml': _row(
        online.dml,
        {'temperature': 1.0, **_MUTUAL},
        measures=online.dml_measures,
        teachers='none',
        peers=True,
        learning_rate=1e-3,
    ),
    'kdcl_naive': _kdcl(losses.kdcl_naive),
    'kdcl_minlogit': _kdcl(losses.kdcl_minlogit),
    'kdcl_linear': _kdcl(losses.kdcl_linear),
    'cckd_online_t': _cckd_online(online.cckd_online_t, {**_ONLINE, 'hard_weight': 0.0}),
    'cckd_online_l': _cckd_online(online.cckd_online_l, _ONLINE),
    'cckd_online_t_reg': _cckd_online(online.cckd_online_t, {**_ONLINE, 'hard_weight': 0.0}, gate=SELF_REGULATED),
}

# Robust training from labels, for robust teachers. The ramp is ours: without it a LeNet-5 never leaves the loss of
# chance at the radius that is usual on MNIST.
ROBUST_TRAINING: Mapping[str, Method] = {
    'adversarial': _row(
        robust.adversarial_cross_entropy,
        {**_SEARCH, **_RAMP},
        perturb=robust.pgd_on_label,
        schedules={'epsilon': robust.ramp},
        teachers='none',
        learning_rate=1e-3,
    ),
    'ibp': _row(
        robust.certified_cross_entropy,
        {'rho': 0.5, 'bounds': 'ibp', **_EPSILON, **_RAMP},
        schedules={'epsilon': robust.ramp, 'rho': robust.ramp},
        teachers='none',
        learning_rate=1e-3,
    ),
}


def get(name: str) -> Method:
    """Returns a method by name or import path.

    Args:
      name: a key of `METHODS`, or `package.module:NAME` of a `Method`.

    Raises:
      InputError: there is no such method, or the path does not lead to one.

    >>> get('kd').hyperparameters
    {'temperature': 20.0, 'hard_weight': 0.3}
    """
    return _checked(resolve(name, METHODS, 'method'), Method, name)


def get_gate(name: str) -> Gate | None:
    """Returns a gate by name or import path; `none` is no gate.

    Args:
      name: a key of `GATES`, `none`, or `package.module:NAME` of a `Gate`.

    Raises:
      InputError: there is no such gate, or the path does not lead to one.

    >>> get_gate('self_regulated').hyperparameters['alpha']
    0.01
    """
    gate = resolve(name, {'none': None, **GATES}, 'gate')
    return None if gate is None else _checked(gate, Gate, name)


def _checked(value: object, kind: type[T], name: str) -> T:
    if not isinstance(value, kind):
        raise InputError(f'{name} is a {type(value).__name__}, not a cckd_jax.methods.{kind.__name__}')
    return value

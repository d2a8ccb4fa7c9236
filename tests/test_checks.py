"""The table of hyper-parameter ranges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cckd_jax.checks import HYPERPARAMETER_RANGES, check_hyperparameters
from cckd_jax.errors import InputError


@pytest.mark.parametrize(
    ('name', 'inside', 'outside'),
    [
        ('temperature', (1e-3, 20, np.float32(1e4), jnp.float32(4.0)), (0, -1.0, 1e5, np.inf, np.nan)),
        ('alpha', (0, 0.01), (-0.1, np.nan, np.inf)),
        ('rho', (0, 1), (-0.1, 1.1, np.nan)),
        ('epsilon', (0, 8 / 255, 1), (1.5, -0.1)),
        ('largest_weight', (0.6, 1), (0, 1.1)),
        ('reduction', ('official', 'paper'), ('mean',)),
        ('attack_steps', (1, 2**31 - 1), (0, 1.5, 2**31, np.nan, np.inf)),
        ('ramp', (0, np.int64(60)), (-1, 2**40)),
    ],
)
def test_each_range(name, inside, outside):
    for value in inside:
        check_hyperparameters(**{name: value})
    for value in outside:
        with pytest.raises(InputError, match=rf'{name}=.* must be '):
            check_hyperparameters(**{name: value})


def test_unset_and_traced_values_pass():
    check_hyperparameters(**dict.fromkeys(HYPERPARAMETER_RANGES))
    jax.jit(lambda value: check_hyperparameters(temperature=value))(-1.0)

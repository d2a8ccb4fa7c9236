"""The stubs of CONTRIBUTING.md run, in the order of the page, and are what their sections say."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from ml_collections import ConfigDict

from cckd_jax import evaluators, methods
from cckd_jax.robustness import example_keys

TEXT = (Path(__file__).parents[1] / 'CONTRIBUTING.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)


@pytest.fixture(scope='module')
def stubs():
    namespace = {'__name__': 'stubs'}
    for block in BLOCKS:
        exec(compile(block, 'CONTRIBUTING.md', 'exec'), namespace)
    return namespace


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('LOGIT_MATCHING', methods.Method),
        ('TEMPORAL_ENSEMBLE', methods.Method),
        ('MISCLASSIFIED', methods.Gate),
        ('CLASS_0', evaluators.Evaluator),
    ],
)
def test_a_stub_is_of_its_kind(stubs, name, kind):
    assert isinstance(stubs[name], kind)


def test_the_gate_fits_a_method(stubs):
    gated = methods.METHODS['kd'].with_gate(stubs['MISCLASSIFIED'])
    assert gated.hyperparameters['patience'] == 2


def test_the_network_the_optimizer_and_the_config_are_accepted(stubs):
    images = jax.ShapeDtypeStruct((2, 8, 8, 1), 'float32')
    logits, _ = jax.eval_shape(stubs['MLP'](num_classes=3).init_with_output, jax.random.key(0), images)
    assert logits.shape == (2, 3)
    assert isinstance(stubs['adamw'](1e-3), optax.GradientTransformation)
    assert isinstance(stubs['get_config'](), ConfigDict)


def test_the_attack_stays_in_the_ball(stubs):
    images = jnp.full((2, 4, 4, 1), 0.05)
    keys = example_keys(jax.random.key(0), jnp.arange(2))
    moved = stubs['random_corner'](None, images, None, epsilon=0.1, key=keys)
    assert jnp.abs(moved - images).max() <= 0.1 + 1e-6
    assert moved.min() >= 0
    assert (moved[0] != moved[1]).any()

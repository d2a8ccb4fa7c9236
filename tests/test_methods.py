import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_case

from cckd_jax import losses, selection
from cckd_jax.errors import InputError
from cckd_jax.methods import METHODS, Batch, Context, Outputs, self_regulated


def contexts(seed=0, epoch=30):
    (student, teacher, labels) = random_case(seed)
    (batch, _) = student.shape
    context = Context(None, (), jnp.int32(epoch), jnp.int32(0), None)
    images = jnp.zeros((batch, 1, 1, 1))
    valid = jnp.ones(batch, bool)
    aux = {'teacher_logits': teacher[:, None], 'significance': jnp.linspace(0.1, 1.0, batch)}
    return context, Batch(images, labels, jnp.arange(batch), valid, aux), Outputs(student, ()), teacher


@pytest.mark.parametrize('name', METHODS)
def test_every_row_gives_one_loss_and_one_answer_an_example(name):
    (context, batch, outputs, _) = contexts()
    method = METHODS[name].configured()
    points = method.points(context, batch)
    loss = method.loss(context, batch, points, outputs)
    keep = method.select(context, batch, points, outputs)
    assert loss.shape == keep.shape == method.weight(batch).shape == batch.label.shape
    assert loss.dtype == jnp.float32
    assert keep.dtype == bool


def test_hyperparameters_reach_the_loss():
    (context, batch, outputs, teacher) = contexts()
    method = METHODS['cckd_l'].configured(temperature=4.0, confidence_temperature=1.0)
    expected = losses.cckd_l(outputs.logits, teacher, batch.label, temperature=4.0, confidence_temperature=1.0)
    np.testing.assert_array_equal(method.loss(context, batch, {}, outputs), expected)


def test_the_margin_follows_the_temperature_unless_told_otherwise():
    (context, batch, outputs, _) = contexts(epoch=9)
    batch = batch.replace(label=jnp.argmax(outputs.logits, -1))  # the margin alone decides
    for overrides, temperature in (({}, 3.0), ({'margin_temperature': 7.0}, 7.0)):
        method = METHODS['cckd_t_reg'].configured(alpha=0.02, temperature=3.0, **overrides)
        expected = selection.self_regulate(outputs.logits, batch.label, 9, alpha=0.02, temperature=temperature)
        found = method.select(context, batch, {}, outputs)
        np.testing.assert_array_equal(found, expected)
        assert 0 < found.sum() < found.size


def test_columns_combine_into_a_method_of_ones_own():
    (context, batch, outputs, teacher) = contexts()
    own = dataclasses.replace(METHODS['kd'], select=self_regulated).configured(alpha=0.0, hard_weight=0.0)
    expected = losses.teacher_only(outputs.logits, teacher)
    np.testing.assert_allclose(own.loss(context, batch, {}, outputs), expected, rtol=1e-6)
    wrong = jnp.argmax(outputs.logits, -1) != batch.label
    np.testing.assert_array_equal(own.select(context, batch, {}, outputs), wrong)


def test_an_unknown_hyperparameter_is_named_with_its_neighbour():
    with pytest.raises(InputError, match=r"'temprature' .did you mean 'temperature'"):
        METHODS['kd'].configured(temprature=1.0)


def test_rates_and_temperatures_of_the_paper():
    assert METHODS['separate'].learning_rate == 1e-3
    assert {m.learning_rate for name, m in METHODS.items() if name != 'separate'} == {1e-2}
    for name in METHODS.keys() - {'separate'}:
        assert METHODS[name].hyperparameters['temperature'] == 20.0

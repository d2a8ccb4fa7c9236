import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Flat, random_case, random_network

from cckd_jax import losses, selection
from cckd_jax.errors import InputError
from cckd_jax.methods import METHODS, ROBUST_TRAINING, Batch, Context, Outputs, ramped, self_regulated


class Head(NamedTuple):
    """A teacher's classifier that reads logits off a map's first place."""

    def head(self, maps):
        return maps[:, 0, 0]


def contexts(seed=0, epoch=30, teachers=1):
    (student, teacher, labels) = random_case(seed)
    (batch, _) = student.shape
    (one, other) = (random_network(Flat(num_classes=5), (2, 2, 1), seed) for seed in (seed, seed + 1))
    keys = jax.random.split(jax.random.key(seed), batch)
    mean = lambda values: values.mean(0)
    taught_by = (other,) if teachers == 1 else (Head(),) * teachers
    context = Context(one, taught_by, jnp.int32(epoch), jnp.int32(0), keys, mean)
    images = jnp.full((batch, 2, 2, 1), 0.5)
    valid = jnp.ones(batch, bool)
    maps = tuple(jnp.roll(teacher, place, 0)[:, None, None] for place in range(teachers))
    aux = {
        'teacher_logits': jnp.stack([each[:, 0, 0] for each in maps], axis=1),
        'teacher_features': maps,
        'teacher_hints': maps,
        'significance': jnp.linspace(0.1, 1.0, batch),
    }
    outputs = Outputs(student, (), (student[:, None, None],) * teachers)
    return context, Batch(images, labels, jnp.arange(batch), valid, aux), outputs, teacher


ROWS = {**METHODS, **ROBUST_TRAINING}


@pytest.mark.parametrize('name', ROWS)
def test_every_row_gives_one_loss_and_one_answer_an_example(name):
    method = ROWS[name].configured()
    (context, batch, outputs, _) = contexts(teachers=3 if method.several else 1)
    points = method.points(context, batch)
    loss = method.loss(context, batch, points, outputs)
    keep = method.select(context, batch, points, outputs)
    assert loss.shape == keep.shape == method.weight(batch).shape == batch.label.shape
    assert loss.dtype == jnp.float32
    assert keep.dtype == bool
    for weights in method.shares(context, batch, points, outputs).values():
        assert weights.shape == (3, len(loss))


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


AROUND = ('ard', 'rslad', 'iad', 'faithful_adversarial', 'faithful_certified')


def test_rates_and_temperatures_of_the_papers():
    assert METHODS['separate'].learning_rate == 1e-3
    at_the_sample = METHODS.keys() - {'separate', *AROUND}
    assert {METHODS[name].learning_rate for name in at_the_sample} == {1e-2}
    for name in at_the_sample:
        assert METHODS[name].hyperparameters['temperature'] == (4.0 if METHODS[name].several else 20.0)
    weights = {name: METHODS[name].hyperparameters.get('feature_weight') for name in METHODS}
    assert {name: weight for name, weight in weights.items() if weight} == {'ca_mkd': 50.0, 'fitnet_mkd': 100.0}
    for name, temperature in zip(AROUND, (30.0, 1.0, 1.0, 1.0, 1.0), strict=True):
        assert METHODS[name].hyperparameters['temperature'] == temperature
        assert METHODS[name].hyperparameters['epsilon'] == 8 / 255
    searches = [METHODS[name].hyperparameters.get('attack_steps') for name in AROUND]
    assert searches == [10, 10, 10, 10, None]
    weights = [METHODS[name].hyperparameters['adversarial_weight'] for name in ('ard', 'rslad')]
    assert weights == [1.0, 5 / 6]
    of_iad = METHODS['iad'].hyperparameters
    assert (of_iad['trust_power'], of_iad['warm_up'], of_iad['ramp']) == (0.1, 60, 0)


def test_ca_mkd_is_the_sum_of_its_three_parts():
    (context, batch, outputs, _) = contexts(teachers=3)
    maps = (outputs.extra, batch.aux['teacher_features'], jnp.stack([each[:, 0, 0] for each in outputs.extra]))
    hard = losses.cross_entropy(outputs.logits, batch.label)
    method = METHODS['ca_mkd'].configured(hard_weight=0.5, soft_weight=2.0, feature_weight=3.0)
    for reduction, epoch, joined in (('official', 0, False), ('official', 1, True), ('paper', 0, True)):
        soft = losses.ca_mkd_logits(
            outputs.logits, jnp.moveaxis(batch.aux['teacher_logits'], 1, 0), batch.label, reduction=reduction
        )
        features = losses.ca_mkd_features(*maps, batch.label, reduction=reduction)
        loss = method.configured(reduction=reduction).loss(context._replace(epoch=jnp.int32(epoch)), batch, {}, outputs)
        np.testing.assert_allclose(loss, 0.5 * hard + 2.0 * soft + 3.0 * joined * features, rtol=1e-5)


def test_the_weights_gradient_is_switched_by_its_setting():
    (context, batch, outputs, _) = contexts(teachers=3)

    def gradient(switch):
        method = METHODS['ca_mkd'].configured(weights_gradient=switch)
        pulled = lambda extra: method.loss(context, batch, {}, outputs._replace(extra=extra)).sum()
        return jax.grad(pulled)(outputs.extra)

    (through, without) = (gradient(switch) for switch in (True, False))
    assert max(np.abs(a - b).max() for a, b in zip(through, without, strict=True)) > 1e-4


def test_warm_up_and_ramp_reach_the_losses():
    def loss(name, epoch, **settings):
        (context, batch, outputs, _) = contexts(epoch=epoch)
        # The networks' own logits, which at the random ones of the case would be those of no network.
        outputs = Outputs(context.student(batch.image), ())
        batch = batch.replace(aux={'teacher_logits': context.teachers[0](batch.image)[:, None]})
        method = METHODS[name].configured(epsilon=0.2, **settings)
        points = method.points(context, batch)
        return method.loss(context, batch, points, outputs), losses.divergence(
            outputs.logits, batch.aux['teacher_logits'][:, 0]
        )

    by_epoch = {}
    for epoch in range(5):
        (by_epoch[epoch], plain) = loss('faithful_certified', epoch, warm_up=2, ramp=1, rho=1.0)
        if epoch < 2:
            np.testing.assert_allclose(by_epoch[epoch], plain, rtol=1e-5)
    assert (by_epoch[3] > by_epoch[2]).any()
    np.testing.assert_array_equal(by_epoch[3], by_epoch[4])
    trusting = loss('iad', 59, trust_power=0.0)[0]
    np.testing.assert_array_equal(loss('iad', 59)[0], trusting)
    assert (loss('iad', 60)[0] > trusting).all()


def test_the_worst_point_is_in_the_ball_and_worse():
    (context, batch, _, _) = contexts()
    taught = context.teachers[0](batch.image)
    batch = batch.replace(aux={'teacher_logits': taught[:, None]})
    student, teacher = context.student, context.teachers[0]
    for name, objective in (
        ('ard', lambda points: losses.cross_entropy(student(points), batch.label)),
        ('rslad', lambda points: losses.divergence(student(points), taught)),
        ('iad', lambda points: losses.cross_entropy(student(points), batch.label)),
        ('faithful_adversarial', lambda points: losses.divergence(student(points), teacher(points))),
    ):
        worst = METHODS[name].configured(epsilon=0.2).points(context, batch)['worst']
        assert (objective(worst) > objective(batch.image) + 1e-4).all(), name
        assert jnp.abs(worst - batch.image).max() < 0.2 + 1e-6
        assert ((worst >= 0) & (worst <= 1)).all()
    # Half way up its ramp the ball is half as large.
    early = Context(student, (teacher,), jnp.int32(0), jnp.int32(0), context.keys)
    worst = METHODS['faithful_adversarial'].configured(epsilon=0.2, ramp=1).points(early, batch)['worst']
    assert 0.09 < jnp.abs(worst - batch.image).max() < 0.1 + 1e-6


def test_what_is_ramped_grows_from_zero_to_its_value():
    seen = lambda context, *, weight=2.0, other=3.0: (weight, other)
    column = ramped(seen, 'weight', ramp=3)
    at = lambda epoch, **how: column(Context(None, (), jnp.int32(epoch), None, None), **how)
    assert [float(at(epoch)[0]) for epoch in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert [float(at(epoch, weight=4.0, warm_up=2, ramp=0)[0]) for epoch in range(4)] == [0.0, 0.0, 4.0, 4.0]
    assert at(0, other=5.0)[1] == 5.0

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Flat, random_case, random_network

from cckd_jax import losses, methods, selection
from cckd_jax.errors import InputError
from cckd_jax.methods import (
    METHODS,
    ROBUST_TRAINING,
    SELF_REGULATED,
    SELF_REGULATED_RECHECK,
    Batch,
    Gate,
    Hyperparameters,
    Inputs,
    Method,
    Outputs,
    Record,
)
from cckd_jax.methods.validation import validate

ROWS = {**METHODS, **ROBUST_TRAINING}


class Head(NamedTuple):
    """A teacher whose classifier reads logits off the first position of a feature map."""

    def head(self, features):
        return features[:, 0, 0]


def inputs_of(method, seed=0, epoch=30):
    """What the columns of a method read, with random logits."""
    count = 3 if method.teachers == 'several' else 1
    (student_logits, teacher_logits, labels) = random_case(seed)
    (size, _) = student_logits.shape
    (student, teacher) = (random_network(Flat(num_classes=5), (2, 2, 1), seed) for seed in (seed, seed + 1))
    features = tuple(jnp.roll(teacher_logits, index, 0)[:, None, None] for index in range(count))
    aux = {
        'teacher_logits': jnp.stack([values[:, 0, 0] for values in features], axis=1),
        'teacher_features': features,
        'significance': jnp.linspace(0.1, 1.0, size),
    }
    batch = Batch(jnp.full((size, 2, 2, 1), 0.5), labels, jnp.arange(size), jnp.ones(size, bool), aux)
    inputs = Inputs(
        batch=batch,
        hyper=method.hyper(epoch),
        student=student,
        teachers=(teacher,) if count == 1 else (Head(),) * count,
        epoch=jnp.int32(epoch),
        step=jnp.int32(0),
        keys=jax.random.split(jax.random.key(seed), size),
        outputs=Outputs(student_logits, (), (student_logits[:, None, None],) * count),
        mean=lambda values: values.mean(0),
        group=jnp.stack([student_logits, teacher_logits]),
    )
    return inputs if method.perturb is None else inputs._replace(perturbed=method.perturb(inputs))


@pytest.mark.parametrize('name', ROWS)
def test_every_row_of_the_table_can_work(name):
    validate(ROWS[name])


def test_hyperparameters_reach_the_loss():
    method = METHODS['cckd_l'].override(temperature=4.0, confidence_temperature=1.0)
    inputs = inputs_of(method)
    expected = losses.cckd_l(
        inputs.logits, inputs.teacher_logits, inputs.labels, temperature=4.0, confidence_temperature=1.0
    )
    np.testing.assert_array_equal(method.loss(inputs), expected)


def test_the_margin_follows_the_temperature_unless_told_otherwise():
    for overrides, temperature in (({}, 3.0), ({'margin_temperature': 7.0}, 7.0)):
        method = METHODS['cckd_t_reg'].override(alpha=0.02, temperature=3.0, **overrides)
        inputs = inputs_of(method, epoch=9)
        # Right answers, so that the margin alone decides.
        inputs = inputs._replace(batch=inputs.batch.replace(label=jnp.argmax(inputs.logits, -1)))
        expected = selection.self_regulate(inputs.logits, inputs.labels, 9, alpha=0.02, temperature=temperature)
        keep = method.gate.keep(inputs)
        np.testing.assert_array_equal(keep, expected)
        assert 0 < keep.sum() < keep.size


def test_one_name_is_one_number_in_all_columns():
    method = dataclasses.replace(METHODS['ca_mkd'], gate=SELF_REGULATED)
    assert method.hyperparameters['temperature'] == 4.0
    inputs = inputs_of(method.override(alpha=0.02), epoch=9)
    expected = selection.self_regulate(inputs.logits, inputs.labels, 9, alpha=0.02, temperature=4.0)
    np.testing.assert_array_equal(method.gate.keep(inputs), expected)


def test_a_gate_brings_its_hyperparameters_and_takes_them_away():
    gated = METHODS['separate'].with_gate(SELF_REGULATED)
    assert gated.hyperparameters == dict(SELF_REGULATED.hyperparameters)
    assert gated.with_gate(None).hyperparameters == {}
    rechecked = METHODS['cckd_t_reg'].override(alpha=0.5).with_gate(SELF_REGULATED_RECHECK)
    assert (rechecked.hyperparameters['alpha'], rechecked.hyperparameters['longest_rest']) == (0.5, 5)
    assert rechecked.skips_samples
    assert set(rechecked.all_records) == {'participation', 'next_epoch'}


def test_an_unknown_hyperparameter_is_named_with_its_neighbour():
    with pytest.raises(InputError, match=r"'temprature' .did you mean 'temperature'"):
        METHODS['kd'].override(temprature=1.0)


LOGITS = lambda inputs: inputs.logits
ONES = lambda inputs: jnp.ones(len(inputs.labels))


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        ({'loss': lambda inputs: inputs.student(inputs.adversarial)[:, 0]}, 'reads adversarial images; set perturb='),
        ({'loss': ONES, 'hyperparameters': {'beta': 1.0}}, "no column of the method reads the hyper-parameter 'beta'"),
        ({'loss': lambda inputs: inputs.hyper.bata * ONES(inputs), 'hyperparameters': {'beta': 1.0}}, "mean 'beta'"),
        ({'loss': LOGITS}, r'`loss` of the method must return floating \[B\]; .* returns float32 \(4, 10\)'),
        ({'loss': lambda inputs: jnp.mean(inputs.logits)}, r'must return floating \[B\]'),
        (
            {'loss': lambda inputs: inputs.teacher_logits[:, 0], 'teachers': 'none'},
            'reads teacher_logits; set teachers',
        ),
        ({'loss': lambda inputs: inputs.teacher(inputs.images)[:, 0]}, 'set live_teacher=True'),
        ({'loss': lambda inputs: inputs.peer_logits[0, :, 0]}, 'reads the logits of other students; set peers=True'),
        ({'loss': ONES, 'measures': lambda inputs: {'a': inputs.logits}}, r"`measures\['a'\]` of the method must"),
        ({'loss': lambda inputs: inputs.logits.no_such()}, '`loss` of the method cannot be computed: AttributeError'),
        ({'loss': ONES, 'gate': Gate(ONES)}, r'`gate` of the method must return bool \[B\]'),
        ({'loss': ONES, 'perturb': LOGITS}, '`perturb` runs before the forward pass'),
        ({'loss': ONES, 'teachers': 'two'}, "teachers='two' of the method must be"),
        ({'loss': ONES, 'schedules': {'beta': lambda epoch, hyper: 1.0}}, "schedules 'beta', which is none of its"),
        ({'loss': ONES, 'records': {'bank': Record(LOGITS)}}, r"`records\['bank'\]` of the method must return"),
    ],
)
def test_a_row_that_cannot_work_is_refused_when_it_is_made(row, message):
    with pytest.raises(InputError, match=message):
        Method(**row)


OWN = Method(ONES, gate=Gate(lambda inputs: inputs.batch.valid))


def test_a_method_and_a_gate_come_from_an_import_path():
    assert methods.get('test_methods:OWN') is OWN
    assert methods.get_gate('cckd_jax.methods:SELF_REGULATED') is methods.get_gate('self_regulated') is SELF_REGULATED
    assert methods.get_gate('none') is None
    with pytest.raises(InputError, match=r"unknown method 'kdd' .did you mean 'kd'"):
        methods.get('kdd')
    with pytest.raises(InputError, match=r"'test_methods:ABSENT' cannot be imported: .* has no 'ABSENT'.*; give"):
        methods.get('test_methods:ABSENT')
    with pytest.raises(InputError, match=r'test_methods:ONES is a function, not a cckd_jax.methods.Method'):
        methods.get('test_methods:ONES')


def test_what_is_wrong_with_a_method_of_ones_own_is_no_failed_import(tmp_path, monkeypatch):
    text = "from cckd_jax.errors import InputError\nraise InputError('the loss must return [B]')\n"
    (tmp_path / 'wrong_method.py').write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"^method 'wrong_method:OWN': the loss must return \[B\]$"):
        methods.get('wrong_method:OWN')


def test_only_names_of_the_row_are_read():
    with pytest.raises(InputError, match=r"'temperatur' .did you mean 'temperature'.*which the row does not declare"):
        _ = Hyperparameters({'temperature': 1.0}).temperatur


KDCL = ('kdcl_naive', 'kdcl_minlogit', 'kdcl_linear')
ROBUST = ('ard', 'rslad', 'iad', 'faithful_adversarial', 'faithful_certified')


def test_rates_and_temperatures_of_the_papers():
    assert METHODS['separate'].learning_rate == 1e-3
    at_the_sample = METHODS.keys() - {'separate', *ROBUST, 'dml', *KDCL}
    assert {METHODS[name].learning_rate for name in at_the_sample} == {1e-2}
    for name in at_the_sample:
        expected = 4.0 if METHODS[name].teachers == 'several' else 20.0
        assert METHODS[name].hyperparameters['temperature'] == expected
    for name, temperature in (('dml', 1.0), *((name, 2.0) for name in KDCL)):
        assert METHODS[name].learning_rate == 1e-3
        assert METHODS[name].hyperparameters['temperature'] == temperature
    weights = {name: METHODS[name].hyperparameters.get('feature_weight') for name in METHODS}
    assert {name: weight for name, weight in weights.items() if weight} == {'ca_mkd': 50.0, 'fitnet_mkd': 100.0}
    for name, temperature in zip(ROBUST, (30.0, 1.0, 1.0, 1.0, 1.0), strict=True):
        assert METHODS[name].hyperparameters['temperature'] == temperature
        assert METHODS[name].hyperparameters['epsilon'] == 8 / 255
    searches = [METHODS[name].hyperparameters.get('attack_steps') for name in ROBUST]
    assert searches == [10, 10, 10, 10, None]
    weights = [METHODS[name].hyperparameters['adversarial_weight'] for name in ('ard', 'rslad')]
    assert weights == [1.0, 5 / 6]
    of_iad = METHODS['iad'].hyperparameters
    assert (of_iad['trust_power'], of_iad['warm_up'], of_iad['ramp']) == (0.1, 60, 0)


def test_ca_mkd_is_the_sum_of_its_three_terms():
    method = METHODS['ca_mkd'].override(hard_weight=0.5, soft_weight=2.0, feature_weight=3.0)
    for reduction, epoch, joined in (('official', 0, False), ('official', 1, True), ('paper', 0, True)):
        row = method.override(reduction=reduction)
        inputs = inputs_of(row, epoch=epoch)
        adapted = inputs.outputs.adapted
        hard = losses.cross_entropy(inputs.logits, inputs.labels)
        soft = losses.ca_mkd_logits(inputs.logits, inputs.all_teacher_logits, inputs.labels, reduction=reduction)
        through = jnp.stack([features[:, 0, 0] for features in adapted])
        features = losses.ca_mkd_features(adapted, inputs.teacher_features, through, inputs.labels, reduction=reduction)
        np.testing.assert_allclose(row.loss(inputs), 0.5 * hard + 2.0 * soft + 3.0 * joined * features, rtol=1e-5)


def test_the_weights_gradient_is_switched_by_its_setting():
    def gradient(switch):
        method = METHODS['ca_mkd'].override(weights_gradient=switch)
        inputs = inputs_of(method)
        of = lambda adapted: method.loss(inputs._replace(outputs=inputs.outputs._replace(adapted=adapted))).sum()
        return jax.grad(of)(inputs.outputs.adapted)

    (through, without) = (gradient(switch) for switch in (True, False))
    assert max(np.abs(a - b).max() for a, b in zip(through, without, strict=True)) > 1e-4


def test_the_columns_of_students_are_their_losses():
    method = METHODS['cckd_online_t'].override(
        gamma=2.0, teacher_prior=0.5, confidence_temperature=1.0, hard_weight=0.1
    )
    options = {'gamma': 2.0, 'teacher_prior': 0.5, 'confidence_temperature': 1.0}
    inputs = inputs_of(method)
    for peer in range(2):
        own = inputs._replace(peer=peer, outputs=inputs.outputs._replace(logits=inputs.group[peer]))
        expected = losses.cckd_online_t(
            inputs.group, inputs.labels, teacher_logits=inputs.teacher_logits, hard_weight=0.1, **options
        )
        np.testing.assert_array_equal(method.loss(own), expected[peer])
        weights = method.teacher_weights(own)['logits']
        np.testing.assert_allclose(weights.sum(0), 1.0, rtol=1e-5)
        np.testing.assert_array_equal(weights[1 + peer], 0.0)
    combine = {'kdcl_naive': losses.kdcl_naive, 'kdcl_minlogit': losses.kdcl_minlogit}
    for name, target in combine.items():
        expected = losses.kdcl(inputs.group, target(inputs.group, inputs.labels), inputs.labels)
        found = METHODS[name].loss(inputs._replace(hyper=METHODS[name].hyper(0)))
        np.testing.assert_array_equal(found, expected[0])


def own_logits(inputs):
    """Inputs with the networks' own logits, which at random logits would belong to no network."""
    aux = {'teacher_logits': inputs.teacher(inputs.images)[:, None]}
    outputs = Outputs(inputs.student(inputs.images), ())
    return inputs._replace(outputs=outputs, batch=inputs.batch.replace(aux=aux))


def test_warm_up_and_ramp_reach_the_losses():
    def loss(name, epoch, **values):
        method = METHODS[name].override(epsilon=0.2, **values)
        inputs = own_logits(inputs_of(method, epoch=epoch))
        return method.loss(inputs), losses.kl_divergence(inputs.logits, inputs.teacher_logits)

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


def test_adversarial_images_are_in_the_ball_and_worse():
    for name, objective in (
        ('ard', lambda inputs, x: losses.cross_entropy(inputs.student(x), inputs.labels)),
        ('rslad', lambda inputs, x: losses.kl_divergence(inputs.student(x), inputs.teacher_logits)),
        ('iad', lambda inputs, x: losses.cross_entropy(inputs.student(x), inputs.labels)),
        ('faithful_adversarial', lambda inputs, x: losses.kl_divergence(inputs.student(x), inputs.teacher(x))),
    ):
        method = METHODS[name].override(epsilon=0.2)
        inputs = own_logits(inputs_of(method))
        images = method.perturb(inputs)
        assert (objective(inputs, images) > objective(inputs, inputs.images) + 1e-4).all(), name
        assert jnp.abs(images - inputs.images).max() < 0.2 + 1e-6
        assert ((images >= 0) & (images <= 1)).all()
    # Half way up its ramp the ball is half as large.
    method = METHODS['faithful_adversarial'].override(epsilon=0.2, ramp=1)
    early = own_logits(inputs_of(method, epoch=0))
    assert 0.09 < jnp.abs(method.perturb(early) - early.images).max() < 0.1 + 1e-6


def test_a_scheduled_hyperparameter_grows_from_zero_to_its_value():
    method = METHODS['faithful_certified'].override(rho=1.0, epsilon=0.5, ramp=3)
    assert [float(method.hyper(epoch).rho) for epoch in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert float(method.hyper(1).epsilon) == 0.25
    stepped = method.override(warm_up=2, ramp=0)
    assert [float(stepped.hyper(epoch).rho) for epoch in range(4)] == [0.0, 0.0, 1.0, 1.0]
    assert stepped.hyper(0).temperature == 1.0

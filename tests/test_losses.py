import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_case, softmax
from hypothesis import given, settings, strategies as st

from cckd_jax import losses
from cckd_jax.errors import InputError

LOSSES = {
    'cross_entropy': lambda student, teacher, labels: losses.cross_entropy(student, labels),
    'teacher_only': lambda student, teacher, labels: losses.teacher_only(student, teacher),
    'kd': losses.kd,
    'cckd_l': losses.cckd_l,
    'cckd_t': losses.cckd_t,
}
every_loss = pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)


def test_by_hand():
    # Two classes; the teacher gives odds 3:1 against the label, the student odds 1:4 for class 0, all at temperature 2.
    student = jnp.array([[0.0, 2 * np.log(4.0)]])
    teacher = jnp.array([[2 * np.log(3.0), 0.0]])
    labels = jnp.array([1])
    hard = -np.log(16 / 17)  # at temperature 1 the odds are squared
    soft = -(0.75 * np.log(0.2) + 0.25 * np.log(0.8))
    mixed_target = [0.25 * 0.75, 0.25 * 0.25 + 0.75]
    expected = {
        'cross_entropy': hard,
        'teacher_only': soft,
        'kd': soft + 0.5 * hard,
        'cckd_l': 0.25 * soft + 0.75 * hard,
        'cckd_t': -(mixed_target[0] * np.log(0.2) + mixed_target[1] * np.log(0.8)),
    }
    found = {
        'cross_entropy': losses.cross_entropy(student, labels),
        'teacher_only': losses.teacher_only(student, teacher, temperature=2.0),
        'kd': losses.kd(student, teacher, labels, temperature=2.0, hard_weight=0.5),
        'cckd_l': losses.cckd_l(student, teacher, labels, temperature=2.0),
        'cckd_t': losses.cckd_t(student, teacher, labels, temperature=2.0),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(losses.confidence(teacher, labels, temperature=2.0), [0.25], rtol=1e-6)
    np.testing.assert_allclose(losses.confidence_targets(teacher, labels, temperature=2.0), [mixed_target], rtol=1e-6)


def test_defaults_are_the_papers():
    (student, teacher, labels) = random_case(0)
    np.testing.assert_array_equal(
        losses.kd(student, teacher, labels),
        losses.kd(student, teacher, labels, temperature=20.0, hard_weight=0.3),
    )
    for loss in (losses.cckd_l, losses.cckd_t):
        literal = loss(student, teacher, labels, temperature=20.0, confidence_temperature=20.0)
        np.testing.assert_array_equal(loss(student, teacher, labels), literal)


def test_confidence_temperature_is_of_the_confidence_alone():
    (student, teacher, labels) = random_case(1)
    trust = softmax(teacher, 1.0)[np.arange(6), labels][:, None]
    target = trust * softmax(teacher, 20.0) + (1 - trust) * np.eye(5)[np.asarray(labels)]
    expected = -(target * np.log(softmax(student, 20.0))).sum(-1)
    found = losses.cckd_t(student, teacher, labels, confidence_temperature=1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found, losses.cckd_t(student, teacher, labels))


@every_loss
def test_one_value_an_example_and_jit_and_vmap_agree(loss):
    case = random_case(2)
    values = loss(*case)
    assert values.shape == (6,)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(loss)(*case), values, rtol=1e-6)
    one_by_one = jax.vmap(lambda *row: loss(*(part[None] for part in row))[0])(*case)
    np.testing.assert_allclose(one_by_one, values, rtol=1e-6)


@every_loss
def test_an_example_does_not_depend_on_its_batch(loss):
    case = random_case(3)
    order = np.array([4, 0, 5, 2, 1, 3])
    np.testing.assert_allclose(loss(*(part[order] for part in case)), loss(*case)[order], rtol=1e-6)
    np.testing.assert_allclose(loss(*(part[1:3] for part in case)), loss(*case)[1:3], rtol=1e-6)


@every_loss
def test_no_gradient_reaches_the_teacher(loss):
    (student, teacher, labels) = random_case(4)
    gradient = jax.grad(lambda z: loss(student, z, labels).sum())(teacher)
    np.testing.assert_array_equal(gradient, np.zeros_like(teacher))


def test_gradients_are_probability_less_target():
    (student, teacher, labels) = random_case(5)
    label, tau = np.eye(5)[np.asarray(labels)], 20.0
    trust = softmax(teacher, tau)[np.arange(6), labels][:, None]
    soft = lambda target: (softmax(student, tau) - target) / tau
    hard = softmax(student) - label
    expected = {
        'cross_entropy': hard,
        'teacher_only': soft(softmax(teacher, tau)),
        'kd': soft(softmax(teacher, tau)) + 0.3 * hard,
        'cckd_l': trust * soft(softmax(teacher, tau)) + (1 - trust) * hard,
        'cckd_t': soft(trust * softmax(teacher, tau) + (1 - trust) * label),
    }
    for name, loss in LOSSES.items():
        gradient = jax.grad(lambda z, loss=loss: loss(z, teacher, labels).sum())(student)
        np.testing.assert_allclose(gradient, expected[name], atol=1e-6, err_msg=name)


@every_loss
def test_finite_for_extreme_logits(loss):
    (_, _, labels) = random_case(6)
    extreme = jnp.tile(jnp.where(jnp.arange(5) == 2, 1e4, -1e4), (6, 1))
    (value, gradient) = jax.value_and_grad(lambda z: loss(z, -extreme, labels).sum())(extreme)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@given(seed=st.integers(0, 10**6), temperature=st.floats(0.5, 50.0), shift=st.floats(-50.0, 50.0))
@settings(max_examples=25, deadline=None)
def test_properties_over_random_inputs(seed, temperature, shift):
    (student, teacher, labels) = random_case(seed)
    targets = losses.confidence_targets(teacher, labels, temperature=temperature)
    np.testing.assert_allclose(targets.sum(-1), 1.0, atol=1e-5)
    assert (targets >= 0).all()
    trust = losses.confidence(teacher, labels, temperature=temperature)
    assert ((trust >= 0) & (trust <= 1)).all()
    # Adding a constant to all logits of a sample changes no probability, and no loss.
    for loss in (losses.kd, losses.cckd_l, losses.cckd_t):
        moved = loss(student + shift, teacher - shift, labels, temperature=temperature)
        np.testing.assert_allclose(moved, loss(student, teacher, labels, temperature=temperature), rtol=1e-3, atol=1e-4)
    # Soft cross entropy is least, and equal to the entropy, at the target itself.
    soft = losses.teacher_only(teacher, teacher, temperature=temperature)
    assert (soft <= losses.teacher_only(student, teacher, temperature=temperature) + 1e-4).all()


def test_a_sure_and_right_teacher_is_copied_and_a_wrong_one_ignored():
    labels = jnp.array([0, 0])
    teacher = jnp.array([[900.0, 0.0, 0.0], [0.0, 900.0, 0.0]])
    student = jnp.array([[1.0, 2.0, 0.5], [1.0, 2.0, 0.5]])
    hard, soft = losses.cross_entropy(student, labels), losses.teacher_only(student, teacher)
    np.testing.assert_allclose(losses.cckd_l(student, teacher, labels), [soft[0], hard[1]], rtol=1e-5)
    np.testing.assert_allclose(losses.confidence_targets(teacher, labels), [[1, 0, 0], [1, 0, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ('student', 'teacher', 'labels'),
    [
        (jnp.zeros((2, 3)), jnp.zeros((2, 4)), jnp.zeros(2, int)),
        (jnp.zeros((2, 3)), jnp.zeros((3, 3)), jnp.zeros(2, int)),
        (jnp.zeros(3), jnp.zeros(3), jnp.zeros(1, int)),
        (jnp.zeros((2, 3), int), jnp.zeros((2, 3), int), jnp.zeros(2, int)),
        (jnp.zeros((2, 3)), jnp.zeros((2, 3)), jnp.zeros(2)),
        (jnp.zeros((2, 3)), jnp.zeros((2, 3)), jnp.zeros((2, 1), int)),
        (jnp.zeros((2, 3)), jnp.zeros((2, 3)), jnp.zeros(3, int)),
    ],
    ids=['classes', 'batch', 'rank', 'int logits', 'float labels', 'column labels', 'too many labels'],
)
@pytest.mark.parametrize('loss', [losses.kd, losses.cckd_l, losses.cckd_t])
def test_wrong_shapes_and_types_are_refused(loss, student, teacher, labels):
    with pytest.raises(AssertionError):
        loss(student, teacher, labels)


@pytest.mark.parametrize('temperature', [0.0, -1.0, 1e-6, 1e6, float('nan')])
def test_values_outside_the_supported_ranges_are_refused(temperature):
    (student, teacher, labels) = random_case(7)
    with pytest.raises(ValueError, match=r'temperature=.* must be in \[0.001, 10000\]'):
        losses.cckd_t(student, teacher, labels, temperature=temperature)
    with pytest.raises(ValueError, match=r'temperature=.* must be in \[0.001, 10000\]'):
        losses.confidence_targets(teacher, labels, temperature=20.0, confidence_temperature=temperature)
    with pytest.raises(ValueError, match=r'hard_weight=-0.1 must be in \[0, 10000\]'):
        losses.kd(student, teacher, labels, hard_weight=-0.1)


def test_bfloat16_logits_give_float32_losses():
    (student, teacher, labels) = random_case(8)
    found = losses.cckd_t(student.astype(jnp.bfloat16), teacher.astype(jnp.bfloat16), labels)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, losses.cckd_t(student, teacher, labels), rtol=2e-2)


@pytest.mark.parametrize('dtype', [jnp.int8, jnp.uint8, jnp.int16])
def test_labels_of_few_bits_name_one_class(dtype):
    random = np.random.default_rng(0)
    (student, teacher) = jnp.asarray(random.normal(size=(2, 4, 300)), jnp.float32)
    labels = jnp.array([0, 5, 44, 127])
    targets = losses.confidence_targets(teacher, labels.astype(dtype))
    np.testing.assert_allclose(targets.sum(-1), 1.0, rtol=1e-5)
    for loss in (losses.kd, losses.cckd_l, losses.cckd_t):
        np.testing.assert_array_equal(loss(student, teacher, labels.astype(dtype)), loss(student, teacher, labels))
    for function in (losses.label_probability, losses.label_log_odds):
        np.testing.assert_array_equal(function(student, labels.astype(dtype)), function(student, labels))


@pytest.mark.parametrize('label', [-1, 5, 2**40])
def test_a_label_that_is_no_class_is_refused(label):
    (student, teacher, _) = random_case(9)
    labels = np.array([0, 1, 2, 3, 4, label])
    message = rf'label {label} must be in \[0, 5\)'
    for loss in (losses.kd, losses.cckd_l, losses.cckd_t):
        with pytest.raises(InputError, match=message):
            loss(student, teacher, labels)
    for function in (losses.cross_entropy, losses.confidence, losses.label_probability, losses.label_log_odds):
        with pytest.raises(InputError, match=message):
            function(student, labels)


@pytest.mark.parametrize('temperature', [1e-3, 20.0, 1e4])
@pytest.mark.parametrize(
    'loss',
    [losses.kd, losses.cckd_l, losses.cckd_t, lambda z, t, y, **kwargs: losses.teacher_only(z, t, **kwargs)],
    ids=['kd', 'cckd_l', 'cckd_t', 'teacher_only'],
)
def test_finite_over_the_supported_ranges(loss, temperature):
    labels = jnp.array([0, 1, 2])
    half = jnp.array([[1e4, 1e4, -1e4], [-1e4, 1e4, 0.0], [1e4, -1e4, 1e4]], jnp.float16)
    for logits in (half, jnp.where(half > 0, 1e30, -1e30)):
        value, gradient = jax.value_and_grad(
            lambda z, logits=logits: loss(z, -logits, labels, temperature=temperature).sum()
        )(logits)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_kd_is_finite_for_the_largest_weight_and_refuses_more():
    logits, labels = jnp.array([[1e30, -1e30]]), jnp.array([1])
    loss = lambda weight: losses.kd(logits, -logits, labels, temperature=1e-3, hard_weight=weight)
    assert np.isfinite(loss(1e4)).all()
    with pytest.raises(InputError, match=r'hard_weight=1000000000.0 must be in \[0, 10000\]'):
        loss(1e9)


def test_probability_and_log_odds_of_the_label_in_double_precision():
    (logits, _, labels) = random_case(10)
    probability = softmax(logits)[np.arange(6), np.asarray(labels)]
    np.testing.assert_allclose(losses.label_probability(logits, labels), probability, rtol=1e-5)
    expected = np.log(probability / (1 - probability))
    np.testing.assert_allclose(losses.label_log_odds(logits, labels), expected, rtol=1e-5, atol=1e-5)
    # Where the probability is 1 in float32, the log odds still have a gradient.
    certain = jnp.array([[90.0, 0.0, 1.0]])
    gradient = jax.grad(lambda z: losses.label_log_odds(z, jnp.array([0])).sum())(certain)
    np.testing.assert_allclose(gradient, [[1.0, -0.26894, -0.73106]], rtol=1e-4)


def test_divergence_keeps_its_earlier_name():
    assert losses.divergence is losses.kl_divergence

"""Robust losses: values by hand, limits, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_case, softmax

from cckd_jax import losses

NAMES = ('student_logits', 'adversarial_logits', 'teacher_logits', 'adversarial_teacher_logits', 'labels')


def case(seed, scale=8.0):
    (student, teacher, labels) = random_case(seed, scale=scale)
    (worst, worst_teacher, _) = random_case(seed + 100, scale=scale)
    return student, worst, teacher, worst_teacher, labels


LOSSES = {
    'ard': lambda s, w, t, v, y: losses.ard(s, w, t, y, adversarial_weight=0.7, temperature=4.0),
    'rslad': lambda s, w, t, v, y: losses.rslad(s, w, t),
    'iad': losses.iad,
    'faithful_adversarial': lambda s, w, t, v, y: losses.faithful_adversarial(s, w, t, v, rho=0.3),
    'faithful_certified': lambda s, w, t, v, y: losses.faithful_certified(s, t, jax.nn.sigmoid(w[:, 0]), rho=0.3),
    'certified_cross_entropy': lambda s, w, t, v, y: losses.certified_cross_entropy(s, w, y, rho=0.3),
}
every_loss = pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)


def kl(target, logits, temperature=1.0):
    (q, p) = (softmax(each, temperature) for each in (target, logits))
    return (q * (np.log(q) - np.log(p))).sum(-1)


def test_by_hand():
    # Odds of two classes: the teacher 3:1 at the sample and 1:1 at the worst point, the student 1:1 and 1:3.
    odds = lambda *ratio: jnp.log(jnp.array([ratio], jnp.float32))
    (student, worst, teacher, worst_teacher) = odds(1, 1), odds(1, 3), odds(3, 1), odds(1, 1)
    labels = jnp.array([0])
    taught = 0.75 * np.log(3) + 0.25 * np.log(1 / 3)  # 3:1 from 1:3
    from_even = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)  # 3:1 from 1:1
    to_even = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)  # 1:1 from 1:3
    found = {
        'ard': losses.ard(student, worst, teacher, labels, temperature=1.0, adversarial_weight=0.75),
        'rslad': losses.rslad(student, worst, teacher),
        'iad': losses.iad(student, worst, teacher, worst_teacher, labels, trust_power=2.0),
        'faithful_adversarial': losses.faithful_adversarial(student, worst, teacher, worst_teacher, rho=0.25),
        'faithful_certified': losses.faithful_certified(student, teacher, jnp.array([0.4]), rho=0.25),
        'certified_cross_entropy': losses.certified_cross_entropy(teacher, odds(1, 3), labels, rho=0.25),
    }
    expected = {
        'ard': 0.75 * taught + 0.25 * np.log(2),
        'rslad': (5 * taught + from_even) / 6,
        'iad': taught + 0.75 * to_even,
        'faithful_adversarial': 0.75 * from_even + 0.25 * to_even,
        'faithful_certified': 0.75 * from_even + 0.25 * 0.4,
        'certified_cross_entropy': 0.75 * np.log(4 / 3) + 0.25 * np.log(4),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value], rtol=1e-5, err_msg=name)


def test_against_numpy_with_the_papers_settings():
    (student, worst, teacher, worst_teacher, labels) = case(1, scale=2.0)
    trust = softmax(worst_teacher)[np.arange(6), labels] ** 0.1
    for found, expected in (
        (losses.ard(student, worst, teacher, labels), 900 * kl(teacher, worst, 30.0)),
        (losses.rslad(student, worst, teacher), 5 / 6 * kl(teacher, worst) + kl(teacher, student) / 6),
        (
            losses.iad(student, worst, teacher, worst_teacher, labels),
            kl(teacher, worst) + (1 - trust) * kl(student, worst),
        ),
        (
            losses.iad(student, worst, teacher, worst_teacher, labels, temperature=5.0),
            25 * kl(teacher, worst, 5.0) + (1 - trust) * kl(student, worst),
        ),
        (
            losses.faithful_adversarial(student, worst, teacher, worst_teacher, temperature=3.0),
            (kl(teacher, student, 3.0) + kl(worst_teacher, worst, 3.0)) / 2,
        ),
    ):
        np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_where_the_worst_point_is_the_sample_itself():
    (student, _, teacher, _, labels) = case(2)
    plain = losses.kl_divergence(student, teacher)
    np.testing.assert_allclose(losses.rslad(student, student, teacher), plain, rtol=1e-5)
    np.testing.assert_allclose(losses.iad(student, student, teacher, teacher, labels), plain, rtol=1e-5)
    for rho in (0.0, 0.4, 1.0):
        found = losses.faithful_adversarial(student, student, teacher, teacher, rho=rho)
        np.testing.assert_allclose(found, plain, rtol=1e-5)
    # A divergence has the gradient of soft cross entropy, and ARD is KD's with the temperature's square.
    for temperature in (2.0, 30.0):
        at = jax.grad(lambda z, t=temperature: losses.ard(z, z, teacher, labels, temperature=t).sum())(student)
        of_kd = jax.grad(lambda z, t=temperature: losses.teacher_only(z, teacher, temperature=t).sum())(student)
        np.testing.assert_allclose(at, temperature**2 * of_kd, rtol=1e-3, atol=1e-4)
    # The bounds of a ball of radius 0 are the differences themselves.
    differences = student - jnp.take_along_axis(student, labels[:, None], 1)
    for rho in (0.0, 0.4, 1.0):
        found = losses.certified_cross_entropy(student, differences, labels, rho=rho)
        np.testing.assert_allclose(found, losses.cross_entropy(student, labels), rtol=1e-5, atol=1e-6)


def test_weights_of_zero_and_one_leave_one_term():
    (student, worst, teacher, worst_teacher, labels) = case(3)
    gap = jnp.linspace(0, 1, 6)
    for found, expected in (
        (losses.ard(student, worst, teacher, labels, adversarial_weight=0.0), losses.cross_entropy(student, labels)),
        (losses.rslad(student, worst, teacher, adversarial_weight=0.0), losses.kl_divergence(student, teacher)),
        (losses.rslad(student, worst, teacher, adversarial_weight=1.0), losses.kl_divergence(worst, teacher)),
        (losses.faithful_certified(student, teacher, gap, rho=1.0), gap),
        (losses.faithful_certified(student, teacher, gap, rho=0.0), losses.kl_divergence(student, teacher)),
        (
            losses.iad(student, worst, teacher, worst_teacher, labels, trust_power=0.0),
            losses.kl_divergence(worst, teacher),
        ),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_perfect_imitator_loses_nothing():
    (_, _, teacher, worst_teacher, _) = case(4)
    found = losses.faithful_adversarial(teacher, worst_teacher, teacher, worst_teacher)
    np.testing.assert_allclose(found, 0, atol=1e-6)
    np.testing.assert_allclose(losses.rslad(teacher, teacher, teacher), 0, atol=1e-6)
    values = losses.faithful_adversarial(*case(5)[:4])
    assert (values > 0).all()


@every_loss
def test_one_value_an_example_that_depends_on_nothing_else(loss):
    given = case(6)
    values = loss(*given)
    assert values.shape == (6,)
    assert values.dtype == jnp.float32
    one_by_one = jax.jit(jax.vmap(lambda *row: loss(*(part[None] for part in row))[0]))(*given)
    np.testing.assert_allclose(one_by_one, values, rtol=1e-5, atol=1e-6)


@every_loss
def test_gradients_reach_the_student_alone(loss):
    given = case(7)
    gradients = jax.grad(lambda *parts: loss(*parts, given[4]).sum(), argnums=(0, 1, 2, 3))(*given[:4])
    for name, gradient in zip(NAMES[:4], gradients, strict=True):
        assert np.isfinite(gradient).all(), name
        if 'teacher' in name:
            np.testing.assert_array_equal(gradient, 0, err_msg=name)
    assert any(np.abs(gradient).max() > 0 for gradient in gradients)


@every_loss
def test_finite_for_extreme_logits(loss):
    labels = case(8)[4]
    extreme = jnp.tile(jnp.where(jnp.arange(5) == 2, 1e3, -1e3), (6, 1))
    parts = (extreme, -extreme, -extreme, extreme)
    (value, gradients) = jax.value_and_grad(lambda *parts: loss(*parts, labels).sum(), argnums=(0, 1))(*parts)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_the_students_own_side_of_iad_learns_as_in_its_official_code():
    (student, worst, teacher, worst_teacher, labels) = case(9, scale=2.0)
    gradient = jax.grad(lambda z: losses.iad(z, worst, teacher, worst_teacher, labels, trust_power=5.0).sum())(student)
    assert np.abs(gradient).max() > 1e-3


@pytest.mark.parametrize(
    ('call', 'said'),
    [
        (
            lambda s, w, t, v, y: losses.ard(s, w, t, y, adversarial_weight=1.1),
            r'adversarial_weight=.* in \[0, 1\]',
        ),
        (
            lambda s, w, t, v, y: losses.rslad(s, w, t, adversarial_weight=-0.1),
            r'adversarial_weight=.* in \[0, 1\]',
        ),
        (lambda s, w, t, v, y: losses.rslad(s, w, t, temperature=0.0), 'temperature=0.0 must be in'),
        (lambda s, w, t, v, y: losses.iad(s, w, t, v, y, trust_power=-1.0), 'trust_power=-1.0 must be in'),
        (lambda s, w, t, v, y: losses.faithful_adversarial(s, w, t, v, rho=2.0), r'rho=2.0 must be in \[0, 1\]'),
        (lambda s, w, t, v, y: losses.faithful_certified(s, t, w[:, 0], rho=np.nan), r'rho=.* must be in \[0, 1\]'),
        (lambda s, w, t, v, y: losses.certified_cross_entropy(s, w, y, rho=-0.5), r'rho=.* must be in \[0, 1\]'),
    ],
)
def test_hyperparameters_out_of_range_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call(*case(10))


@every_loss
def test_wrong_shapes_are_refused(loss):
    given = case(11)
    for place in (0, 1, 2, 3):
        # faithful_certified makes its gap from the second here.
        parts = [part[:3] if number == place else part for number, part in enumerate(given)]
        try:
            found = loss(*parts)
        except AssertionError:
            continue
        np.testing.assert_array_equal(found, loss(*given))  # it does not take this one


@pytest.mark.parametrize(
    'loss',
    [
        lambda student, bounds, labels: losses.certified_cross_entropy(student, bounds, labels, rho=0.3),
        lambda student, bounds, labels: losses.faithful_certified(student, -student, bounds[:, 0], rho=0.3),
    ],
    ids=['certified_cross_entropy', 'faithful_certified'],
)
def test_bounds_in_half_precision_are_combined_in_float32(loss):
    (student, bounds, _, _, labels) = case(12)
    (student, bounds) = (values.astype(jnp.bfloat16) for values in (student, bounds))
    values = loss(student, bounds, labels)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, loss(student.astype(jnp.float32), bounds.astype(jnp.float32), labels), rtol=1e-6)


@pytest.mark.parametrize('temperature', [1e-3, 1e4])
def test_rslad_is_finite_over_the_supported_temperatures(temperature):
    half = jnp.array([[1e4, 1e4, -1e4], [-1e4, 1e4, 0.0]], jnp.float16)
    loss = lambda student, adversarial: losses.rslad(student, adversarial, -half, temperature=temperature).sum()
    (value, gradients) = jax.value_and_grad(loss, argnums=(0, 1))(half, half)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients)

"""Losses of students that teach each other: by hand, and the cases in which they are losses that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import softmax
from hypothesis import given, settings, strategies as st
from scipy import optimize

from cckd_jax import losses
from cckd_jax.errors import InputError

LOSSES = {
    'cckd_online_t': losses.cckd_online_t,
    'cckd_online_l': losses.cckd_online_l,
    'relative': lambda logits, labels: losses.cckd_online_t(logits, labels, relative_trust=True),
    'dml': losses.dml,
    **{
        f'kdcl_{name}': lambda logits, labels, combine=combine: losses.kdcl(logits, combine(logits, labels), labels)
        for name, combine in (
            ('naive', losses.kdcl_naive),
            ('minlogit', losses.kdcl_minlogit),
            ('linear', losses.kdcl_linear),
        )
    },
}
every_loss = pytest.mark.parametrize('name', LOSSES)


def random_case(seed, students=3, batch=6, classes=5, scale=4.0):
    """Logits of students, of a teacher, and labels."""
    random = np.random.default_rng(seed)
    (teacher, *logits) = random.normal(scale=scale, size=(1 + students, batch, classes)).astype(np.float32)
    return jnp.asarray(logits), jnp.asarray(teacher), jnp.asarray(random.integers(0, classes, batch))


def test_by_hand():
    # Label 0; the students give it 1/4, 3/4 and 1/2, the teacher 9/10. Trust at temperature 1.
    logits = jnp.log(jnp.array([[[1.0, 3.0]], [[3.0, 1.0]], [[1.0, 1.0]]]))
    teacher = jnp.log(jnp.array([[9.0, 1.0]]))
    mixtures = losses.online_mixtures(
        logits, jnp.array([0]), teacher_logits=teacher, temperature=1.0, gamma=2.0, teacher_prior=0.5
    )
    powers = np.array([0.5 * 0.9**2, 0.25**2, 0.75**2, 0.5**2])
    expected = np.array([powers * (np.arange(4) != student + 1) for student in range(3)])
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(mixtures.weights[..., 0], expected, rtol=1e-5)
    trust = expected @ np.array([0.9, 0.25, 0.75, 0.5])
    np.testing.assert_allclose(mixtures.trust[:, 0], trust, rtol=1e-5)
    (targets, _) = losses.online_targets(
        logits, jnp.array([0]), teacher_logits=teacher, temperature=1.0, gamma=2.0, teacher_prior=0.5
    )
    # At equal temperatures the label has mass 1 - trust + trust^2.
    np.testing.assert_allclose(targets[:, 0, 0], 1 - trust + trust**2, rtol=1e-5)
    own = np.array([0.25, 0.75, 0.5])
    expected_t = -(targets[:, 0, 0] * np.log(own) + targets[:, 0, 1] * np.log(1 - own)) - 0.5 * np.log(own)
    options = {'teacher_logits': teacher, 'temperature': 1.0, 'gamma': 2.0, 'teacher_prior': 0.5}
    loss_t = losses.cckd_online_t(logits, jnp.array([0]), hard_weight=0.5, **options)
    np.testing.assert_allclose(loss_t[:, 0], expected_t, rtol=1e-5)
    soft = -(trust * np.log(own) + (1 - trust) * np.log(1 - own))
    loss_l = losses.cckd_online_l(logits, jnp.array([0]), **options)
    np.testing.assert_allclose(loss_l[:, 0], trust * soft - (1 - trust) * np.log(own), rtol=1e-5)


@pytest.mark.parametrize('confidence_temperature', [None, 1.0])
def test_one_student_with_a_teacher_is_cckd_exactly(confidence_temperature):
    (logits, teacher, labels) = random_case(0, students=1)
    options = {'confidence_temperature': confidence_temperature}
    (targets, trust) = losses.online_targets(logits, labels, teacher_logits=teacher, gamma=3.0, **options)
    np.testing.assert_array_equal(targets[0], losses.confidence_targets(teacher, labels, **options))
    confidence = losses.confidence(teacher, labels, temperature=confidence_temperature or 20.0)
    np.testing.assert_array_equal(trust[0], confidence)
    for name in ('t', 'l'):
        online = getattr(losses, f'cckd_online_{name}')(logits, labels, teacher_logits=teacher, **options)
        alone = getattr(losses, f'cckd_{name}')(logits[0], teacher, labels, **options)
        np.testing.assert_array_equal(online[0], alone)


def test_two_students_trust_each_other_by_the_confidence_of_the_other():
    (logits, _, labels) = random_case(1, students=2)
    mixtures = losses.online_mixtures(logits, labels)
    np.testing.assert_allclose(mixtures.distributions, softmax(logits[::-1], 20.0), rtol=1e-5)
    confidences = [losses.confidence(values, labels) for values in logits]
    np.testing.assert_allclose(mixtures.trust, confidences[::-1], rtol=1e-5)


def test_equal_weights_and_full_trust_with_the_label_are_dml():
    (logits, _, labels) = random_case(2)

    def by_mixture(values, student):
        logits_then = logits.at[student].set(values)
        mixture = losses.online_mixtures(logits_then, labels, temperature=1.0, gamma=0.0).distributions[student]
        soft = losses.soft_cross_entropy(values, mixture, temperature=1.0)
        return (losses.cross_entropy(values, labels) + soft).sum()

    for student in range(3):
        dml = lambda values, student=student: losses.dml(logits.at[student].set(values), labels)[student].sum()
        expected = jax.grad(by_mixture)(logits[student], student)
        np.testing.assert_allclose(jax.grad(dml)(logits[student]), expected, rtol=1e-4, atol=1e-5)
    pairs = softmax(logits)
    expected = -np.log(pairs[1, np.arange(6), labels])
    expected += 0.5 * sum((pairs[j] * np.log(pairs[j] / pairs[1])).sum(-1) for j in (0, 2))
    np.testing.assert_allclose(losses.dml(logits, labels)[1], expected, rtol=1e-4)


def test_trust_of_a_large_power_that_includes_oneself_is_kdcl_naive():
    (logits, _, labels) = random_case(3)
    options = {'temperature': 2.0, 'confidence_temperature': 1.0, 'gamma': 1e4, 'include_self': True}
    mixtures = losses.online_mixtures(logits, labels, **options)
    naive = losses.kdcl_naive(logits, labels)
    for distribution in mixtures.distributions:
        np.testing.assert_allclose(distribution, softmax(naive, 2.0), rtol=1e-4)


def test_without_a_power_trust_is_the_labels_probability_in_the_ensemble():
    (logits, teacher, labels) = random_case(4)
    options = {'temperature': 4.0, 'gamma': 0.0, 'include_self': True}
    mixtures = losses.online_mixtures(logits, labels, teacher_logits=teacher, **options)
    ensemble = softmax(np.stack([teacher, *logits]), 4.0).mean(0)[np.arange(6), labels]
    for trust in mixtures.trust:
        np.testing.assert_allclose(trust, ensemble, rtol=1e-5)


@pytest.mark.parametrize('options', [{}, {'relative_trust': True}, {'include_self': True}, {'gamma': 1e4}])
def test_where_all_are_certain_and_wrong_the_target_is_the_label(options):
    logits = jnp.tile(jnp.array([0.0, 1e30, 0.0]), (3, 2, 1))
    (targets, trust) = losses.online_targets(
        logits, jnp.array([0, 2]), teacher_logits=logits[0], confidence_temperature=1.0, **options
    )
    np.testing.assert_array_equal(trust, np.zeros((3, 2)))
    np.testing.assert_array_equal(targets, np.tile(np.eye(3)[[0, 2]], (3, 1, 1)))
    weights = losses.online_mixtures(logits, jnp.array([0, 2]), teacher_logits=logits[0], **options).weights
    assert np.isfinite(weights).all()


@jax.jit
def _targets(logits, teacher, labels, temperature):
    return losses.online_targets(logits, labels, teacher_logits=teacher, temperature=temperature)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 100.0))
def test_targets_are_distributions_and_keep_the_label_on_top(seed, temperature):
    (logits, teacher, labels) = random_case(seed, scale=20.0)
    (targets, trust) = map(np.asarray, _targets(logits, teacher, labels, temperature))
    np.testing.assert_allclose(targets.sum(-1), 1.0, rtol=1e-4)
    label = targets[:, np.arange(6), labels]
    np.testing.assert_allclose(label, 1 - trust + trust**2, rtol=1e-3)
    assert (label > 0.75 - 1e-4).all()
    assert (targets.argmax(-1) == np.asarray(labels)).all()


def test_with_relative_trust_the_best_student_learns_the_label_alone():
    (logits, _, labels) = random_case(5)
    options = {'temperature': 20.0, 'confidence_temperature': 1.0}
    mixtures = losses.online_mixtures(logits, labels, relative_trust=True, **options)
    confidence = softmax(logits)[:, np.arange(6), labels]
    ahead = np.maximum(confidence[None] - confidence[:, None], 0)
    weights = ahead / np.maximum(ahead.sum(1, keepdims=True), 1e-8)
    np.testing.assert_allclose(mixtures.weights, weights, rtol=1e-3, atol=1e-5)
    (targets, trust) = losses.online_targets(logits, labels, relative_trust=True, **options)
    (best, rows) = (confidence.argmax(0), np.arange(6))
    np.testing.assert_array_equal(trust[best, rows], 0.0)
    np.testing.assert_array_equal(np.asarray(targets)[best, rows], np.eye(5)[np.asarray(labels)])
    assert ((trust > 0).sum(0) == 2).all()


def test_a_prior_of_zero_leaves_the_teacher_out():
    (logits, teacher, labels) = random_case(6)
    for relative in (False, True):
        left_out = losses.online_targets(
            logits, labels, teacher_logits=teacher, teacher_prior=0.0, relative_trust=relative
        )
        without = losses.online_targets(logits, labels, relative_trust=relative)
        for first, second in zip(left_out, without, strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-6)


def test_without_any_source_the_target_is_the_label():
    (logits, teacher, labels) = random_case(14, students=1)
    for relative in (False, True):

        def total(logits, prior, relative=relative):
            options = {'teacher_logits': teacher, 'teacher_prior': prior, 'relative_trust': relative}
            (targets, trust) = losses.online_targets(logits, labels, **options)
            return losses.cckd_online_t(logits, labels, **options).sum() + targets[0, :, 0].sum(), (targets, trust)

        # A traced prior cannot be refused.
        gradients, (targets, trust) = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(logits, 0.0)
        np.testing.assert_array_equal(trust, np.zeros((1, 6)))
        np.testing.assert_array_equal(targets[0], np.eye(5)[np.asarray(labels)])
        assert all(np.isfinite(gradient).all() for gradient in gradients)


@every_loss
def test_permuted_students_have_permuted_losses(name):
    (logits, _, labels) = random_case(7)
    order = np.array([2, 0, 1])
    (values, permuted) = (LOSSES[name](logits, labels), LOSSES[name](logits[order], labels))
    assert values.shape == (3, 6)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(permuted, values[order], rtol=1e-4, atol=1e-5)


@every_loss
def test_no_gradient_flows_between_students(name):
    (logits, _, labels) = random_case(8)
    for student in range(3):
        gradient = jax.grad(lambda logits, student=student: LOSSES[name](logits, labels)[student].sum())(logits)
        others = [other for other in range(3) if other != student]
        np.testing.assert_array_equal(gradient[jnp.array(others)], np.zeros((2, 6, 5)))
        assert np.abs(gradient[student]).max() > 1e-4


def test_no_gradient_flows_into_the_teacher():
    (logits, teacher, labels) = random_case(9)
    for loss in (losses.cckd_online_t, losses.cckd_online_l):
        into_teacher = jax.grad(lambda teacher, loss=loss: loss(logits, labels, teacher_logits=teacher).sum())
        np.testing.assert_array_equal(into_teacher(teacher), np.zeros((6, 5)))


def test_minlogit_is_at_most_the_best_students_cross_entropy():
    (logits, _, labels) = random_case(10)
    target = losses.kdcl_minlogit(logits, labels)
    np.testing.assert_array_equal(np.asarray(target)[np.arange(6), labels], 0.0)
    best = np.min([losses.cross_entropy(values, labels) for values in logits], axis=0)
    assert (losses.cross_entropy(target, labels) <= best + 1e-6).all()


@pytest.mark.parametrize(('students', 'scale'), [(2, 3.0), (4, 40.0)])
def test_linear_finds_the_best_convex_combination(students, scale):
    (logits, _, labels) = random_case(11, students=students, scale=scale)
    reached = losses.cross_entropy(losses.kdcl_linear(logits, labels), labels)
    for row in range(6):
        values = np.asarray(logits[:, row], np.float64)
        relative = values - values[:, [int(labels[row])]]
        objective = lambda weights, relative=relative: np.logaddexp.reduce(weights @ relative)
        best = optimize.minimize(
            objective,
            np.full(students, 1 / students),
            bounds=[(0, 1)] * students,
            constraints={'type': 'eq', 'fun': lambda weights: weights.sum() - 1},
            options={'ftol': 1e-12},
        )
        assert reached[row] <= best.fun + 1e-3 * max(1.0, scale / 10)


def test_kdcl_by_hand():
    logits = jnp.log(jnp.array([[[3.0, 1.0]], [[1.0, 1.0]]]))
    (labels, target) = (jnp.array([0]), jnp.log(jnp.array([[9.0, 1.0]])))
    loss = losses.kdcl(logits, target, labels, temperature=2.0, soft_weight=0.5, hard_weight=2.0)
    (q, p) = (softmax(target, 2.0), softmax(logits, 2.0))
    expected = -2 * np.log([0.75, 0.5]) + 0.5 * 4 * (q * np.log(q / p)).sum(-1)[:, 0]
    np.testing.assert_allclose(loss[:, 0], expected, rtol=1e-5)


def test_wrong_arguments_are_refused():
    (logits, teacher, labels) = random_case(12, students=1)
    with pytest.raises(InputError, match='students teach each other, so there must be at least 2 of them, not 1'):
        losses.online_targets(logits, labels)
    with pytest.raises(InputError, match=r'teacher_prior=0.0 leaves the only student without a source; set it above'):
        losses.online_targets(logits, labels, teacher_logits=teacher, teacher_prior=0.0)
    with pytest.raises(InputError, match='at least 2 of them'):
        losses.dml(logits, labels)
    with pytest.raises(InputError, match=r'gamma=-1.0 must be in \[0, 10000\]'):
        losses.online_targets(logits, labels, teacher_logits=teacher, gamma=-1.0)
    with pytest.raises(AssertionError):
        losses.online_targets(logits[0], labels)
    with pytest.raises(AssertionError):
        losses.online_targets(logits, labels, teacher_logits=teacher[:, :4])

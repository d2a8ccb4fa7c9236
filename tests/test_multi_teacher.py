"""Losses of several teachers, by hand and against plainer maths in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import softmax
from hypothesis import given, settings, strategies as st
from scipy import optimize

from cckd_jax import losses
from cckd_jax.losses.aekd import smallest_mixture

# Classes 0 and 1 by 50: right where the label is 0.
GOOD, BAD = [50.0, 0.0], [0.0, 50.0]


def mean(values):
    return values.mean(0)


LOSSES = {
    'aver': lambda student, teachers, labels: losses.aver(student, teachers),
    'ebkd': lambda student, teachers, labels: losses.ebkd(student, teachers),
    'aekd': lambda student, teachers, labels: losses.aekd(student, teachers, mean=mean),
    'official': losses.ca_mkd_logits,
    'paper': lambda *case: losses.ca_mkd_logits(*case, reduction='paper'),
}
every_loss = pytest.mark.parametrize('name', LOSSES)


def random_case(seed, teachers=3, batch=6, classes=5, scale=4.0):
    random = np.random.default_rng(seed)
    (student, *of_teachers) = random.normal(scale=scale, size=(1 + teachers, batch, classes)).astype(np.float32)
    return jnp.asarray(student), jnp.asarray(of_teachers), jnp.asarray(random.integers(0, classes, batch))


def divergences(student, teachers, temperature=4.0):
    (p, q) = (softmax(teachers, temperature), softmax(student, temperature))
    return temperature**2 * (p * np.log(p / q)).sum(-1)


def cross_entropies(logits, labels):
    return -np.log(softmax(logits)[:, np.arange(len(labels)), np.asarray(labels)])


def ca_mkd_weights(logits, labels):
    return (1 - softmax(cross_entropies(logits, labels).T).T) / (len(logits) - 1)


@pytest.mark.parametrize(
    ('teachers', 'expected'),
    [
        ([GOOD, BAD, BAD], [1 / 2, 1 / 4, 1 / 4]),
        ([BAD, GOOD, GOOD], [0, 1 / 2, 1 / 2]),
        ([GOOD, GOOD, GOOD], [1 / 3, 1 / 3, 1 / 3]),
        ([GOOD, BAD], [1, 0]),
        ([[np.log(3.0), 0.0], [0.0, np.log(3.0)]], [3 / 4, 1 / 4]),  # the errors differ by log 3
    ],
)
def test_who_is_right_is_trusted(teachers, expected):
    logits = jnp.array(teachers)[:, None]
    np.testing.assert_allclose(losses.ca_mkd_weights(logits, jnp.array([0]))[:, 0], expected, atol=1e-6)
    # What holds of the teachers' own logits holds of the student's, read by their classifiers.
    found = losses.ca_mkd_feature_weights(logits, jnp.array([0]))[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ('teachers', 'expected'),
    [
        ([BAD, [0.0, 0.0], [0.0, 0.0]], [1, 1 / 2, 1 / 2]),  # sure, though wrong
        ([GOOD, BAD, GOOD], [2 / 3, 2 / 3, 2 / 3]),
        ([[1e4, 0.0], [1e4, 0.0], [0.0, 1e4]], [2 / 3, 2 / 3, 2 / 3]),  # without any entropy
    ],
)
def test_who_is_sure_is_trusted_by_entropy(teachers, expected):
    np.testing.assert_allclose(losses.ebkd_weights(jnp.array(teachers)[:, None])[:, 0], expected, atol=1e-6)


def test_values_in_double_precision():
    (student, teachers, labels) = random_case(0)
    apart = divergences(student, teachers)
    entropy = -(softmax(teachers) * np.log(softmax(teachers))).sum(-1)
    right = ca_mkd_weights(teachers, labels)
    expected = {
        'aver': apart.mean(0),
        'ebkd': ((1 - entropy / entropy.sum(0)) * apart).sum(0) / 3,
        'official': (right * apart).sum(0) / 3,
        'paper': -(right * (softmax(teachers, 4.0) * np.log(softmax(student, 4.0))).sum(-1)).sum(0),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(LOSSES[name](student, teachers, labels), value, rtol=1e-4, err_msg=name)


def test_equal_teachers_make_one_of_them_all():
    (student, teachers, labels) = random_case(1)
    equal = jnp.tile(teachers[:1], (3, 1, 1))
    alone = divergences(student, teachers[:1])[0]
    np.testing.assert_allclose(losses.aver(student, equal), alone, rtol=1e-4)
    np.testing.assert_allclose(losses.aekd(student, equal, mean=mean), alone, rtol=1e-4)
    # The factors that the docstrings give.
    np.testing.assert_allclose(3 * losses.ca_mkd_logits(student, equal, labels), alone, rtol=1e-4)
    np.testing.assert_allclose(3 / 2 * losses.ebkd(student, equal), alone, rtol=1e-4)
    gradient = lambda loss: jax.grad(lambda z: loss(z).sum())(student)
    np.testing.assert_allclose(
        16 * gradient(lambda z: losses.ca_mkd_logits(z, equal, labels, reduction='paper')),
        gradient(lambda z: losses.aver(z, equal)),
        atol=1e-5,
    )


def test_the_two_reductions_differ_by_a_factor_of_their_gradients():
    (student, teachers, labels) = random_case(2)
    gradient = lambda name: jax.grad(lambda z: LOSSES[name](z, teachers, labels).sum())(student)
    np.testing.assert_allclose(gradient('official'), gradient('paper') * 16 / 3, atol=1e-5)


@every_loss
def test_one_value_an_example_jit_agrees_and_no_gradient_reaches_the_teachers(name):
    case = random_case(3)
    values = LOSSES[name](*case)
    assert values.shape == (6,)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(LOSSES[name])(*case), values, rtol=1e-5)
    (student, teachers, labels) = case
    gradient = jax.grad(lambda z: LOSSES[name](student, z, labels).sum())(teachers)
    np.testing.assert_array_equal(gradient, np.zeros_like(teachers))


@every_loss
def test_the_order_of_teachers_and_of_examples_does_not_matter(name):
    (student, teachers, labels) = random_case(4)
    values = LOSSES[name](student, teachers, labels)
    np.testing.assert_allclose(LOSSES[name](student, teachers[::-1], labels), values, rtol=1e-3)
    order = np.array([4, 0, 5, 2, 1, 3])
    moved = LOSSES[name](student[order], teachers[:, order], labels[order])
    np.testing.assert_allclose(moved, values[order], rtol=1e-3)


@every_loss
def test_finite_for_extreme_logits(name):
    (_, _, labels) = random_case(5)
    extreme = jnp.tile(jnp.where(jnp.arange(5) == 2, 1e4, -1e4), (6, 1))
    teachers = jnp.stack([-extreme, extreme, -extreme])
    (value, gradient) = jax.value_and_grad(lambda z: LOSSES[name](z, teachers, labels).sum())(extreme)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_aekd_weighs_the_gradients_that_its_losses_have():
    (student, teachers, _) = random_case(6, teachers=4, batch=9)
    gradient = jax.grad(lambda z, one: losses.aver(z, one[None]).sum())
    gradients = np.asarray(jax.jit(jax.vmap(gradient, (None, 0)))(student, teachers)).mean(1)
    expected = best_mixture(gradients, 0.6)
    found = losses.aekd_weights(student, teachers, mean=mean)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(
        losses.aekd(student, teachers, mean=mean), expected @ divergences(student, teachers), rtol=5e-3
    )


def best_mixture(vectors, most):
    """By a general solver, in double precision."""
    gram = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    gram /= gram.max()
    found = optimize.minimize(
        lambda a: a @ gram @ a,
        np.full(len(gram), 1 / len(gram)),
        jac=lambda a: 2 * gram @ a,
        bounds=[(0, most)] * len(gram),
        constraints={'type': 'eq', 'fun': lambda a: a.sum() - 1, 'jac': np.ones_like},
        method='SLSQP',
        options={'ftol': 1e-15, 'maxiter': 1000},
    )
    return found.x


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 5]), st.sampled_from([0.6, 1.0]))
def test_the_smallest_mixture_is_that_of_a_general_solver(seed, count, most):
    random = np.random.default_rng(seed)
    vectors = (random.normal() + random.normal(size=(count, 10)) * 10 ** random.uniform(-1, 0.5, (count, 1))).astype(
        np.float32
    )
    vectors *= 10.0 ** random.integers(-12, 12)
    weights = np.asarray(_mixture(vectors, most), np.float64)
    np.testing.assert_allclose(weights.sum(), 1, atol=1e-5)
    assert weights.min() >= -1e-6
    assert weights.max() <= most + 1e-6
    length = lambda a: np.sum(np.square(a / a.sum() @ vectors.astype(np.float64)))
    longest = np.square(vectors.astype(np.float64)).sum(-1).max()
    assert length(weights) - length(best_mixture(vectors, most)) <= 2e-6 * longest


_mixture = jax.jit(lambda vectors, most: smallest_mixture(vectors, largest_weight=most), static_argnums=1)


def test_the_smallest_mixture_by_hand():
    np.testing.assert_allclose(_mixture(np.zeros((4, 3), np.float32), 0.6), np.full(4, 0.25))
    # Zero is a mixture of these; the first alone is shorter than what the bound allows.
    np.testing.assert_allclose(_mixture(np.float32([[1, 0], [-3, 0]]), 1.0), [0.75, 0.25], atol=1e-6)
    np.testing.assert_allclose(_mixture(np.float32([[1, 0], [3, 0]]), 1.0), [1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(_mixture(np.float32([[1, 0], [3, 0]]), 0.6), [0.6, 0.4], atol=1e-6)
    equals = _mixture(np.float32([[1, 0], [0, 1], [0, 1]]), 1.0)
    np.testing.assert_allclose(equals, [0.5, 0.25, 0.25], atol=1e-6)


def maps(seed, batch=4):
    """Of two teachers of unlike shapes: the student's, aligned, and theirs."""
    random = np.random.default_rng(seed)
    draw = lambda: [jnp.asarray(random.normal(size=(batch, *shape)), jnp.float32) for shape in ((3, 3, 2), (1, 2, 5))]
    return draw(), draw()


def test_feature_losses_in_double_precision():
    (aligned, teachers) = maps(0)
    random = np.random.default_rng(1)
    logits, labels = jnp.asarray(random.normal(size=(2, 4, 3)), jnp.float32), jnp.array([0, 2, 1, 1])
    weights = ca_mkd_weights(logits, labels)
    apart = [np.square(np.float64(a) - b).reshape(4, -1) for a, b in zip(aligned, teachers, strict=True)]
    (sums, means) = (np.stack([over(each, axis=1) for each in apart]) for over in (np.sum, np.mean))
    run = lambda **how: losses.ca_mkd_features(aligned, teachers, logits, labels, **how)
    np.testing.assert_allclose(run(), (weights * means).sum(0) / 2, rtol=1e-5)
    np.testing.assert_allclose(run(reduction='paper'), (weights * sums).sum(0), rtol=1e-5)
    np.testing.assert_allclose(losses.fitnet_hints(aligned, teachers), means.mean(0), rtol=1e-5)


def test_the_gradient_of_features_reaches_the_student_and_the_weights_where_it_may():
    (aligned, teachers) = maps(2)
    logits, labels = jnp.zeros((2, 4, 3)), jnp.array([0, 2, 1, 1])

    for switch in (True, False):
        loss = lambda *case, switch=switch: losses.ca_mkd_features(*case, labels, weights_gradient=switch).sum()
        (student, teacher, weights) = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(aligned, teachers, logits)
        assert all(np.abs(each).max() > 0 for each in student)
        assert all(np.abs(each).max() == 0 for each in teacher)
        assert (np.abs(weights).max() > 0) == switch
    loss = lambda *case: losses.fitnet_hints(*case).sum()
    (student, teacher) = jax.jit(jax.grad(loss, argnums=(0, 1)))(aligned, teachers)
    assert all(np.abs(each).max() > 0 for each in student)
    assert all(np.abs(each).max() == 0 for each in teacher)


@pytest.mark.parametrize('loss', ['ebkd', 'official', 'paper'])
def test_one_teacher_alone_is_refused(loss):
    with pytest.raises(ValueError, match='weighting teachers needs at least 2 of them, not 1'):
        LOSSES[loss](*random_case(7, teachers=1))


def test_what_cannot_be_is_refused():
    (student, teachers, labels) = random_case(8)
    with pytest.raises(ValueError, match=r'largest_weight=0\.6 must be at least 1 for 1 teachers'):
        losses.aekd(student, teachers[:1], mean=mean)
    with pytest.raises(ValueError, match='reduction=mean must be official or paper'):
        losses.ca_mkd_logits(student, teachers, labels, reduction='mean')
    for loss in LOSSES.values():
        with pytest.raises(AssertionError):
            loss(student, teachers[:, :5], labels)
        with pytest.raises(AssertionError):
            loss(student, teachers[0], labels)
    with pytest.raises(ValueError, match=r'temperature=0\.0 must be in'):
        losses.aver(student, teachers, temperature=0.0)
    (aligned, of_teachers) = maps(0)
    with pytest.raises(AssertionError):
        losses.fitnet_hints(aligned, of_teachers[::-1])

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Blocks, Flat, forward, points_in_ball, random_network, softmax
from hypothesis import given, settings, strategies as st

from cckd_jax import evaluation, models
from cckd_jax.errors import InputError
from cckd_jax.robustness.bounds.operations import Box
from cckd_jax.robustness.gaps.certified import max_difference

METHODS = ('ibp', 'crown_ibp', 'crown')
SHAPE = (10, 10, 1)
TEACHER, STUDENT = Blocks(num_classes=4), Flat(num_classes=4)


def pair(seed, scale=2.0, batch=3):
    random = np.random.default_rng(seed)
    images = np.clip(random.uniform(-0.2, 1.2, (batch, *SHAPE)), 0, 1).astype(np.float32)
    networks = [random_network(module, SHAPE, seed, scale) for module in (TEACHER, STUDENT)]
    return *networks, jnp.asarray(images), jnp.asarray(random.integers(0, 4, batch))


def signed(teacher, student, images, labels):
    rows = np.arange(len(labels))
    return softmax(forward(student, images))[rows, labels] - softmax(forward(teacher, images))[rows, labels]


@jax.jit
def attacked(teacher, student, images, labels, epsilon, step_size, steps, restarts):
    networks = (models.Network(TEACHER, teacher), models.Network(STUDENT, student))
    return evaluation.signed_attack_gaps(
        *networks,
        images,
        labels,
        epsilon,
        key=jax.random.key(1),
        steps=steps,
        step_size=step_size,
        restarts=restarts,
    )


def attack(teacher, student, images, labels, epsilon, *, step_size=0.05, steps=8, restarts=2):
    return attacked(
        teacher.variables, student.variables, images, labels, epsilon, step_size, jnp.int32(steps), jnp.int32(restarts)
    )


@pytest.mark.parametrize('method', METHODS)
def test_what_is_seen_and_attacked_never_exceeds_what_is_certified(method):
    for seed, epsilon in enumerate((0.0, 0.01, 0.1, 1.0)):
        teacher, student, images, labels = pair(seed)
        over, under = evaluation.signed_gap_bounds(teacher, student, images, labels, epsilon, method=method)
        upper = evaluation.confidence_gap_bounds(teacher, student, images, labels, epsilon, method=method)
        low_over, low_under = attack(teacher, student, images, labels, epsilon)
        assert (low_over <= over + 1e-5).all()
        assert (low_under <= under + 1e-5).all()
        assert (jnp.maximum(low_over, low_under) <= upper + 1e-5).all()
        assert (upper <= 1).all()
        np.testing.assert_array_equal(upper, jnp.maximum(over, under))
        clean = signed(teacher, student, images, labels)
        assert (low_over >= clean - 1e-5).all()
        assert (low_under >= -clean - 1e-5).all()
        for points in points_in_ball(images, epsilon, 10, seed):
            gap = signed(teacher, student, points, labels)
            assert (gap <= over + 1e-5).all()
            assert (-gap <= under + 1e-5).all()
        if epsilon == 0:
            for result in (over, -under, low_over, -low_under):
                np.testing.assert_allclose(result, clean, atol=1e-5)


def test_the_pair_as_one_network_is_tighter_and_never_looser():
    gained = []
    for seed in range(3):
        _, student, images, labels = pair(seed)
        close = jax.tree.map(lambda leaf: leaf * 1.1, student.variables)
        for teacher in (models.Network(STUDENT, close), random_network(STUDENT, SHAPE, seed + 9)):
            for method in METHODS:
                over, under = evaluation.signed_gap_bounds(teacher, student, images, labels, 0.02, method=method)
                (of_teacher, of_student) = (
                    evaluation.confidence_bounds(network, images, labels, 0.02, method=method)
                    for network in (teacher, student)
                )
                assert (over <= of_student[1] - of_teacher[0] + 1e-5).all()
                assert (under <= of_teacher[1] - of_student[0] + 1e-5).all()
                gained.append(float(jnp.max(of_student[1] - of_teacher[0] - over)))
    assert max(gained) > 0.01
    # Two linear networks of one weight differ nowhere, however much each of them moves.
    linear = random_network(Flat(num_classes=4, width=0.0), SHAPE, 0, 3.0)
    (low, high) = evaluation.confidence_bounds(linear, images, labels, 0.1, method='crown')
    assert (high - low > 0.1).any()
    same = evaluation.confidence_gap_bounds(linear, linear, images, labels, 0.1)
    np.testing.assert_allclose(same, 0, atol=1e-5)


@given(
    ends=st.tuples(*[st.floats(-8, 8)] * 4),
    excess=st.floats(-10, 10),
)
@settings(max_examples=60, deadline=None)
def test_the_largest_difference_of_confidences_against_a_grid(ends, excess):
    first, second = sorted(ends[:2]), sorted(ends[2:])
    a, b = np.meshgrid(np.linspace(*first, 81), np.linspace(*second, 81))
    allowed = a - b <= excess
    result = max_difference(*(Box(*map(jnp.float32, each)) for each in (first, second)), jnp.float32(excess))
    values = np.where(allowed, 1 / (1 + np.exp(-a)) - 1 / (1 + np.exp(-b)), -np.inf)
    assert result >= values.max() - 1e-6
    if allowed.any():
        steps = (first[1] - first[0] + second[1] - second[0]) / 80
        assert result <= values.max() + 0.25 * steps + 1e-5


@pytest.mark.parametrize('method', ['ibp', 'crown_ibp'])
def test_the_gap_of_log_odds_bounds_that_of_confidences_and_what_is_seen(method):
    odds = lambda network, points, labels: np.log(
        1 / (1 / softmax(forward(network, points))[np.arange(len(labels)), labels] - 1)
    )
    for seed, epsilon in enumerate((0.0, 0.01, 0.2)):
        _, student, images, labels = pair(seed)
        teacher = random_network(STUDENT, SHAPE, seed + 9)
        bound = evaluation.log_odds_gap_bounds(teacher, student, images, labels, epsilon, method=method)
        gap = evaluation.confidence_gap_bounds(teacher, student, images, labels, epsilon, method=method)
        assert (gap <= bound / 4 + 1e-5).all()
        for points in points_in_ball(images, epsilon, 10, seed):
            seen = np.abs(odds(teacher, points, labels) - odds(student, points, labels))
            assert (seen <= bound + 1e-4).all()
        if epsilon == 0:
            np.testing.assert_allclose(seen, bound, atol=1e-4)


def test_the_gap_of_log_odds_teaches_where_that_of_confidences_is_flat():
    _, student, images, labels = pair(0, scale=500.0)
    teacher = random_network(STUDENT, SHAPE, 1)

    def largest(measure):
        total = lambda variables: jnp.sum(
            measure(teacher, models.Network(STUDENT, variables), images, labels, 0.3, method='ibp')
        )
        return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(jax.grad(total)(student.variables)))

    assert largest(evaluation.confidence_gap_bounds) == 0
    assert 1 < largest(evaluation.log_odds_gap_bounds) < np.inf


def test_a_student_that_is_sure_to_the_last_digit_does_not_hide_its_gap():
    # Logits in the thousands: confidences are 0 or 1, and flat, at almost every point.
    (_, student, images, _) = pair(3, scale=1.0, batch=8)
    sharp = lambda points: 2000.0 * student(points)
    labels = jnp.argmax(student(images), -1)
    gradient = jax.grad(lambda points: jax.nn.softmax(sharp(points))[jnp.arange(8), labels].sum())(images)
    assert np.mean(np.abs(gradient).max((1, 2, 3)) == 0) > 0.5
    moved = evaluation.pgd(student, images, labels, epsilon=0.1, steps=10, loss='margin')
    fooled = np.asarray(student(moved)).argmax(-1) != labels
    assert fooled.any()
    constant = lambda points: 8.0 * jax.nn.one_hot(labels, 4) + 0 * student(points)
    gap = evaluation.attack_gap(constant, sharp, images, labels, 0.1, steps=10)
    assert (gap[fooled] > 0.4).all()


def test_gradients_of_the_gap_are_finite_for_differences_in_the_hundreds():
    _, student, images, labels = pair(0, scale=500.0)
    teacher = random_network(STUDENT, SHAPE, 1, 500.0)

    def total(variables):
        return jnp.sum(
            evaluation.confidence_gap_bounds(
                teacher, models.Network(STUDENT, variables), images, labels, 0.05, method='crown_ibp'
            )
        )

    for each in jax.tree.leaves(jax.grad(total)(student.variables)):
        assert jnp.isfinite(each).all()


def test_more_steps_and_more_restarts_find_no_smaller_gap():
    case = pair(4, batch=8)
    # A step too long to settle, so that the last iterate is often not the best.
    by_steps = [attack(*case, 0.1, step_size=0.15, steps=steps, restarts=1) for steps in (1, 2, 4, 9)]
    by_restarts = [attack(*case, 0.1, step_size=0.15, steps=2, restarts=restarts) for restarts in (1, 2, 6)]
    for result in (by_steps, by_restarts):
        for fewer, more in itertools.pairwise(result):
            assert (more.over >= fewer.over).all()
            assert (more.under >= fewer.under).all()
        assert (result[-1].over > result[0].over + 1e-4).any()


def test_the_image_itself_is_a_start():
    # From here the gap rises towards both ends of the ball; the image's own side is the better one.
    bump = lambda x: jnp.stack([jnp.sum(x * x, (1, 2, 3)), jnp.zeros(len(x))], -1)
    constant = lambda x: jnp.zeros((len(x), 2))
    images = jnp.full((1, 1, 1, 1), 0.5)
    gap = evaluation.attack_gap(bump, constant, images, jnp.array([0]), 0.25, steps=5)
    np.testing.assert_allclose(gap, 1 / (1 + np.exp(-(0.75**2))) - 0.5, rtol=1e-5)
    with_key = evaluation.attack_gap(bump, constant, images, jnp.array([0]), 0.25, steps=5, key=jax.random.key(0))
    assert with_key >= gap


def test_agreement_attacked_and_certified():
    certified, surviving = {}, {}
    attack = jax.jit(
        lambda teacher, student, images, epsilon: evaluation.attack_agreement(
            models.Network(TEACHER, teacher), models.Network(STUDENT, student), images, epsilon, steps=5
        )
    )
    for seed in range(4):
        teacher, student, images, _ = pair(seed, scale=4.0, batch=6)
        choose = lambda network, points: jnp.argmax(forward(network, points), -1)
        before = choose(teacher, images) == choose(student, images)
        for epsilon in (0.0, 0.003, 0.3):
            left = attack(teacher.variables, student.variables, images, epsilon)
            assert (left <= before).all()
            sure = evaluation.certified_agreement(teacher, student, images, epsilon, method='crown_ibp')
            assert (sure <= left).all()
            if epsilon == 0:
                np.testing.assert_array_equal(sure, before)
            for points in points_in_ball(images, epsilon, 5, seed):
                assert (sure <= (choose(teacher, points) == choose(student, points))).all()
            certified[seed, epsilon] = float(sure.mean())
            surviving[seed, epsilon] = float(left.mean())
    assert max(certified[seed, 0.003] for seed in range(4)) > 0
    assert min(surviving[seed, 0.3] - surviving[seed, 0.0] for seed in range(4)) < 0


def test_the_faithful_fraction_is_a_curve():
    gaps = np.array([0.0, 0.2, 0.2, 0.7])
    kappas = np.array([-0.1, 0.0, 0.2, 0.5, 1.0])
    np.testing.assert_array_equal(evaluation.faithful_fraction(gaps, kappas), [0, 0.25, 0.75, 0.75, 1])
    assert np.isnan(evaluation.faithful_fraction(np.zeros(0), kappas)).all()
    with pytest.raises(ValueError, match=r'gaps must be \[N\] and kappas \[K\]'):
        evaluation.faithful_fraction(gaps[None], kappas)


def test_pairs_that_cannot_be_compared_are_refused():
    teacher, student, images, labels = pair(0)
    narrow = random_network(STUDENT, (9, 10, 1))
    fewer = random_network(Flat(num_classes=3), SHAPE)
    for measure in (evaluation.confidence_gap_bounds, evaluation.attack_gap):
        with pytest.raises(InputError, match='the student cannot take images of 10x10x1: '):
            measure(teacher, narrow, images, labels, 0.1)
        with pytest.raises(InputError, match='the teacher has 4 classes and the student 3'):
            measure(teacher, fewer, images, labels, 0.1)
        for epsilon in (-0.1, 1.1):
            with pytest.raises(InputError, match=rf'epsilon must be in \[0, 1\], not {epsilon}'):
                measure(teacher, student, images, labels, epsilon)
        with pytest.raises(InputError, match=r'images must be in \[0, 1\]'):
            measure(teacher, student, images + 1, labels, 0.1)
    for options, message in (({'steps': 0}, 'steps must be'), ({'step_size': 0.0}, 'step_size must be above 0')):
        with pytest.raises(ValueError, match=message):
            evaluation.attack_gap(teacher, student, images, labels, 0.1, **options)
    with pytest.raises(InputError, match='images of 10x10x1'):
        evaluation.attack_agreement(teacher, narrow, images, 0.1)
    with pytest.raises(InputError, match='images of 10x10x1'):
        evaluation.certified_agreement(teacher, narrow, images, 0.1)

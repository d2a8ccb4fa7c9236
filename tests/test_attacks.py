import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Flat, Tiny, random_case, random_network, softmax
from hypothesis import given, settings, strategies as st

from cckd_jax import evaluation, models, robustness
from cckd_jax.errors import InputError
from cckd_jax.losses import cross_entropy
from cckd_jax.robustness import objectives
from cckd_jax.robustness.attacks.square import _schedule

with warnings.catch_warnings():
    warnings.simplefilter('ignore', DeprecationWarning)  # foolbox imports from a place that SciPy has left
    import foolbox

SHAPE = (4, 4, 1)
TINY = random_network(Tiny(), (8, 8, 3))
FLAT = random_network(Flat(num_classes=4), SHAPE, scale=3.0)
MASKED = random_network(Flat(num_classes=4), SHAPE, scale=1e6)
PGD = jax.jit(functools.partial(evaluation.pgd, FLAT), static_argnames=('norm', 'loss'))


def batch(count, shape=SHAPE, seed=0):
    """Images with some pixels at the ends of the range, and labels."""
    random = np.random.default_rng(seed)
    images = np.clip(random.uniform(-0.2, 1.2, (count, *shape)), 0, 1).astype(np.float32)
    return jnp.asarray(images), jnp.asarray(random.integers(0, 4, count))


def sure(images, network=FLAT):
    return jnp.argmax(network(images), -1)


def distance(moved, images, norm):
    offsets = np.asarray(moved - images, np.float64).reshape(len(images), -1)
    return np.abs(offsets).max(-1) if norm == 'linf' else np.sqrt(np.square(offsets).sum(-1))


@pytest.mark.parametrize('norm', ['linf', 'l2'])
@pytest.mark.parametrize('start', [False, True])
@given(epsilon=st.floats(0.0, 1.0), step_size=st.floats(0.01, 2.0), seed=st.integers(0, 100))
@settings(max_examples=4, deadline=None)
def test_pgd_stays_in_the_ball_and_among_pixels(norm, start, epsilon, step_size, seed):
    images, labels = batch(6, seed=seed)
    key = jax.random.key(seed) if start else None
    moved = PGD(images, labels, epsilon=epsilon, key=key, norm=norm, steps=3, step_size=step_size, restarts=2)
    assert distance(moved, images, norm).max() <= epsilon + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert (cross_entropy(FLAT(moved), labels) >= cross_entropy(FLAT(images), labels)).all()


def test_pgd_by_hand():
    # Two classes of a linear network: the gradient keeps its direction w = W_1 - W_0, so the best point is known.
    weights = jnp.array([[1.0, -1.0], [-2.0, 0.5], [0.5, 3.0]])
    direction = np.array([-2.0, 2.5, 2.5])
    logits = lambda x: x.reshape(-1, 3) @ weights
    images = jnp.array([0.5, 0.01, 0.98]).reshape(1, 1, 3, 1)
    flat = np.array([0.5, 0.01, 0.98])
    attack = lambda **options: evaluation.pgd(logits, images, jnp.array([0]), epsilon=0.1, **options).ravel()
    np.testing.assert_allclose(attack(steps=7), np.clip(flat + 0.1 * np.sign(direction), 0, 1), rtol=1e-6)
    once = np.clip(flat + 0.1 * direction / np.linalg.norm(direction), 0, 1)
    np.testing.assert_allclose(attack(steps=1, step_size=0.1, norm='l2'), once, rtol=1e-6)
    # From there l2 goes on along the face of the cube, which the cut alone would not find.
    assert logits(attack(steps=30, norm='l2'))[0, 1] > logits(once)[0, 1]


@pytest.mark.parametrize('norm', ['linf', 'l2'])
@pytest.mark.parametrize('loss', ['cross_entropy', 'margin'])
def test_more_steps_and_more_restarts_are_never_weaker(norm, loss):
    images, _ = batch(16)
    labels = sure(images)
    epsilon = {'linf': 0.2, 'l2': 0.6}[norm]
    value = {'cross_entropy': cross_entropy, 'margin': evaluation.margin_loss}[loss]
    # A step too long to settle, so that the last iterate is often not the best.
    options = {'epsilon': epsilon, 'step_size': epsilon, 'norm': norm, 'loss': loss, 'key': jax.random.key(2)}

    def strength(steps, restarts):
        return value(FLAT(PGD(images, labels, steps=steps, restarts=restarts, **options)), labels)

    by_steps = jnp.stack([strength(steps, 1) for steps in (1, 2, 3, 6)])
    by_restarts = jnp.stack([strength(2, restarts) for restarts in (1, 2, 5)])
    for result in (by_steps, by_restarts):
        assert (result[1:] >= result[:-1] - 1e-5).all()
        assert (result[-1] > result[0] + 1e-3).any()


def test_attacks_depend_on_the_example_and_not_on_batches_or_devices():
    images, labels = (np.asarray(each) for each in batch(11))
    key, index = jax.random.key(7), np.arange(11)

    def attack(variables, images, labels, index):
        network = models.Network(FLAT.module, variables)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
        options = {'epsilon': 0.1, 'key': keys}
        return {
            'fgsm': evaluation.fgsm(network, images, labels, **options),
            'pgd': evaluation.pgd(network, images, labels, **options, steps=2, restarts=2),
            'square': evaluation.square(network, images, labels, **options, queries=4),
        }

    result = [
        evaluation.map_dataset(attack, arrays=3, devices=jax.devices()[:devices], batch_size=size)(
            FLAT.variables, images, labels, index
        )
        for devices, size in ((1, 11), (4, 8))
    ]
    for name in result[0]:
        np.testing.assert_allclose(result[0][name], result[1][name], atol=1e-6, err_msg=name)
    one_key = evaluation.fgsm(FLAT, jnp.asarray(images), jnp.asarray(labels), epsilon=0.1, key=key)
    np.testing.assert_allclose(one_key, result[0]['fgsm'], atol=1e-6)
    again = evaluation.fgsm(
        FLAT,
        jnp.asarray(images[::-1]),
        jnp.asarray(labels[::-1]),
        epsilon=0.1,
        key=jax.vmap(jax.random.fold_in, (None, 0))(key, index[::-1]),
    )
    np.testing.assert_allclose(again[::-1], one_key, atol=1e-6)


def float64_gradient(network, images, labels):
    """The gradient of the cross entropy of a `Flat` network in float64, free of the difference p - 1."""
    parameters = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), network.variables['params'])
    (hidden, output) = (parameters[name] for name in ('hidden', 'output'))
    before = np.asarray(images, np.float64).reshape(len(images), -1) @ hidden['kernel'] + hidden['bias']
    logits = np.maximum(before, 0) @ output['kernel'] + output['bias']
    (rows, labels) = (np.arange(len(images)), np.asarray(labels))
    error = softmax(logits)
    error[rows, labels] = 0
    error[rows, labels] = -error.sum(-1)
    return (error @ output['kernel'].T * (before > 0)) @ hidden['kernel'].T, logits


def test_the_sign_of_the_gradient_is_that_of_float64_where_the_network_is_confident():
    confident = random_network(Flat(num_classes=4), SHAPE, scale=40.0)
    images, _ = batch(400, seed=1)
    images = jnp.clip(images, 0.05, 0.95)
    labels = sure(images, confident)
    exact, logits = float64_gradient(confident, images, labels)
    assert np.median(1 - softmax(logits).max(-1)) < 1e-6
    agreement = {}
    for loss in ('cross_entropy', 'softmax_cross_entropy', 'margin'):
        moved = evaluation.fgsm(confident, images, labels, epsilon=0.01, loss=loss)
        agreement[loss] = (np.sign(moved - images).reshape(exact.shape) == np.sign(exact)).mean()
    assert agreement['cross_entropy'] > 0.999
    assert agreement['softmax_cross_entropy'] < 0.95
    # One step of PGD follows the same gradient.
    once = evaluation.pgd(confident, images, labels, epsilon=0.01, steps=1, step_size=0.01)
    moved = evaluation.fgsm(confident, images, labels, epsilon=0.01)
    same = (once == moved).all((1, 2, 3)) | (once == images).all((1, 2, 3))
    assert same.all()
    assert (once != images).any((1, 2, 3)).mean() > 0.9


def test_the_exact_cross_entropy_is_the_cross_entropy():
    logits, _, labels = random_case(3, batch=50)
    result = evaluation.exact_cross_entropy(logits, labels)
    np.testing.assert_allclose(result, cross_entropy(logits, labels), rtol=1e-5, atol=1e-6)
    gradient = lambda loss: jax.grad(lambda z: loss(z, labels).sum())(logits)
    np.testing.assert_allclose(gradient(evaluation.exact_cross_entropy), gradient(cross_entropy), atol=1e-6)
    assert evaluation.exact_cross_entropy(logits.astype(jnp.bfloat16), labels).dtype == jnp.float32


def test_the_gap_search_follows_the_exact_gradient_of_the_probability():
    logits = jnp.array([[18.0, 0.0, -1.0], [0.3, -0.2, 0.1]])
    labels = jnp.array([0, 1])
    result = jax.grad(lambda z: objectives.exact_label_probability(z, labels).sum())(logits)
    p = softmax(logits)
    expected = -p[np.arange(2), labels][:, None] * p
    expected[np.arange(2), labels] = -np.where(np.eye(3, dtype=bool)[labels], 0, expected).sum(-1)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    np.testing.assert_allclose(objectives.exact_label_probability(logits, labels), p[np.arange(2), labels], rtol=1e-6)


@pytest.mark.parametrize('dtype', [jnp.int8, jnp.uint8])
def test_labels_of_eight_bits_name_one_of_many_classes(dtype):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 300)), jnp.float32)
    (narrow, wide) = (jnp.array([5, 100], kind) for kind in (dtype, jnp.int32))
    for measure in (evaluation.margin_loss, evaluation.exact_cross_entropy, evaluation.brier_score):
        np.testing.assert_array_equal(measure(logits, narrow), measure(logits, wide))


def test_masked_gradients_are_seen_through():
    images, _ = batch(24, seed=3)
    labels = sure(images, MASKED)
    kept = lambda points: (sure(points, MASKED) == labels).mean()
    attack = functools.partial(evaluation.pgd, MASKED, images, labels, epsilon=0.3, steps=10)
    assert kept(attack()) > 0.8
    assert kept(attack(temperature=1e6)) < 0.5
    assert kept(attack(loss='margin')) < 0.3
    assert kept(evaluation.square(MASKED, images, labels, epsilon=0.3, key=jax.random.key(0), queries=100)) < 0.5


@given(epsilon=st.floats(0.0, 1.0), seed=st.integers(0, 100))
@settings(max_examples=4, deadline=None)
def test_square_asks_for_logits_alone_and_stays_in_the_ball(epsilon, seed):
    images, labels = batch(5, (6, 9, 2), seed)
    logits = lambda x: jnp.round(8 * jnp.stack([jnp.sin(x).sum((1, 2, 3)), jnp.cos(x).sum((1, 2, 3))], -1))
    labels = labels % 2
    moved = evaluation.square(logits, images, labels, epsilon=epsilon, key=jax.random.key(seed), queries=20)
    assert distance(moved, images, 'linf').max() <= epsilon + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    margin = lambda x: evaluation.margin_loss(logits(x), labels)
    assert (margin(moved) >= margin(images)).all()


def test_square_keeps_what_helps_and_its_squares_shrink():
    # Each pixel counts for itself, so every kept square shows: all pixels end at the side that hurts.
    images = jnp.full((4, 5, 5, 1), 0.5)
    signs = jnp.sign(jax.random.normal(jax.random.key(1), (1, 5, 5, 1)))
    logits = lambda x: jnp.stack([-jnp.sum(x * signs, (1, 2, 3)), jnp.zeros(len(x))], -1)
    moved = evaluation.square(logits, images, jnp.zeros(4, int), epsilon=0.1, key=jax.random.key(0), queries=400)
    np.testing.assert_allclose(moved, images + 0.1 * signs, atol=1e-6)
    # 28 x 28 x 0.05 = 39.2 pixels, and its halves.
    (thresholds, sides) = _schedule(10_000, 0.05, 28, 28)
    side = lambda query: sides[(query >= thresholds).sum()]
    assert [side(query) for query in (0, 10, 11, 51, 201, 501, 9999)] == [6, 6, 4, 3, 2, 2, 1]
    assert _schedule(100, 1.0, 6, 9)[1].max() == 6


def foolbox_points(attack, network, images, labels, epsilon):
    model = foolbox.JAXModel(network, bounds=(0, 1))
    return attack(model, images, foolbox.criteria.Misclassification(labels), epsilons=epsilon)


@pytest.mark.parametrize('name', ['FGSM', 'LinfPGD', 'L2PGD'])
def test_agreement_with_foolbox(name):
    images, _ = batch(12, seed=5)
    labels = sure(images)
    step = {} if name == 'FGSM' else {'abs_stepsize': 0.03, 'steps': 6}
    theirs = getattr(foolbox.attacks, name)(random_start=False, **step)
    options = {} if name == 'FGSM' else {'norm': 'l2' if name == 'L2PGD' else 'linf', 'steps': 6, 'step_size': 0.03}
    attack = evaluation.fgsm if name == 'FGSM' else evaluation.pgd
    ours = functools.partial(attack, loss='softmax_cross_entropy', **options)
    for epsilon in (0.03, 0.1):
        (_, clipped, success) = foolbox_points(theirs, FLAT, images, labels, epsilon)
        result = ours(FLAT, images, labels, epsilon=epsilon)
        # They keep the last iterate and we the best: nowhere weaker, and the same where the loss rose at every step.
        (there, here) = (cross_entropy(FLAT(points), labels) for points in (clipped, result))
        same = np.abs(np.asarray(result - clipped)).max((1, 2, 3)) < 1e-4
        assert name == 'FGSM' or (here >= there - 1e-5).all()
        assert same.all() if name == 'FGSM' else same.mean() > 0.8
        np.testing.assert_array_equal((sure(result) != labels)[same], np.asarray(success)[same])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'epsilon': -0.1}, r'epsilon must be in \[0, 1\], not -0.1'),
        ({'epsilon': 1.5}, r'epsilon must be in \[0, 1\], not 1.5'),
        ({'epsilon': float('nan')}, 'epsilon must be in'),
        ({'norm': 'l2', 'epsilon': 4.1}, r'epsilon must be in \[0, 4\]'),
        ({'norm': 'l_inf'}, "unknown norm 'l_inf' .did you mean 'linf'"),
        ({'loss': 'dlr'}, "unknown loss 'dlr'; there are: cross_entropy, softmax_cross_entropy, margin"),
        ({'steps': 0}, 'steps must be a whole number of 1 or above, not 0'),
        ({'steps': 2.5}, 'steps must be a whole number of 1 or above, not 2.5'),
        ({'steps': 2**31}, 'steps must be at most 2147483647, not 2147483648'),
        ({'steps': float('inf')}, 'steps must be at most 2147483647, not inf'),
        ({'steps': float('nan')}, 'steps must be a whole number of 1 or above, not nan'),
        ({'restarts': 0}, 'restarts must be a whole number of 1 or above'),
        ({'restarts': 2**40}, 'restarts must be at most 2147483647'),
        ({'step_size': -1.0}, 'step_size must be above 0'),
        ({'temperature': 0.0}, 'temperature must be above 0'),
        ({'key': jax.random.split(jax.random.key(0), 3)}, r'one key or one for each of the 2 examples'),
        ({'key': jnp.zeros(2, jnp.uint32)}, 'key must be made by jax.random.key'),
    ],
)
def test_bad_searches_are_refused(options, message):
    images, labels = batch(2)
    with pytest.raises(InputError, match=message):
        evaluation.pgd(FLAT, images, labels, **{'epsilon': 0.1, **options})


@pytest.mark.parametrize('labels', [[0, 4], [-1, 0]])
def test_labels_of_no_class_are_refused(labels):
    (images, labels) = (batch(2)[0], jnp.array(labels))
    for attack in (
        lambda: evaluation.fgsm(FLAT, images, labels, epsilon=0.1),
        lambda: evaluation.pgd(FLAT, images, labels, epsilon=0.1),
        lambda: evaluation.square(FLAT, images, labels, epsilon=0.1, key=jax.random.key(0)),
        lambda: evaluation.attack_gap(FLAT, FLAT, images, labels, 0.1),
    ):
        with pytest.raises(InputError, match=f'labels must be from 0 to 3, not from {labels.min()} to {labels.max()}'):
            attack()


@pytest.mark.parametrize('epsilon', [0.1, np.float32(0.1)])
def test_images_of_half_precision_are_attacked_in_float32(epsilon):
    (images, labels) = batch(2)
    images = images.astype(jnp.bfloat16)
    for result in (
        evaluation.fgsm(FLAT, images, labels, epsilon=epsilon),
        evaluation.pgd(FLAT, images, labels, epsilon=epsilon, steps=2),
        evaluation.square(FLAT, images, labels, epsilon=epsilon, key=jax.random.key(0), queries=2),
    ):
        assert result.dtype == jnp.float32
        assert jnp.abs(result - images.astype(jnp.float32)).max() <= 0.1 + 1e-6


def test_bad_images_are_refused():
    images, labels = batch(2)
    for attack in (evaluation.fgsm, evaluation.pgd):
        for bad in (images * 255, images - 0.5, images.at[0, 0, 0, 0].set(jnp.nan)):
            with pytest.raises(InputError, match=r'images must be in \[0, 1\], not from'):
                attack(FLAT, bad, labels, epsilon=0.1)
    with pytest.raises(AssertionError):
        evaluation.pgd(FLAT, images.astype(jnp.uint8), labels, epsilon=0.1)
    with pytest.raises(InputError, match='the attacked network cannot take images of 5x4x1'):
        evaluation.pgd(FLAT, jnp.zeros((2, 5, 4, 1)), labels, epsilon=0.1)
    for options, message in (
        ({'queries': 0}, 'queries must be a whole number'),
        ({'queries': 10**12}, 'queries must be at most 2147483647, not 1000000000000'),
        ({'share': 0.0}, 'share must be'),
    ):
        with pytest.raises(InputError, match=message):
            evaluation.square(FLAT, images, labels, epsilon=0.1, key=jax.random.key(0), **options)


def test_one_class_cannot_be_attacked():
    images, labels = batch(2)
    with pytest.raises(InputError, match='gives 1 logit for each image; two or more classes are needed'):
        evaluation.fgsm(lambda x: x.sum((1, 2, 3))[:, None], images, 0 * labels, epsilon=0.1)


def test_the_schedule_of_square_takes_no_memory():
    (thresholds, sides) = _schedule(2**31 - 1, 0.05, 28, 28)
    assert thresholds.dtype == np.int32
    assert thresholds[-1] == -(-8001 * (2**31 - 1) // 10_000)
    assert sides.tolist() == _schedule(10_000, 0.05, 28, 28)[1].tolist()


def test_a_ramp_longer_than_int32_counts():
    assert robustness.ramp(2**20, warm_up=0, length=2**40) == (2**20 + 1) / (2**40 + 1)
    assert jax.jit(lambda epoch: robustness.ramp(epoch, warm_up=2**40))(jnp.int32(5)) == 0


def test_attacks_in_64_bit_mode_are_those_in_32_bits():
    images, labels = batch(4)
    options = {'epsilon': np.float64(0.1), 'steps': 3}
    expected = evaluation.pgd(FLAT, images, labels, **options)
    gap = evaluation.attack_gap(FLAT, MASKED, images, labels, 0.1, steps=3)
    with jax.enable_x64(True):
        result = evaluation.pgd(FLAT, images, labels, **options, norm='linf')
        np.testing.assert_allclose(result, expected, atol=1e-6)
        assert result.dtype == jnp.float32
        key = jax.random.key(0)
        for moved in (
            evaluation.pgd(FLAT, images, labels, **options, norm='l2', key=key, restarts=2),
            evaluation.fgsm(FLAT, images, labels, epsilon=np.float64(0.1), key=key),
            evaluation.square(FLAT, images, labels, epsilon=np.float64(0.1), key=key, queries=3),
        ):
            assert moved.dtype == jnp.float32
        np.testing.assert_allclose(
            evaluation.attack_gap(FLAT, MASKED, images, labels, np.float64(0.1), steps=3), gap, atol=1e-4
        )

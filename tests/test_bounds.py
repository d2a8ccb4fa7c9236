import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Blocks, Flat, Tiny, assert_trees_close, forward, points_in_ball, random_network, softmax
from hypothesis import given, settings, strategies as st

from cckd_jax import evaluation, models
from cckd_jax.models import layers
from cckd_jax.robustness.bounds import layer_rules, operations, outputs, propagation
from cckd_jax.robustness.bounds.receptive_fields import receptive_fields

METHODS = ('ibp', 'crown_ibp', 'crown')
NETWORKS = {
    'flat': (Flat(num_classes=4), (4, 4, 1)),
    'blocks': (Blocks(num_classes=4), (10, 10, 1)),
    'every_layer': (Tiny(num_classes=4), (8, 8, 3)),
    'resnet': (models.create('resnet18', num_classes=4, width=0.04, blocks=(1, 1)), (6, 6, 2)),
}


CASES = [
    *itertools.product(('flat', 'blocks'), METHODS),
    ('every_layer', 'ibp'),
    ('every_layer', 'crown_ibp'),
    ('resnet', 'ibp'),
    ('resnet', 'crown_ibp'),
]


def case(name, seed=0, batch=3, scale=1.0):
    (module, shape) = NETWORKS[name]
    random = np.random.default_rng(seed)
    images = np.clip(random.uniform(-0.2, 1.2, (batch, *shape)), 0, 1).astype(np.float32)
    return random_network(module, shape, seed, scale), jnp.asarray(images), jnp.asarray(random.integers(0, 4, batch))


def differences(network, images, labels):
    logits = np.asarray(forward(network, images), np.float64)
    return logits - np.take_along_axis(logits, np.asarray(labels)[:, None], 1)


def random_box(seed, shape, spread=1.0):
    """Ranges on both sides of 0, across it, and some that are points."""
    random = np.random.default_rng(seed)
    (middle, radius) = (random.normal(size=shape), spread * random.exponential(size=shape))
    radius *= random.random(shape) > 0.1
    return operations.Box(jnp.asarray(middle - radius, jnp.float32), jnp.asarray(middle + radius, jnp.float32))


OPERATIONS = {
    'relu': (operations.ReluOp(), jax.nn.relu, (2, 5)),
    'largest': (operations.MaxOp(), lambda x: x.max(1), (2, 4, 3)),
    'gain': (
        layer_rules._local_response_norm(layers.LocalResponseNorm(1, alpha=0.5))[0],
        layers.LocalResponseNorm(1, alpha=0.5),
        (2, 5),
    ),
    'gain_that_grows': (
        layer_rules._local_response_norm(layers.LocalResponseNorm(1, alpha=0.5, beta=-0.5))[0],
        layers.LocalResponseNorm(1, alpha=0.5, beta=-0.5),
        (2, 5),
    ),
    'sum': (operations.ResidualOp(((operations.ReluOp(),), ())), lambda x: jax.nn.relu(x) + x, (2, 5)),
}


@pytest.mark.parametrize('name', OPERATIONS)
@given(seed=st.integers(0, 10_000), spread=st.sampled_from([0.0, 0.1, 1.0, 5.0]))
@settings(max_examples=8, deadline=None)
def test_each_operation_is_bounded_forwards_and_backwards(name, seed, spread):
    (operation, function, shape) = OPERATIONS[name]
    box = random_box(seed, shape, spread)
    random = np.random.default_rng(seed)
    share = random.choice([0.0, 1.0, 0.5], (60, *shape)) * random.random((60, *shape)) ** 0.2
    points = jnp.asarray(np.asarray(box.lower) + share * np.asarray(box.upper - box.lower), jnp.float32)
    values = np.asarray(jax.vmap(function)(points))
    result = operation.interval(box)
    assert (values >= np.asarray(result.lower) - 1e-4).all()
    assert (values <= np.asarray(result.upper) + 1e-4).all()
    coefficients = random.normal(size=(2, 7, *values.shape[2:])).astype(np.float32)
    (back, constants) = operation.backward(jnp.asarray(coefficients), box)
    flat = lambda each, front: np.asarray(each).reshape(*each.shape[:front], -1)
    outputs = np.einsum('bsi,pbi->pbs', flat(coefficients, 2), flat(values, 2))
    linear = np.einsum('bsi,pbi->pbs', flat(back, 2), flat(points, 2)) + np.asarray(constants)
    assert (linear <= outputs + 1e-3 * (1 + spread)).all()
    if spread == 0.0:
        np.testing.assert_allclose(linear, outputs, atol=1e-4)


def test_lines_are_tight_where_they_can_be():
    box = operations.Box(jnp.array([[-1.0, -3.0, 1.0, -2.0]]), jnp.array([[3.0, 1.0, 2.0, -1.0]]))
    identity = jnp.eye(4)[None]
    (above, offset) = operations.ReluOp().backward(-identity, box)
    # The chord through both ends; then x, then 0.
    np.testing.assert_allclose(-above[0].diagonal(), [0.75, 0.25, 1, 0])
    np.testing.assert_allclose(-offset[0], [0.75, 0.75, 0, 0])
    (below, offset) = operations.ReluOp().backward(identity, box)
    np.testing.assert_array_equal(below[0].diagonal(), [1, 0, 1, 0])
    np.testing.assert_array_equal(offset[0], 0)
    # The second always wins; then nobody does, and the constant is lower in the middle than the plane.
    box = operations.Box(jnp.array([[[0.0], [2.0], [1]], [[0.0]] * 3]), jnp.array([[[1.0], [3.0], [1]], [[5.0]] * 3]))
    (above, offset) = operations.MaxOp().backward(-jnp.ones((2, 1, 1)), box)
    np.testing.assert_array_equal(-above[:, 0, :, 0], [[0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(-offset[:, 0], [0, 5])
    # x_1 + max(x_2 - 2, 0), whose chord has slope 1 / 3, is better than 3.
    box = operations.Box(jnp.array([[[2.0], [0.0]]]), jnp.array([[[2.5], [3.0]]]))
    (above, offset) = operations.MaxOp().backward(-jnp.ones((1, 1, 1)), box)
    np.testing.assert_allclose(-above[0, 0, :, 0], [1, 1 / 3])


@pytest.mark.parametrize(('name', 'method'), CASES)
def test_no_point_of_the_ball_exceeds_its_bounds(name, method):
    for seed, epsilon in enumerate((0.0, 0.01, 0.1, 1.0)):
        network, images, labels = case(name, seed)
        result = evaluation.difference_bounds(network, images, labels, epsilon, method=method)
        (lower, upper) = map(np.asarray, result)
        points = points_in_ball(images, epsilon, 16, seed)
        over = np.stack([differences(network, each, labels) for each in points])
        slack = 1e-5 * (1 + np.abs(over).max())
        assert (lower - slack <= over).all()
        assert (over <= upper + slack).all()
        assert (lower <= upper).all()
        if epsilon == 0:
            np.testing.assert_allclose(lower, over[0], atol=slack)
            np.testing.assert_allclose(upper, over[0], atol=slack)
        rows = np.arange(len(labels))
        np.testing.assert_array_equal((lower[rows, labels], upper[rows, labels]), 0)


def test_attacks_stay_within_bounds():
    network, images, _ = case('blocks', 5)
    attack = jax.jit(lambda labels: evaluation.pgd(network, images, labels, epsilon=0.1, steps=20, loss='margin'))
    for label in range(4):
        labels = jnp.full(3, label)
        worst = evaluation.margin_loss(forward(network, attack(labels)), labels)
        others = jnp.arange(4)[None] != labels[:, None]
        for method in METHODS:
            (_, upper) = evaluation.difference_bounds(network, images, labels, 0.1, method=method)
            highest = jnp.max(jnp.where(others, upper, -jnp.inf), -1)
            assert (worst <= highest + 1e-5).all()
            # Far from vacuous at this radius, all but for intervals.
            assert method == 'ibp' or (highest < worst + 5).all()


@pytest.mark.parametrize('name', NETWORKS)
def test_intervals_are_monotone_and_crown_is_never_looser(name):
    methods = [method for known, method in CASES if known == name]
    network, images, labels = case(name, 1)
    radii = (0.0, 0.003, 0.03, 0.3, 1.0)
    result = {
        method: [evaluation.difference_bounds(network, images, labels, epsilon, method=method) for epsilon in radii]
        for method in methods
    }
    for (lower, upper), (below, above) in itertools.pairwise(result['ibp']):
        slack = 1e-5 * (1 + jnp.abs(above).max())
        assert (below <= lower + slack).all()
        assert (above >= upper - slack).all()
    for method in methods[1:]:
        for (lower, upper), (below, above) in zip(result['ibp'], result[method], strict=True):
            slack = 1e-5 * (1 + jnp.abs(upper).max())
            assert (below >= lower - slack).all()
            assert (above <= upper + slack).all()
    width = lambda method, place: float(jnp.mean(result[method][place][1] - result[method][place][0]))
    widths = [width(method, 2) for method in reversed(methods)]
    assert sorted(widths) == widths
    assert widths[0] < 0.9 * widths[-1]


@pytest.mark.parametrize('name', ['flat', 'blocks'])
def test_crown_is_exact_where_no_sign_is_open(name):
    network, images, labels = case(name, 2)
    images = jnp.clip(images, 0.1, 0.9)
    epsilon = 1e-4
    (lower, upper) = evaluation.difference_bounds(network, images, labels, epsilon, method='crown')
    over = lambda image, label: (lambda logits: logits - logits[label])(network(image[None])[0])
    slopes = jax.vmap(jax.jacrev(over))(images, labels)
    reach = epsilon * np.abs(np.asarray(slopes)).sum((2, 3, 4))
    clean = differences(network, images, labels)
    assert (np.abs(upper - (clean + reach)) < 0.02 * reach.max() + 2e-6).mean() > 0.8
    assert (np.abs(lower - (clean - reach)) < 0.02 * reach.max() + 2e-6).mean() > 0.8


@pytest.mark.parametrize('method', METHODS)
def test_a_linear_network_is_bounded_exactly_by_the_ball_cut_to_pixels(method):
    module = Flat(num_classes=4, width=0.0)
    network = random_network(module, (4, 4, 1))
    images = case('flat')[1]
    (lower, upper) = evaluation.logit_bounds(network, images, 0.3, method=method)
    kernel = np.asarray(network.variables['params']['output']['kernel'], np.float64)
    for sign, result in ((1, upper), (-1, lower)):
        best = np.clip(np.asarray(images).reshape(3, 16, 1) + 0.3 * sign * np.sign(kernel)[None], 0, 1)
        expected = (best * kernel).sum(1) + np.asarray(network.variables['params']['output']['bias'])
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_merging_the_last_layer_is_tighter_than_subtracting():
    network, images, labels = case('flat', 3)
    for method in METHODS:
        (lower, upper) = map(np.asarray, evaluation.logit_bounds(network, images, 0.1, method=method))
        logits = np.stack([forward(network, each) for each in points_in_ball(images, 0.1, 20)])
        assert (lower <= logits + 1e-5).all()
        assert (logits <= upper + 1e-5).all()
        (_, above) = evaluation.difference_bounds(network, images, labels, 0.1, method=method)
        own = np.take_along_axis(lower, np.asarray(labels)[:, None], 1)
        assert (above <= upper - own + 1e-5).all()
        assert (above < upper - own - 1e-3).any()


@pytest.mark.parametrize('method', METHODS)
def test_confidences_are_ordered_and_contain_what_is_seen(method):
    network, images, labels = case('flat', 4, scale=3.0)
    for epsilon in (0.0, 0.05, 1.0):
        (lower, upper) = evaluation.confidence_bounds(network, images, labels, epsilon, method=method)
        assert (lower >= 0).all()
        assert (lower <= upper).all()
        assert (upper <= 1).all()
        for points in points_in_ball(images, epsilon, 20):
            seen = softmax(forward(network, points))[np.arange(3), labels]
            assert (lower - 1e-6 <= seen).all()
            assert (seen <= upper + 1e-6).all()


@pytest.mark.parametrize('method', METHODS)
def test_gradients_are_finite_for_differences_in_the_hundreds(method):
    network, images, labels = case('flat', 0, scale=500.0)

    def width(variables):
        (lower, upper) = evaluation.confidence_bounds(
            models.Network(network.module, variables), images, labels, 0.05, method=method
        )
        return jnp.sum(upper - lower)

    spread = jnp.abs(evaluation.difference_bounds(network, images, labels, 0.05, method=method)[1]).max()
    assert spread > 300
    for each in jax.tree.leaves(jax.grad(width)(network.variables)):
        assert jnp.isfinite(each).all()


def test_boxes_inside_are_tightened_whatever_the_chunks(monkeypatch):
    network, images, _ = case('blocks')
    box = outputs.ball_box(images, 0.05)

    def inside(method):
        # A function of its own each time, so that each is traced with the chunks of its time.
        walk = lambda: (
            propagation.bound_operations(
                layer_rules.to_operations(network), box, propagation.PROPAGATIONS[method]
            ).boxes
        )
        return jax.jit(walk)()

    whole = inside('crown')
    for tight, loose in zip(whole, inside('ibp'), strict=True):
        assert (tight.lower >= loose.lower - 1e-5).all()
        assert (tight.upper <= loose.upper + 1e-5).all()
    assert (whole[-1].lower > loose.lower + 0.1).all()
    assert (whole[-1].upper < loose.upper - 0.1).all()
    monkeypatch.setattr(propagation, '_MAX_COEFFICIENTS', 2 * max(each.lower.size for each in whole) * 5)
    assert_trees_close(inside('crown'), whole, atol=1e-5)


class Padded(models.Classifier):
    """Convolutions that stride and pad what is inside, so that windows reach beyond the edge; for 9x9x2 images."""

    def setup(self):
        self.convs = [layers.conv(3, 3, padding=1), layers.conv(4, 3, padding=2, stride=2), layers.conv(3, 2)]
        self.norm = layers.BatchNorm()
        self.output = nn.Dense(self.num_classes)

    def stages(self):
        lrn = layers.LocalResponseNorm(1, alpha=0.5)
        return (
            (self.convs[0], nn.relu, lrn, layers.MaxPool(2, 1), self.norm),
            (self.convs[1], nn.relu),
            (self.convs[2], nn.relu),
        )

    def classifier(self):
        return (layers.flatten, self.output)


@pytest.mark.parametrize(('module', 'shape'), [(Padded(num_classes=3), (9, 9, 2)), NETWORKS['blocks']])
def test_windows_bound_what_the_whole_image_bounds(module, shape, monkeypatch):
    network = random_network(module, shape)
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(2, *shape)), jnp.float32)
    box = outputs.ball_box(images, 0.05)
    asked = []

    def inside(windows):
        def some(operations):
            asked.append(receptive_fields(operations) if windows else None)
            return asked[-1]

        monkeypatch.setattr(propagation, 'receptive_fields', some)
        # A function of its own each time, so that each is traced with the way of its time.
        walk = lambda: (
            propagation.bound_operations(
                layer_rules.to_operations(network), box, propagation.PROPAGATIONS['crown']
            ).boxes
        )
        return jax.jit(walk)()

    assert_trees_close(inside(True), inside(False), atol=1e-4)
    assert any(look is not None and look[0].size < shape[0] for look in asked)


def test_bounds_inside_of_a_split_program():
    network, images, labels = case('flat', batch=6)
    split = lambda each: each.reshape(2, 3, *each.shape[1:])
    result = jax.pmap(
        lambda images, labels, epsilon: evaluation.confidence_gap_bounds(
            network, network, images, labels, epsilon, method='ibp'
        ),
        in_axes=(0, 0, None),
        devices=jax.devices()[:2],
    )(split(images), split(labels), 0.05)
    whole = evaluation.confidence_gap_bounds(network, network, images, labels, 0.05, method='ibp')
    np.testing.assert_allclose(result.ravel(), whole, atol=1e-5)


@pytest.mark.parametrize('method', METHODS)
def test_bounds_that_grow_past_float32_say_nothing_and_stay_numbers(method):
    weights = 1e3 * np.random.default_rng(0).normal(size=(30, 4, 4)).astype(np.float32)
    affine = [operations.AffineOp(lambda x, w=w: x @ w, lambda r, w=w: r @ np.abs(w)) for w in weights]
    layers = tuple(itertools.chain(*((each, operations.ReluOp()) for each in affine)))
    box = operations.Box(jnp.zeros((2, 4)), jnp.ones((2, 4)))
    way = propagation.PROPAGATIONS[method]
    part = propagation.bound_operations((*layers, affine[0]), box, way)
    result = propagation.bound_linear_functions(part, lambda s: jax.nn.one_hot(s, 4)[None].repeat(2, 0), 4, way.linear)
    assert np.isfinite(result.lower).all()
    assert np.isfinite(result.upper).all()
    assert (result.upper - result.lower > 1e29).all()


class AlongRows(models.Classifier):
    """A convolution of one axis, which Flax takes along the last but one."""

    def setup(self):
        self.convolution = nn.Conv(2, (3,), padding=1)
        self.second = nn.Conv(2, (3,), padding=1)
        self.dense = nn.Dense(self.num_classes)

    def stages(self):
        return ((self.convolution, nn.relu, self.second, nn.relu),)

    def classifier(self):
        return (layers.flatten, self.dense)


@pytest.mark.parametrize('method', METHODS)
def test_a_convolution_of_one_axis(method):
    network = random_network(AlongRows(num_classes=3), (6, 6, 1))
    images = jnp.full((1, 6, 6, 1), 0.5)
    (lower, upper) = evaluation.logit_bounds(network, images, 0.1, method=method)
    seen = forward(network, points_in_ball(images, 0.1, 50))
    assert (seen >= lower - 1e-4).all()
    assert (seen <= upper + 1e-4).all()


@pytest.mark.parametrize(('name', 'method'), [('blocks', 'crown'), ('every_layer', 'crown_ibp'), ('resnet', 'ibp')])
def test_bounds_in_64_bit_mode_are_those_in_32_bits(name, method):
    network, images, labels = case(name)
    expected = evaluation.difference_bounds(network, images, labels, 0.05, method=method)
    gap = evaluation.confidence_gap_bounds(network, network, images, labels, 0.05, method='ibp')
    with jax.enable_x64(True):
        result = evaluation.difference_bounds(network, images, labels, np.float64(0.05), method=method)
        assert result[0].dtype == jnp.float32
        for bound, same in zip(result, expected, strict=True):
            np.testing.assert_allclose(bound, same, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            evaluation.confidence_gap_bounds(network, network, images, labels, 0.05, method='ibp'), gap, atol=1e-4
        )


def test_bounds_take_labels_of_eight_bits():
    network, images, labels = case('flat')
    expected = evaluation.difference_bounds(network, images, labels, 0.05)
    result = evaluation.difference_bounds(network, images, labels.astype(jnp.int8), 0.05)
    np.testing.assert_array_equal(result[1], expected[1])

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cckd_jax import models
from cckd_jax.errors import InputError
from cckd_jax.models import layers


@pytest.mark.parametrize(
    ('name', 'options', 'shape', 'count'),
    [
        ('lenet5', {}, (28, 28, 1), 61_706),
        ('lenet5_half', {}, (28, 28, 1), 35_820),
        ('alexnet', {}, (32, 32, 3), 1_659_178),
        ('alexnet', {'batch_norm': False}, (32, 32, 3), 1_656_266),
        ('alexnet_half', {}, (32, 32, 3), 417_434),
        ('alexnet_half', {'batch_norm': False}, (32, 32, 3), 415_978),
        ('resnet18', {}, (32, 32, 3), 11_173_962),
        ('resnet34', {}, (32, 32, 3), 21_282_122),
    ],
)
def test_parameter_counts(name, options, shape, count):
    module = models.create(name, **options)
    variables = jax.eval_shape(lambda key: module.init(key, jnp.zeros((1, *shape))), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == count


def test_stages_of_the_larger_networks():
    for name, expected in (
        ('alexnet', [(15, 15, 48), (7, 7, 128), (7, 7, 192), (7, 7, 192), (3, 3, 128)]),
        ('resnet18', [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512)]),
    ):
        module = models.create(name)
        images = jnp.zeros((2, 32, 32, 3))
        shapes = lambda key, module=module, images=images: module.apply(
            module.init(key, images), images, method='features'
        )
        assert [each.shape[1:] for each in jax.eval_shape(shapes, jax.random.key(0))] == expected


@pytest.mark.parametrize(
    ('name', 'options', 'shape'),
    [
        ('lenet5', {'width': 0.5}, (28, 28, 1)),
        ('alexnet', {'width': 0.1}, (32, 32, 3)),
        ('resnet18', {'width': 0.05, 'blocks': (1, 1)}, (16, 16, 3)),
    ],
)
def test_bfloat16_computes_close_to_float32_and_keeps_float32(name, options, shape):
    images = jax.random.uniform(jax.random.key(1), (4, *shape))
    plain, mixed = (models.create(name, **options, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16))
    variables = plain.init(jax.random.key(0), images)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), mixed.init(jax.random.key(0), images), variables)
    logits = mixed.apply(variables, images)
    assert logits.dtype == jnp.float32
    assert mixed.apply(variables, images, method='features')[-1].dtype == jnp.bfloat16
    np.testing.assert_allclose(logits, plain.apply(variables, images), atol=0.05, rtol=0.05)


def test_features_and_head_make_the_logits():
    module = models.create('lenet5', num_classes=7)
    images = jax.random.uniform(jax.random.key(1), (3, 28, 28, 1))
    network = models.Network(module, module.init(jax.random.key(0), images))
    features = network.features(images)
    assert [each.shape for each in features] == [(3, 14, 14, 6), (3, 5, 5, 16)]
    assert network(images).shape == (3, 7)
    np.testing.assert_allclose(network.head(features[-1]), network(images), rtol=1e-6)


def test_layers_one_by_one_make_the_logits():
    module = models.create('lenet5_half')
    images = jax.random.uniform(jax.random.key(1), (2, 28, 28, 1))
    variables = module.init(jax.random.key(0), images)

    def walk(module, values):
        for layer in module.layers():
            values = layer(values)
        return values

    walked = module.apply(variables, images, method=walk)
    np.testing.assert_array_equal(walked, module.apply(variables, images))


def test_an_unknown_model_is_named_with_its_neighbour():
    with pytest.raises(InputError, match=r"unknown model 'lenet' .did you mean 'lenet5'"):
        models.create('lenet')


def own_network(num_classes, hidden=4):
    return nn.Sequential([lambda images: images.reshape(len(images), -1), nn.Dense(hidden), nn.Dense(num_classes)])


def test_a_network_by_import_path(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    module = models.create('test_models:own_network', num_classes=3, hidden=5)
    images = jnp.zeros((2, 4, 4, 1))
    network = models.Network(module, models.init(module, jax.random.key(0), images))
    assert network(images).shape == (2, 3)
    models.check_image_shape('own', module, (4, 4, 1), 3)
    with pytest.raises(InputError, match=r'own returns shape \(2, 3\) for 2 images; 7 classes need'):
        models.check_image_shape('own', module, (4, 4, 1), 7)


@pytest.mark.parametrize(
    ('name', 'options', 'said'),
    [
        ('no.such.module:net', {}, "'no.such.module:net' cannot be imported: No module named 'no'"),
        ('cckd_jax.models:Nothing', {}, 'cannot be imported'),
        (':net', {}, 'cannot be imported'),
        ('builtins:dict', {}, 'is a dict, not a Flax Linen module'),
        ('lenet5', {'wdth': 2}, r"cannot create model 'lenet5' with .*unexpected keyword argument 'wdth'"),
    ],
)
def test_networks_that_cannot_be_made_are_refused(name, options, said):
    with pytest.raises(InputError, match=said):
        models.create(name, **options)


@pytest.mark.parametrize(('name', 'shape'), [('lenet5', (8, 8, 1)), ('lenet5', (4, 4, 1)), ('alexnet', (12, 12, 3))])
def test_images_too_small_are_refused(name, shape):
    with pytest.raises(InputError, match=rf'{name} cannot take images of {shape[0]}x{shape[1]}.* \(too small for it\)'):
        models.check_image_shape(name, models.create(name), shape, 10)


def training_mode(count, valid=None, axis_name=None):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(3), jnp.arange(count))
    return models.TrainMode(jnp.ones(count, bool) if valid is None else valid, keys, axis_name)


def test_batch_norm_is_flaxs_where_all_rows_are_valid():
    values = 3.0 + 2.0 * jax.random.normal(jax.random.key(0), (8, 5, 5, 3))
    ours, flaxs = layers.BatchNorm(), nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
    variables = flaxs.init(jax.random.key(1), values)
    (found, moved) = ours.apply(variables, values, training_mode(8), mutable=['batch_stats'])
    (expected, moved_there) = flaxs.apply(variables, values, mutable=['batch_stats'])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), moved, moved_there)
    still = nn.BatchNorm(use_running_average=True, epsilon=1e-5)
    np.testing.assert_allclose(
        ours.apply({**variables, **moved}, values), still.apply({**variables, **moved}, values), atol=1e-5
    )


def test_batch_norm_does_not_see_rows_that_fill_up():
    values = jax.random.normal(jax.random.key(0), (6, 3))
    valid = jnp.array([True, True, True, True, False, False])
    layer = layers.BatchNorm()
    variables = layer.init(jax.random.key(1), values)
    (found, moved) = layer.apply(variables, values, training_mode(6, valid), mutable=['batch_stats'])
    (expected, moved_there) = layer.apply(variables, values[:4], training_mode(4), mutable=['batch_stats'])
    np.testing.assert_allclose(found[:4], expected, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), moved, moved_there)


def test_train_true_is_training_without_padding_on_one_device():
    module = models.create('resnet18', width=0.05, blocks=(1, 1))
    images = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
    variables = jax.jit(module.init)(jax.random.key(0), images)
    train = jax.jit(lambda mode: module.apply(variables, images, mode, mutable=['batch_stats']), static_argnums=0)
    expected = jax.jit(lambda mode: module.apply(variables, images, mode, mutable=['batch_stats']))(training_mode(4))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), train(True), expected)


def test_dropout_with_train_true_draws_from_the_dropout_stream():
    layer, values = layers.Dropout(0.25), jnp.ones((4, 5000))
    drop = lambda seed: np.asarray(layer.apply({}, values, True, rngs={'dropout': jax.random.key(seed)}))
    np.testing.assert_allclose((drop(0) == 0).mean(-1), 0.25, atol=0.03)
    np.testing.assert_array_equal(drop(0), drop(0))
    assert not np.array_equal(drop(0), drop(1))


def test_local_response_norm_by_hand():
    values = np.random.default_rng(0).normal(size=(2, 1, 1, 6)).astype(np.float32) * 10
    expected = np.empty_like(values)
    for channel in range(6):
        energy = np.square(values[..., max(0, channel - 2) : channel + 3]).sum(-1)
        expected[..., channel] = values[..., channel] / (1 + 1e-2 * energy) ** 0.75
    np.testing.assert_allclose(layers.LocalResponseNorm(alpha=1e-2)(jnp.asarray(values)), expected, rtol=1e-5)


def test_dropout_drops_at_its_rate_in_training_alone():
    layer, values = layers.Dropout(0.25), jnp.ones((4, 5000))
    np.testing.assert_array_equal(layer.apply({}, values), values)
    dropped = np.asarray(layer.apply({}, values, training_mode(4)))
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
    np.testing.assert_allclose((dropped == 0).mean(-1), 0.25, atol=0.03)
    assert not np.array_equal(dropped[0], dropped[1])


@pytest.mark.parametrize('channels', [1, 3, 5, 8])
@pytest.mark.parametrize(('kernel', 'stride', 'padding'), [(5, 1, 2), (3, 1, 0), (3, 2, 1), (1, 1, 0)])
def test_a_convolution_is_flaxs_in_value_and_gradients(channels, kernel, stride, padding):
    # More images than a portion holds, and no whole number of portions.
    images = jax.random.normal(jax.random.key(0), (70, 9, 11, channels))
    plain = nn.Conv(4, (kernel, kernel), strides=stride, padding=padding)
    ours = layers.conv(4, kernel, stride=stride, padding=padding)
    assert ours.conv_general_dilated is not None
    variables = plain.init(jax.random.key(1), images)

    def value_and_gradients(module):
        return jax.jit(jax.value_and_grad(lambda *a: jnp.sum(jnp.sin(module.apply(*a))), (0, 1)))(variables, images)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        value_and_gradients(ours),
        value_and_gradients(plain),
    )


def test_a_convolution_has_forward_mode_and_vmap_too():
    images = jax.random.normal(jax.random.key(0), (3, 6, 6, 5))
    (plain, ours) = (nn.Conv(4, (3, 3), padding=1), layers.conv(4, 3, padding=1))
    variables = plain.init(jax.random.key(1), images)
    derivatives = [jax.jvp(lambda x, m=module: m.apply(variables, x), (images,), (images,)) for module in (plain, ours)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *derivatives)
    each = jax.vmap(lambda image: ours.apply(variables, image[None])[0])(images)
    np.testing.assert_allclose(each, plain.apply(variables, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('size', [4, 5, 7])
@pytest.mark.parametrize(('window', 'stride'), [(2, 2), (3, 2), (3, 1)])
def test_the_sliced_pool_is_flaxs(size, window, stride):
    images = jax.random.normal(jax.random.key(size), (2, size, size + 1, 3))
    pool = layers.MaxPool(window, stride)
    plain = lambda x: nn.max_pool(x, (window, window), (stride, stride))
    for found, expected in zip(
        *(jax.value_and_grad(lambda x, f=f: jnp.sum(jnp.sin(f(x))))(images) for f in (pool, plain)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5)

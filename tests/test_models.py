import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cckd_jax import models
from cckd_jax.errors import InputError
from cckd_jax.models import layers


@pytest.mark.parametrize(('name', 'count'), [('lenet5', 61_706), ('lenet5_half', 35_820)])
def test_parameter_counts(name, count):
    variables = models.create(name).init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count


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


@given(
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    channels=st.integers(1, 4),
    kernel=st.sampled_from([1, 3, 5]),
    padding=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
@settings(max_examples=8, deadline=None)
def test_the_banded_convolution_is_flaxs(size, channels, kernel, padding, seed):
    images = jax.random.normal(jax.random.key(seed), (3, *size, channels))
    plain = nn.Conv(4, (kernel, kernel), padding=padding)
    lower = lambda images, kernel, strides, padding, **rest: layers._banded(images, kernel, padding)
    banded = nn.Conv(4, (kernel, kernel), padding=padding, conv_general_dilated=lower)
    variables = plain.init(jax.random.key(seed + 1), images)

    def value_and_gradients(module):
        return jax.value_and_grad(lambda *a: jnp.sum(jnp.sin(module.apply(*a))), (0, 1))(variables, images)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        value_and_gradients(banded),
        value_and_gradients(plain),
    )


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

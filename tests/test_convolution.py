"""Convolutions are lowered for the platform of the program."""

import chex
import jax
import jax.numpy as jnp
import pytest
from jax import export

from cckd_jax import models
from cckd_jax.models import convolution

IMAGES = jax.random.uniform(jax.random.key(0), (3, 11, 10, 1))


def gradient_of_lenet(platform):
    network = models.create('lenet5')
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, 28, 28, 1)))
    loss = lambda variables, images: network.apply(variables, images).sum()
    images = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    program = export.export(jax.jit(jax.grad(loss, argnums=(0, 1))), platforms=[platform])(variables, images)
    return program.mlir_module()


# Two convolutions, each with two gradients; on a CPU, those of LeNet-5 leave the forward pass of the second and the
# gradient of its kernel.
@pytest.mark.parametrize(('platform', 'convolutions'), [('cuda', 6), ('tpu', 6), ('cpu', 2)])
def test_a_program_exported_on_a_cpu_convolves_as_its_platform_does(platform, convolutions):
    assert gradient_of_lenet(platform).count('stablehlo.convolution') == convolutions


@pytest.mark.parametrize(
    ('size', 'padding', 'shape'),
    [(5, 2, (11, 10, 1)), (3, 1, (6, 12, 1)), (5, 0, (9, 12, 3)), (3, 1, (7, 7, 6)), (5, 2, (8, 8, 7))],
)
def test_a_convolution_with_its_pool_is_one_followed_by_the_other(size, padding, shape):
    layer = convolution.conv_max_pool(4, size, padding=padding)
    images = jax.random.normal(jax.random.key(1), (2, 3, *shape))
    variables = layer.init(jax.random.key(0), images[0])
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    (conv, pool) = layer.separate()

    def value_and_gradients(forward):
        loss = lambda variables, images: jnp.sum(jnp.sin(forward(variables, images)))
        return jax.vmap(jax.value_and_grad(loss, argnums=(0, 1)), in_axes=(None, 0))(variables, images)

    together = value_and_gradients(lambda variables, images: jax.nn.relu(layer.apply(variables, images)))
    apart = value_and_gradients(lambda variables, images: pool(jax.nn.relu(conv.apply(variables, images))))
    chex.assert_trees_all_close(together, apart, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('create', 'programs'),
    [
        (convolution.conv, convolution._few_channels),
        (convolution.conv_max_pool, convolution._few_channels_pooled),
    ],
)
def test_calls_outside_jit_compile_once(create, programs):
    module = create(4, 5, padding=2)
    variables = module.init(jax.random.key(0), IMAGES)
    sizes = []
    for _ in range(2):
        module.apply(variables, IMAGES)
        sizes.append(programs._cache_size())
    assert sizes[0] == sizes[1]

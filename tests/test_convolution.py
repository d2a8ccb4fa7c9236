"""Convolutions are lowered for the platform of the program."""

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


# Two convolutions, each with two gradients; on a CPU, those of LeNet-5 leave only gradients of kernels and the forward
# pass of the second.
@pytest.mark.parametrize(('platform', 'convolutions'), [('cuda', 6), ('tpu', 6), ('cpu', 3)])
def test_a_program_exported_on_a_cpu_convolves_as_its_platform_does(platform, convolutions):
    assert gradient_of_lenet(platform).count('stablehlo.convolution') == convolutions


def test_calls_outside_jit_compile_once():
    module = convolution.conv(4, 5, padding=2)
    variables = module.init(jax.random.key(0), IMAGES)
    sizes = []
    for _ in range(2):
        module.apply(variables, IMAGES)
        sizes.append(convolution._few_channels._cache_size())
    assert sizes[0] == sizes[1]

"""CRD's networks for CIFAR-100: counts and shapes without computing anything, blocks against numpy in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cckd_jax import models
from cckd_jax.errors import InputError
from cckd_jax.models import initialization, layers
from cckd_jax.models.mobilenet import InvertedResidual
from cckd_jax.models.resnet import BasicBlock
from cckd_jax.models.shufflenet import ShuffleUnit, ShuffleUnitV2
from cckd_jax.models.wide_resnet import PreActivationBlock
from cckd_jax.robustness import check_layers

NAMES = (
    'resnet56',
    'resnet8x4',
    'resnet20x4',
    'resnet32x4',
    'wrn40_2',
    'vgg8',
    'vgg13',
    'mobilenetv2',
    'shufflenetv1',
    'shufflenetv2',
)
IMAGES = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)


def abstract_variables(module, images=IMAGES):
    return jax.eval_shape(module.init, jax.random.key(0), images)


@pytest.mark.parametrize(
    ('name', 'count'),
    [
        ('resnet56', 861_620),
        ('resnet8x4', 1_233_540),
        ('resnet20x4', 4_333_700),
        ('resnet32x4', 7_433_860),
        ('wrn40_2', 2_255_156),
        ('vgg8', 3_965_028),
        ('vgg13', 9_462_180),
        ('mobilenetv2', 812_836),
        ('shufflenetv1', 949_258),
        ('shufflenetv2', 1_355_528),
    ],
)
def test_parameter_counts_at_a_hundred_classes(name, count):
    variables = abstract_variables(models.create(name, num_classes=100))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == count


STAGES = {
    'resnet56': [(32, 32, 16), (16, 16, 32), (8, 8, 64)],
    'resnet8x4': [(32, 32, 64), (16, 16, 128), (8, 8, 256)],
    'wrn40_2': [(32, 32, 32), (16, 16, 64), (8, 8, 128)],
    'vgg13': [(16, 16, 128), (8, 8, 256), (4, 4, 512), (4, 4, 512)],
    'mobilenetv2': [(16, 16, 12), (8, 8, 16), (4, 4, 48), (2, 2, 160)],
    'shufflenetv1': [(16, 16, 240), (8, 8, 480), (4, 4, 960)],
    'shufflenetv2': [(16, 16, 116), (8, 8, 232), (4, 4, 1024)],
}


@pytest.mark.parametrize('name', STAGES)
def test_features_are_where_the_official_code_takes_them_and_make_the_logits(name):
    module = models.create(name, num_classes=100, dtype=jnp.bfloat16)
    variables = abstract_variables(module)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    network = lambda variables, images: models.Network(module, variables).features(images)
    features = jax.eval_shape(network, variables, IMAGES)
    assert [(each.shape[1:], each.dtype) for each in features] == [(shape, jnp.bfloat16) for shape in STAGES[name]]
    head = lambda variables, features: models.Network(module, variables).head(features)
    logits = jax.eval_shape(head, variables, features[-1])
    assert (logits.shape, logits.dtype) == ((2, 100), jnp.float32)


@pytest.mark.parametrize('name', NAMES)
def test_training_reaches_every_batch_norm(name):
    module = models.create(name)
    variables = abstract_variables(module)
    mode = models.TrainMode(jnp.ones(2, bool), jax.random.split(jax.random.key(0), 2), 'batch')
    told = []

    def listen(call, args, kwargs, context):
        if isinstance(context.module, layers.BatchNorm) and context.method_name == '__call__':
            told.append(args[1])
        return call(*args, **kwargs)

    step = lambda images: models.train_forward(module, variables, images, mode)[2]
    with nn.intercept_methods(listen):
        variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
        moved = jax.eval_shape(jax.vmap(step, axis_name='batch'), jax.ShapeDtypeStruct((1, *IMAGES.shape), jnp.float32))
    norms = len(jax.tree.leaves(variables['batch_stats'])) // 2
    assert len(told) == norms
    assert all(each is mode for each in told)
    assert jax.tree.structure(moved) == jax.tree.structure(variables['batch_stats'])


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('resnet18', initialization.FLAX),
        ('resnet8x4', initialization.RESNET),
        ('wrn40_2', initialization.WIDE_RESNET),
        ('vgg8', initialization.VGG),
        ('mobilenetv2', initialization.MOBILENET),
        ('shufflenetv1', initialization.PYTORCH),
        ('shufflenetv2', initialization.PYTORCH),
    ],
)
def test_every_kernel_is_drawn_as_the_network_says(name, expected):
    drawn = {nn.Conv: set(), nn.Dense: set()}

    def listen(call, args, kwargs, context):
        if type(context.module) in drawn and context.method_name == '__call__':
            drawn[type(context.module)].add(context.module.kernel_init)
        return call(*args, **kwargs)

    with nn.intercept_methods(listen):
        abstract_variables(models.create(name))
    assert drawn == {nn.Conv: {expected.conv}, nn.Dense: {expected.dense}}


def test_what_kernels_are_drawn_from():
    key, shape = jax.random.key(0), (3, 3, 4, 256)
    he = np.asarray(initialization.RESNET.conv(key, shape))
    np.testing.assert_allclose((he.mean(), he.std()), (0, (2 / (9 * 256)) ** 0.5), atol=1e-3)
    assert initialization.WIDE_RESNET.conv is initialization.VGG.conv is initialization.RESNET.conv
    small = np.asarray(initialization.VGG.dense(key, (64, 100)))
    np.testing.assert_allclose((small.mean(), small.std()), (0, 0.01), atol=5e-4)
    bound = 1 / 6  # of 36 numbers that each output is a sum of
    for uniform in (initialization.PYTORCH.conv(key, shape), initialization.PYTORCH.bias(36)(key, (9216,))):
        assert bound * 0.99 < uniform.max() <= bound
        assert -bound <= uniform.min() < -bound * 0.99
        np.testing.assert_allclose((uniform.mean(), uniform.std()), (0, bound / 3**0.5), atol=2e-3)
    for zero in (initialization.WIDE_RESNET, initialization.VGG, initialization.FLAX):
        np.testing.assert_array_equal(zero.bias(36)(key, (5,)), 0)


@pytest.mark.parametrize(('groups', 'stride'), [(2, 1), (6, 1), (6, 2)])
def test_a_grouped_convolution_is_one_convolution_for_each_group(groups, stride):
    random = np.random.default_rng(0)
    images = jnp.asarray(random.normal(size=(3, 5, 6, 6)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(3, 3, 6 // groups, 12)), jnp.float32)
    whole = layers.conv(12, 3, stride=stride, padding=1, groups=groups, bias=False)
    part = nn.Conv(12 // groups, (3, 3), strides=stride, padding=1, use_bias=False)

    def parts(images, kernel):
        pairs = zip(jnp.split(images, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        return jnp.concatenate([part.apply({'params': {'kernel': own}}, seen) for seen, own in pairs], -1)

    def value_and_gradients(convolve):
        return jax.jit(jax.value_and_grad(lambda *a: jnp.sum(jnp.sin(convolve(*a))), (0, 1)))(images, kernel)

    found = value_and_gradients(lambda images, kernel: whole.apply({'params': {'kernel': kernel}}, images))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, value_and_gradients(parts))


def convolved(values, kernel, stride=1):
    """Zeros around, so that the size stays at stride 1; as many groups as the kernel leaves."""
    (size, _, depth, features) = kernel.shape
    groups = values.shape[-1] // depth
    (height, width) = (-(-extent // stride) for extent in values.shape[1:3])
    reach = size // 2
    values = np.pad(values, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    result = np.zeros((len(values), height, width, features))
    for row, column in np.ndindex(height, width):
        window = values[:, row * stride : row * stride + size, column * stride : column * stride + size]
        for group in range(groups):
            own = slice(group * features // groups, (group + 1) * features // groups)
            seen = window[..., group * depth : (group + 1) * depth]
            result[:, row, column, own] = np.einsum('bijc,ijco->bo', seen, kernel[..., own])
    return result


class Reference:
    """The layers of a block in numpy, taken from its variables in the order in which it makes them."""

    def __init__(self, variables):
        self.params, self.stats = variables['params'], variables['batch_stats']
        self.made = {'Conv': 0, 'BatchNorm': 0, 'ConvNorm': 0}

    def _next(self, kind):
        self.made[kind] += 1
        return f'{kind}_{self.made[kind] - 1}'

    def conv(self, values, stride=1):
        return convolved(values, self.params[self._next('Conv')]['kernel'], stride)

    def norm(self, values):
        name = self._next('BatchNorm')
        return self._normed(values, self.params[name], self.stats[name])

    def conv_norm(self, values, stride=1):
        name = self._next('ConvNorm')
        values = convolved(values, self.params[name]['Conv_0']['kernel'], stride)
        return self._normed(values, self.params[name]['BatchNorm_0'], self.stats[name]['BatchNorm_0'])

    def _normed(self, values, params, stats):
        return (values - stats['mean']) / np.sqrt(stats['var'] + 1e-5) * params['scale'] + params['bias']


def relu(values):
    return np.maximum(values, 0)


def basic(layer, values, stride):
    inner = layer.norm(layer.conv(relu(layer.norm(layer.conv(values, stride)))))
    return relu(inner + layer.norm(layer.conv(values, stride)))


def wide(layer, values, stride, projects):
    first = relu(layer.norm(values))
    inner = layer.conv(relu(layer.norm(layer.conv(first, stride))))
    return inner + (layer.conv(first, stride) if projects else values)


def inverted(layer, values, stride, adds):
    inner = relu(layer.conv_norm(relu(layer.conv_norm(values)), stride))
    return layer.conv_norm(inner) + (values if adds else 0)


def shuffled(values, groups):
    order = [
        part * values.shape[-1] // groups + place
        for place in range(values.shape[-1] // groups)
        for part in range(groups)
    ]
    return values[..., order]


def shuffle_unit(layer, values, stride, groups):
    inner = shuffled(relu(layer.conv_norm(values)), groups)
    inner = layer.conv_norm(relu(layer.conv_norm(inner, stride)))
    if stride == 1:
        return relu(inner + values)
    ninth = np.full((3, 3, 1, values.shape[-1]), 1 / 9)
    return relu(np.concatenate([inner, convolved(values, ninth, 2)], -1))


def shuffle_unit_v2(layer, values, stride):
    if stride == 1:
        (aside, through) = np.split(values, 2, -1)
    else:
        aside, through = relu(layer.conv_norm(layer.conv_norm(values, 2))), values
    through = relu(layer.conv_norm(layer.conv_norm(relu(layer.conv_norm(through)), stride)))
    return shuffled(np.concatenate([aside, through], -1), 2)


@pytest.mark.parametrize(
    ('block', 'channels', 'reference'),
    [
        (BasicBlock(6, 2), 4, lambda *a: basic(*a, 2)),
        (PreActivationBlock(6, 2), 4, lambda *a: wide(*a, 2, True)),
        (PreActivationBlock(6, 1), 4, lambda *a: wide(*a, 1, True)),
        (PreActivationBlock(4, 1), 4, lambda *a: wide(*a, 1, False)),
        (InvertedResidual(4, 1, 3), 4, lambda *a: inverted(*a, 1, True)),
        (InvertedResidual(6, 1, 2), 4, lambda *a: inverted(*a, 1, False)),
        (InvertedResidual(4, 2, 1), 4, lambda *a: inverted(*a, 2, False)),
        (ShuffleUnit(24, 1), 24, lambda *a: shuffle_unit(*a, 1, 3)),
        (ShuffleUnit(36, 2), 12, lambda *a: shuffle_unit(*a, 2, 3)),
        (ShuffleUnit(18, 2, 1), 6, lambda *a: shuffle_unit(*a, 2, 1)),
        (ShuffleUnitV2(8, 1), 8, lambda *a: shuffle_unit_v2(*a, 1)),
        (ShuffleUnitV2(8, 2), 6, lambda *a: shuffle_unit_v2(*a, 2)),
    ],
)
def test_a_block_is_what_its_paper_draws(block, channels, reference):
    random = np.random.default_rng(0)
    values = random.normal(size=(2, 4, 6, channels)).astype(np.float32)
    variables = jax.tree.map_with_path(
        lambda path, leaf: (
            np.abs(random.normal(size=leaf.shape)).astype(np.float32) + 0.1
            if path[-1].key == 'var'
            else random.normal(size=leaf.shape).astype(np.float32)
        ),
        abstract_variables(block, values),
    )
    layer = Reference(variables)
    expected = reference(layer, values.astype(np.float64))
    assert sum(layer.made.values()) == len(variables['params'])
    found = jax.jit(block.apply)(variables, values)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ('name', 'unknown'),
    [
        ('resnet8x4', None),
        ('vgg8', None),
        ('wrn40_2', 'PreActivationBlock'),
        ('mobilenetv2', 'InvertedResidual'),
        ('shufflenetv1', 'ShuffleUnit'),
        ('shufflenetv2', 'ShuffleUnitV2'),
    ],
)
def test_bounds_refuse_blocks_without_a_rule_by_name(name, unknown):
    module = models.create(name)
    network = models.Network(module, abstract_variables(module))
    if unknown is None:
        check_layers(network)
    else:
        with pytest.raises(
            InputError, match=f"certified bounds have no rule for the layer '{unknown}'; there are rules for: Conv"
        ):
            check_layers(network)

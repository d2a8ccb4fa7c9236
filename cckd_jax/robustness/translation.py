"""From a network's own layers to the operations that bounds know: one rule for each type of layer."""

from collections.abc import Callable, Mapping
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.errors import InputError
from cckd_jax.models import Classifier, Network, layers
from cckd_jax.models.resnet import BasicBlock
from cckd_jax.robustness.operations import POINT, Affine, Box, Gain, Largest, Operation, Reach, Relu, Sum

Operations = tuple[Operation, ...]


def check_layers(network: Network) -> None:
    """Raises InputError for a network that shows no layers, or one that has a layer without a rule."""
    if not isinstance(network.module, Classifier):
        raise InputError(
            f'bounds walk through layers, and {type(network.module).__name__} shows none: '
            'derive it from cckd_jax.models.Classifier'
        )
    network.module.apply(network.variables, method=lambda module: [_rule(layer) for layer in module.layers()])


def operations(network: Network) -> Operations:
    """A network's layers, in inference mode and float32, as operations in order.

    A pool that follows a ReLU is taken before it: the largest of what is cut at 0 is the largest, cut at 0; and there
    are fewer signs to be open.
    """

    def walk(module: Classifier) -> Operations:
        order = list(module.layers())
        for place in range(len(order) - 1):
            if order[place] is nn.relu and isinstance(order[place + 1], layers.MaxPool):
                order[place : place + 2] = reversed(order[place : place + 2])
        return tuple(each for layer in order for each in _rule(layer)(layer))

    return network.module.apply(network.variables, method=walk)


def _rule(layer: Any) -> Callable[[Any], Operations]:
    for known, rule in RULES.items():
        if known is layer or known is type(layer):
            return rule
    there_are = ', '.join(known.__name__ for known in RULES)
    raise InputError(f'bounds do not know the layer {_name(layer)!r}; those they know: {there_are}')


def _name(layer: Any) -> str:
    return type(layer).__name__ if isinstance(layer, nn.Module) else getattr(layer, '__name__', type(layer).__name__)


def _weighted(layer: nn.Conv | nn.Dense) -> Operations:
    return _kernel(layer.clone(parent=None, dtype=jnp.float32), layer.variables['params'])


def _kernel(layer: nn.Conv | nn.Dense, params: Mapping[str, chex.Array]) -> Operations:
    unsigned = layer.clone(use_bias=False)
    size = {'params': {'kernel': jnp.abs(params['kernel'])}}
    reach = _reach(layer)
    unpadded = layer.clone(padding=0) if reach is not None else layer
    return (
        Affine(
            lambda values: layer.apply({'params': params}, values),
            lambda radii: unsigned.apply(size, radii),
            reach=reach,
            unpadded=lambda values: unpadded.apply({'params': params}, values),
        ),
    )


def _reach(layer: nn.Conv | nn.Dense) -> Reach | None:
    """Of a convolution of square kernel, the same padding all around, and no dilation: those of this package."""
    if not isinstance(layer, nn.Conv) or not isinstance(layer.padding, int):
        return None
    if len(layer.kernel_size) != 2 or len(set(layer.kernel_size)) != 1:
        return None
    dilated = any(each not in (1, None) for each in (layer.kernel_dilation, layer.input_dilation))
    if not isinstance(layer.strides, int) or dilated:
        return None
    return Reach(layer.kernel_size[0], layer.strides, layer.padding)


def _batch_norm(layer: layers.BatchNorm) -> Operations:
    return _scaling(layer.epsilon, layer.variables['params'], layer.variables['batch_stats'])


def _scaling(epsilon: float, params: Mapping[str, chex.Array], stats: Mapping[str, chex.Array]) -> Operations:
    scale = params['scale'] * jax.lax.rsqrt(stats['var'] + epsilon)
    across = lambda each, values: each.reshape((1,) * (values.ndim - 1) + each.shape)
    return (
        Affine(
            lambda values: (
                (values - across(stats['mean'], values)) * across(scale, values) + across(params['bias'], values)
            ),
            lambda radii: radii * across(jnp.abs(scale), radii),
            mixes=False,
            reach=POINT,
        ),
    )


def _pool(layer: layers.MaxPool) -> Operations:
    def windows(values: chex.Array) -> chex.Array:
        (rows, columns) = ((size - layer.window) // layer.stride + 1 for size in values.shape[1:3])
        reach = lambda start, count: slice(start, start + (count - 1) * layer.stride + 1, layer.stride)
        places = [(row, column) for row in range(layer.window) for column in range(layer.window)]
        return jnp.stack([values[:, reach(row, rows), reach(column, columns)] for row, column in places], 1)

    return (Affine(windows, windows, mixes=False, reach=Reach(layer.window, layer.stride)), Largest())


def _local_response_norm(layer: layers.LocalResponseNorm) -> Operations:
    def gain(squares: Box) -> Box:
        channels = np.arange(squares.lower.shape[-1])
        near = (np.abs(channels[:, None] - channels) <= layer.radius).astype(np.float32)
        ends = [(layer.bias + layer.alpha * (each @ near)) ** -layer.beta for each in squares]
        return Box(jnp.minimum(*ends), jnp.maximum(*ends))

    return (Gain(gain),)


def _basic_block(block: BasicBlock) -> Operations:
    params, stats = block.variables['params'], block.variables['batch_stats']

    def normed(place: int, size: int, stride: int) -> Operations:
        norm = f'BatchNorm_{place}'
        conv = layers.conv(block.channels, size, stride=stride, padding=size // 2, bias=False)
        scaling = _scaling(layers.BatchNorm.epsilon, params[norm], stats[norm])
        return (*_kernel(conv, params[f'Conv_{place}']), *scaling)

    inner = (*normed(0, 3, block.stride), Relu(), *normed(1, 3, 1))
    shortcut = normed(2, 1, block.stride) if 'Conv_2' in params else ()
    return (Sum((inner, shortcut)), Relu())


def _function(function: Callable[[chex.Array], chex.Array], mixes: bool) -> Callable[[Any], Operations]:
    return lambda layer: (Affine(function, function, mixes=mixes),)


RULES: Mapping[Any, Callable[[Any], Operations]] = {
    nn.Conv: _weighted,
    nn.Dense: _weighted,
    nn.relu: lambda layer: (Relu(),),
    layers.MaxPool: _pool,
    layers.flatten: _function(layers.flatten, mixes=False),
    layers.global_average: _function(layers.global_average, mixes=True),
    layers.BatchNorm: _batch_norm,
    layers.LocalResponseNorm: _local_response_norm,
    layers.Dropout: lambda layer: (),
    BasicBlock: _basic_block,
}

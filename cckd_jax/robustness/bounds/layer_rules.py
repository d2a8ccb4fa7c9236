"""Conversion of a network's layers to the operations of certified bounds: one rule per type of layer."""

from collections.abc import Callable, Mapping
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax import models
from cckd_jax.errors import InputError
from cckd_jax.models import Classifier, Network, layers
from cckd_jax.models.resnet import BasicBlock
from cckd_jax.robustness.bounds.operations import (
    POINTWISE,
    AffineOp,
    Box,
    MaxOp,
    Operation,
    ReceptiveField,
    ReluOp,
    ResidualOp,
    ScaleOp,
)

Operations = tuple[Operation, ...]


def check_layers(network: Network) -> None:
    """Raises InputError for a network that is not a `Classifier`, or has a layer without a rule."""
    if not isinstance(network.module, Classifier):
        raise InputError(
            f'certified bounds need a list of layers, which {type(network.module).__name__} does not provide; '
            'derive it from cckd_jax.models.Classifier'
        )
    network.module.apply(network.variables, method=lambda module: [find_rule(layer) for layer in module.layers()])


def to_operations(network: Network) -> Operations:
    """A network's layers, in inference mode and float32, as operations in order.

    A max pool after a ReLU is moved before it. The result is the same, and fewer ReLUs have an undecided sign.
    """

    def convert(module: Classifier) -> Operations:
        order = list(module.layers())
        for index in range(len(order) - 1):
            if order[index] is nn.relu and isinstance(order[index + 1], layers.MaxPool):
                order[index : index + 2] = reversed(order[index : index + 2])
        return tuple(operation for layer in order for operation in find_rule(layer)(layer))

    operations: Any = network.module.apply(network.variables, method=convert)
    return operations


def find_rule(layer: Any) -> Callable[[Any], Operations]:
    """The rule of a layer.

    Raises:
      InputError: there is none.
    """
    rule = models.find_rule(LAYER_RULES, layer)
    if rule is None:
        known = ', '.join(key.__name__ for key in LAYER_RULES)
        raise InputError(
            f'certified bounds have no rule for the layer {models.layer_name(layer)!r}; there are rules for: {known}'
        )
    return rule


def _weights(layer: nn.Conv | nn.Dense) -> Operations:
    return _affine(layer.clone(parent=None, dtype=jnp.float32), layer.variables['params'])


def _affine(layer: nn.Conv | nn.Dense, params: Mapping[str, chex.Array]) -> Operations:
    without_bias = layer.clone(use_bias=False)
    magnitude = {'params': {'kernel': jnp.abs(params['kernel'])}}
    field = _receptive_field(layer)
    unpadded = layer.clone(padding=0) if field is not None else layer
    return (
        AffineOp(
            lambda values: layer.apply({'params': params}, values),
            lambda radii: without_bias.apply(magnitude, radii),
            receptive_field=field,
            unpadded=lambda values: unpadded.apply({'params': params}, values),
        ),
    )


def _conv_max_pool(layer: layers.ConvMaxPool) -> Operations:
    (conv, pool) = layer.separate()
    return (*_affine(conv.clone(dtype=jnp.float32), layer.variables['params']), *_max_pool(pool))


def _receptive_field(layer: nn.Conv | nn.Dense) -> ReceptiveField | None:
    """For convolutions with a square kernel, equal padding on all sides and no dilation, as in this package."""
    if not isinstance(layer, nn.Conv) or not isinstance(layer.padding, int):
        return None
    sizes = layer.kernel_size
    if isinstance(sizes, int) or len(sizes) != 2 or len(set(sizes)) != 1:
        return None
    dilated = any(dilation not in (1, None) for dilation in (layer.kernel_dilation, layer.input_dilation))
    if not isinstance(layer.strides, int) or dilated:
        return None
    return ReceptiveField(sizes[0], layer.strides, -layer.padding)


def _batch_norm(layer: layers.BatchNorm) -> Operations:
    return _normalization(layer.epsilon, layer.variables['params'], layer.variables['batch_stats'])


def _normalization(epsilon: float, params: Mapping[str, chex.Array], stats: Mapping[str, chex.Array]) -> Operations:
    scale = params['scale'] * jax.lax.rsqrt(stats['var'] + epsilon)
    per_channel = lambda vector, values: vector.reshape((1,) * (values.ndim - 1) + vector.shape)

    def forward(values: chex.Array) -> chex.Array:
        centred = values - per_channel(stats['mean'], values)
        return centred * per_channel(scale, values) + per_channel(params['bias'], values)

    return (
        AffineOp(
            forward,
            lambda radii: radii * per_channel(jnp.abs(scale), radii),
            dense=False,
            receptive_field=POINTWISE,
        ),
    )


def _standardize(layer: layers.Standardize) -> Operations:
    scale = lambda radii: radii / jnp.asarray(layer.std, radii.dtype).reshape((1,) * (radii.ndim - 1) + (-1,))
    return (AffineOp(layer, scale, dense=False, receptive_field=POINTWISE),)


def _max_pool(layer: layers.MaxPool) -> Operations:
    def windows(values: chex.Array) -> chex.Array:
        (rows, columns) = ((size - layer.window) // layer.stride + 1 for size in values.shape[1:3])
        strided = lambda start, count: slice(start, start + (count - 1) * layer.stride + 1, layer.stride)
        corners = [(row, column) for row in range(layer.window) for column in range(layer.window)]
        return jnp.stack([values[:, strided(row, rows), strided(column, columns)] for row, column in corners], 1)

    field = ReceptiveField(layer.window, layer.stride)
    return (AffineOp(windows, windows, dense=False, receptive_field=field), MaxOp())


def _local_response_norm(layer: layers.LocalResponseNorm) -> Operations:
    def gain(squares: Box) -> Box:
        channels = np.arange(squares.lower.shape[-1])
        near = (np.abs(channels[:, None] - channels) <= layer.radius).astype(np.float32)
        ends = [(layer.bias + layer.alpha * (bound @ near)) ** -layer.beta for bound in squares]
        return Box(jnp.minimum(*ends), jnp.maximum(*ends))

    return (ScaleOp(gain),)


def _basic_block(block: BasicBlock) -> Operations:
    params, stats = block.variables['params'], block.variables['batch_stats']

    def conv_norm(index: int, size: int, stride: int) -> Operations:
        norm = f'BatchNorm_{index}'
        conv = layers.conv(block.channels, size, stride=stride, padding=size // 2, bias=False)
        normalization = _normalization(layers.BatchNorm.epsilon, params[norm], stats[norm])
        return (*_affine(conv, params[f'Conv_{index}']), *normalization)

    residual = (*conv_norm(0, 3, block.stride), ReluOp(), *conv_norm(1, 3, 1))
    shortcut = conv_norm(2, 1, block.stride) if 'Conv_2' in params else ()
    return (ResidualOp((residual, shortcut)), ReluOp())


def _linear_function(function: Callable[[chex.Array], chex.Array], dense: bool) -> Callable[[Any], Operations]:
    return lambda layer: (AffineOp(function, function, dense=dense),)


LAYER_RULES: Mapping[Any, Callable[[Any], Operations]] = {
    nn.Conv: _weights,
    nn.Dense: _weights,
    nn.relu: lambda layer: (ReluOp(),),
    layers.Standardize: _standardize,
    layers.MaxPool: _max_pool,
    layers.ConvMaxPool: _conv_max_pool,
    layers.flatten: _linear_function(layers.flatten, dense=False),
    layers.global_average: _linear_function(layers.global_average, dense=True),
    layers.BatchNorm: _batch_norm,
    layers.LocalResponseNorm: _local_response_norm,
    layers.Dropout: lambda layer: (),
    BasicBlock: _basic_block,
}

"""The layers of the package's networks as nodes of an ONNX graph: one rule per type of layer or block."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from cckd_jax.errors import InputError
from cckd_jax.export.onnx_graph import FLOAT32, Graph
from cckd_jax.models import Classifier, find_rule, layers
from cckd_jax.models.mobilenet import InvertedResidual
from cckd_jax.models.resnet import BasicBlock
from cckd_jax.models.shufflenet import ShuffleUnit, ShuffleUnitV2
from cckd_jax.models.wide_resnet import PreActivationBlock

# `(layer, graph, name of the input) -> name of the output`.
LayerRule = Callable[[Any, Graph, str], str]


def unknown_layer(module: Classifier) -> Any:
    """The first layer without a rule, or None; to be called on a bound module."""
    return next((layer for layer in module.layers() if find_rule(LAYER_RULES, layer) is None), None)


def add_layers(module: Classifier, graph: Graph, value: str) -> str:
    """Adds all layers of a bound module, which all have rules, and returns the name of the logits."""
    for layer in module.layers():
        rule: Any = find_rule(LAYER_RULES, layer)
        value = rule(layer, graph, value)
    return value


def _conv(layer: nn.Conv, graph: Graph, value: str) -> str:
    is_flat = isinstance(layer.kernel_size, tuple) and len(layer.kernel_size) == 2
    padding = _padding(layer) if is_flat else None
    if padding is None or _pair(layer.input_dilation) != [1, 1] or layer.mask is not None:
        raise InputError(
            f'cannot export the convolution {layer.name}: ONNX needs two axes, and no input dilation, mask, padding '
            'other than zeros, or SAME padding with both strides and dilation'
        )
    return graph.conv(
        value,
        layer.variables['params'],
        strides=_pair(layer.strides),
        dilations=_pair(layer.kernel_dilation),
        group=layer.feature_group_count,
        **padding,
    )


def _pair(setting: Any) -> list[int]:
    """A setting of a Flax convolution for both axes; None stands for 1."""
    return [setting or 1] * 2 if setting is None or isinstance(setting, int) else list(setting)


def _padding(layer: nn.Conv) -> dict[str, Any] | None:
    """Attributes of Conv for the padding of a Flax convolution, or None if ONNX cannot express it."""
    if layer.padding == 'SAME':
        return _same_padding(layer)
    if isinstance(layer.padding, str):
        return {'pads': [0] * 4} if layer.padding == 'VALID' else None
    pairs = [layer.padding] * 2 if isinstance(layer.padding, int) else list(layer.padding)
    ((top, bottom), (left, right)) = ((side, side) if isinstance(side, int) else side for side in pairs)
    return {'pads': [top, left, bottom, right]}


def _same_padding(layer: nn.Conv) -> dict[str, Any] | None:
    dilation = _pair(layer.kernel_dilation)
    if _pair(layer.strides) == [1, 1]:
        # Explicit, because onnxruntime refuses auto_pad with dilation.
        totals = [(size - 1) * step for size, step in zip(_pair(layer.kernel_size), dilation, strict=True)]
        return {'pads': [*(total // 2 for total in totals), *(total - total // 2 for total in totals)]}
    return {'auto_pad': 'SAME_UPPER'} if dilation == [1, 1] else None


def _square_conv(graph: Graph, value: str, params: Mapping[str, Any], *, stride: int = 1, groups: int = 1) -> str:
    """A convolution inside a block, which keeps the size of the image at stride 1."""
    padding = params['kernel'].shape[0] // 2
    return graph.conv(value, params, strides=[stride] * 2, pads=[padding] * 4, group=groups)


def _dense(layer: nn.Dense, graph: Graph, value: str) -> str:
    if graph.rank[value] != 2:
        raise InputError(f'cannot export the dense layer {layer.name}: its input is a feature map; flatten it first')
    return graph.dense(value, layer.variables['params'])


def _relu(layer: Any, graph: Graph, value: str) -> str:
    return graph.add('Relu', value)


def _max_pool(layer: layers.MaxPool, graph: Graph, value: str) -> str:
    return graph.add('MaxPool', value, kernel_shape=[layer.window] * 2, strides=[layer.stride] * 2)


def _conv_max_pool(layer: layers.ConvMaxPool, graph: Graph, value: str) -> str:
    (_, pool) = layer.separate()
    return _max_pool(pool, graph, _conv(layer, graph, value))


def _local_response_norm(layer: layers.LocalResponseNorm, graph: Graph, value: str) -> str:
    # An average over channels and roots, because onnxruntime takes ten times as long for its own LRN.
    def add(operator: str, *inputs: str, **attributes: Any) -> str:
        return graph.add(operator, *inputs, prefix=FLOAT32, **attributes)

    rank, size, axis = graph.rank[value], 2 * layer.radius + 1, graph.constant(np.array([1]))
    others = [0] * (rank - 2)
    squares = add('Unsqueeze', add('Mul', value, value), axis, rank=rank + 1)
    pads = [layer.radius, *others, layer.radius, *others]
    mean = add('AveragePool', squares, kernel_shape=[size, *[1] * (rank - 2)], pads=pads, count_include_pad=1)
    energy = add('Mul', add('Squeeze', mean, axis, rank=rank), graph.constant(np.array(layer.alpha * size)))
    base = add('Add', energy, graph.constant(np.array(layer.bias)))
    if layer.beta == 0.75:
        root = add('Sqrt', base)
        power = add('Mul', root, add('Sqrt', root))
    else:
        power = add('Pow', base, graph.constant(np.array(layer.beta)))
    return add('Div', value, power)


def _standardize(layer: layers.Standardize, graph: Graph, value: str) -> str:
    shape = (1, -1, *[1] * (graph.rank[value] - 2))
    (mean, std) = (graph.constant(np.array(values).reshape(shape)) for values in (layer.mean, layer.std))
    return graph.add('Div', graph.add('Sub', value, mean), std)


def _flatten(layer: Any, graph: Graph, value: str) -> str:
    if graph.rank[value] == 4:
        value = graph.add('Transpose', value, perm=[0, 2, 3, 1])
    return graph.add('Flatten', value, rank=2)


def _global_average(layer: Any, graph: Graph, value: str) -> str:
    return graph.add('Flatten', graph.add('GlobalAveragePool', value), rank=2)


def _batch_norm(layer: layers.BatchNorm, graph: Graph, value: str) -> str:
    return graph.batch_norm(value, layer.variables['params'], layer.variables['batch_stats'], layer.epsilon)


def _dropout(layer: layers.Dropout, graph: Graph, value: str) -> str:
    return value


class _Block:
    """The weights of a block's convolutions and batch norms, by the number that Flax gave them."""

    def __init__(self, block: nn.Module, graph: Graph):
        self._params, self._stats = block.variables['params'], block.variables['batch_stats']
        self._graph = graph

    def conv(self, number: int, value: str, *, stride: int = 1) -> str:
        return _square_conv(self._graph, value, self._params[f'Conv_{number}'], stride=stride)

    def norm(self, number: int, value: str) -> str:
        return self._norm(value, self._params, self._stats, number)

    def conv_norm(self, number: int, value: str, *, stride: int = 1, groups: int = 1) -> str:
        """The `layers.ConvNorm` of this number."""
        (params, stats) = (tree[f'ConvNorm_{number}'] for tree in (self._params, self._stats))
        value = _square_conv(self._graph, value, params['Conv_0'], stride=stride, groups=groups)
        return self._norm(value, params, stats, 0)

    def channels(self, number: int) -> int:
        """Output channels of the `layers.ConvNorm` of this number."""
        return self._params[f'ConvNorm_{number}']['Conv_0']['kernel'].shape[-1]

    def inputs(self, number: int, groups: int = 1) -> int:
        """Input channels of the `layers.ConvNorm` of this number."""
        return self._params[f'ConvNorm_{number}']['Conv_0']['kernel'].shape[2] * groups

    def __contains__(self, name: str) -> bool:
        return name in self._params

    def _norm(self, value: str, params: Mapping[str, Any], stats: Mapping[str, Any], number: int) -> str:
        name = f'BatchNorm_{number}'
        return self._graph.batch_norm(value, params[name], stats[name], layers.BatchNorm.epsilon)


def _basic_block(layer: BasicBlock, graph: Graph, value: str) -> str:
    block = _Block(layer, graph)
    inner = graph.add('Relu', block.norm(0, block.conv(0, value, stride=layer.stride)))
    inner = block.norm(1, block.conv(1, inner))
    if 'Conv_2' in block:
        value = block.norm(2, block.conv(2, value, stride=layer.stride))
    return graph.add('Relu', graph.add('Add', inner, value))


def _pre_activation_block(layer: PreActivationBlock, graph: Graph, value: str) -> str:
    block = _Block(layer, graph)
    first = graph.add('Relu', block.norm(0, value))
    inner = graph.add('Relu', block.norm(1, block.conv(0, first, stride=layer.stride)))
    shortcut = block.conv(2, first, stride=layer.stride) if 'Conv_2' in block else value
    return graph.add('Add', block.conv(1, inner), shortcut)


def _inverted_residual(layer: InvertedResidual, graph: Graph, value: str) -> str:
    block = _Block(layer, graph)
    inner = graph.add('Relu', block.conv_norm(0, value))
    inner = graph.add('Relu', block.conv_norm(1, inner, stride=layer.stride, groups=block.channels(1)))
    inner = block.conv_norm(2, inner)
    has_shortcut = layer.stride == 1 and block.inputs(0) == layer.channels
    return graph.add('Add', inner, value) if has_shortcut else inner


def _shuffle(graph: Graph, value: str, channels: int, groups: int) -> str:
    order = np.arange(channels).reshape(groups, -1).T.ravel()
    return graph.add('Gather', value, graph.constant(order), axis=1)


def _shuffle_unit(layer: ShuffleUnit, graph: Graph, value: str) -> str:
    block = _Block(layer, graph)
    hidden = block.channels(0)
    inner = graph.add('Relu', block.conv_norm(0, value, groups=layer.first_groups))
    inner = _shuffle(graph, inner, hidden, layer.first_groups)
    inner = graph.add('Relu', block.conv_norm(1, inner, stride=layer.stride, groups=hidden))
    inner = block.conv_norm(2, inner, groups=hidden // block.inputs(2))
    if layer.stride == 1:
        return graph.add('Relu', graph.add('Add', inner, value))
    pooled = graph.add(
        'AveragePool', value, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1
    )
    return graph.add('Relu', graph.add('Concat', inner, pooled, axis=1))


def _shuffle_unit_v2(layer: ShuffleUnitV2, graph: Graph, value: str) -> str:
    block = _Block(layer, graph)
    half = layer.channels // 2
    pointwise = lambda number, value: graph.add('Relu', block.conv_norm(number, value))
    depthwise = lambda number, value: block.conv_norm(number, value, stride=layer.stride, groups=block.channels(number))
    if layer.stride == 1:
        first = 0
        (identity_half, convolved_half) = (_channels(graph, value, start, start + half) for start in (0, half))
    else:
        first = 2
        (identity_half, convolved_half) = (pointwise(1, depthwise(0, value)), value)
    convolved_half = pointwise(first + 2, depthwise(first + 1, pointwise(first, convolved_half)))
    return _shuffle(graph, graph.add('Concat', identity_half, convolved_half, axis=1), layer.channels, 2)


def _channels(graph: Graph, value: str, start: int, stop: int) -> str:
    (starts, ends, axes) = (graph.constant(np.array([number])) for number in (start, stop, 1))
    return graph.add('Slice', value, starts, ends, axes)


LAYER_RULES: Mapping[Any, LayerRule] = {
    nn.Conv: _conv,
    nn.Dense: _dense,
    nn.relu: _relu,
    layers.MaxPool: _max_pool,
    layers.ConvMaxPool: _conv_max_pool,
    layers.LocalResponseNorm: _local_response_norm,
    layers.Standardize: _standardize,
    layers.flatten: _flatten,
    layers.global_average: _global_average,
    layers.BatchNorm: _batch_norm,
    layers.Dropout: _dropout,
    BasicBlock: _basic_block,
    PreActivationBlock: _pre_activation_block,
    InvertedResidual: _inverted_residual,
    ShuffleUnit: _shuffle_unit,
    ShuffleUnitV2: _shuffle_unit_v2,
}

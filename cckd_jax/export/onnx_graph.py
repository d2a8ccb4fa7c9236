"""An ONNX graph under construction: its nodes, its weights, and batch norm folded into the layer before it.

onnxscript and jax2onnx build graphs too, but from traced operations, and keep max pools of slices and NHWC layouts.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import onnx

# Read by every onnxruntime since 1.13.
_OPSET = 17
_IR_VERSION = 8
# Prefix of the nodes that int8 would make too coarse.
FLOAT32 = 'float32/'


class _Affine(NamedTuple):
    """The weights of a convolution or dense layer; `output_axis` is the kernel's axis of output channels."""

    kernel: str
    bias: str
    output_axis: int


class Graph:
    """Nodes and weights; values are named by strings, and feature maps are `[B, C, H, W]`.

    Attributes:
      rank: the number of axes of every value.
    """

    def __init__(self) -> None:
        self.rank: dict[str, int] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, np.ndarray] = {}
        self._foldable: dict[str, _Affine] = {}

    def add(self, operator: str, *inputs: str, rank: int | None = None, prefix: str = '', **attributes: Any) -> str:
        """Adds a node and returns the name of its output, which is also that of the node.

        Args:
          operator: of ONNX.
          *inputs: names of values.
          rank: of the output; that of the first input if None.
          prefix: of the name.
          **attributes: of the operator.
        """
        from onnx import helper  # an extra

        for name in inputs:
            self._foldable.pop(name, None)  # others would see the folded batch norm
        output = f'{prefix}{operator.lower()}_{len(self._nodes)}'
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        self.rank[output] = self.rank[inputs[0]] if rank is None else rank
        return output

    def constant(self, values: np.ndarray) -> str:
        """Adds a weight; floats are stored as float32 once all batch norms are folded."""
        name = f'weight_{len(self._weights)}'
        values = np.asarray(values)
        self._weights[name] = values.astype(np.float64) if np.issubdtype(values.dtype, np.floating) else values
        self.rank[name] = values.ndim
        return name

    def conv(self, value: str, params: Mapping[str, Any], **attributes: Any) -> str:
        """Adds a convolution with a Flax kernel `[H, W, C_in / groups, C_out]` and optional bias."""
        kernel = np.transpose(params['kernel'], (3, 2, 0, 1))
        affine = _Affine(self.constant(kernel), self._bias(params, len(kernel)), output_axis=0)
        output = self.add('Conv', value, affine.kernel, affine.bias, **attributes)
        self._foldable[output] = affine
        return output

    def dense(self, value: str, params: Mapping[str, Any]) -> str:
        """Adds a dense layer with a Flax kernel `[F_in, F_out]` and optional bias."""
        kernel = np.asarray(params['kernel'])
        affine = _Affine(self.constant(kernel), self._bias(params, kernel.shape[1]), output_axis=1)
        output = self.add('Gemm', value, affine.kernel, affine.bias)
        self._foldable[output] = affine
        return output

    def batch_norm(self, value: str, params: Mapping[str, Any], stats: Mapping[str, Any], epsilon: float) -> str:
        """Adds batch norm with running statistics; after a convolution or dense layer it changes their weights."""
        (scale, bias, mean, var) = (
            np.asarray(array, np.float64) for array in (params['scale'], params['bias'], stats['mean'], stats['var'])
        )
        affine = self._foldable.pop(value, None)
        if affine is None:
            constants = [self.constant(array) for array in (scale, bias, mean, var)]
            return self.add('BatchNormalization', value, *constants, prefix=FLOAT32, epsilon=epsilon)
        factor = scale / np.sqrt(var + epsilon)
        shape = [1] * self.rank[affine.kernel]
        shape[affine.output_axis] = -1
        self._weights[affine.kernel] *= factor.reshape(shape)
        self._weights[affine.bias] = (self._weights[affine.bias] - mean) * factor + bias
        return value

    def model(self, images: str, logits: str, image_shape: tuple[int, ...], classes: int) -> 'onnx.ModelProto':
        """The checked model from uint8 `images` `[B, H, W, C]` to float32 `logits` `[B, classes]`."""
        import onnx  # an extra
        from onnx import helper, numpy_helper

        self._nodes.append(helper.make_node('Identity', [logits], ['logits'], name='logits'))
        weights = [
            numpy_helper.from_array(values.astype(np.float32) if values.dtype == np.float64 else values, name)
            for name, values in self._weights.items()
        ]
        graph = helper.make_graph(
            self._nodes,
            'student',
            [helper.make_tensor_value_info(images, onnx.TensorProto.UINT8, ['B', *image_shape])],
            [helper.make_tensor_value_info('logits', onnx.TensorProto.FLOAT, ['B', classes])],
            weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid('', _OPSET)], ir_version=_IR_VERSION, producer_name='cckd-jax'
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _bias(self, params: Mapping[str, Any], channels: int) -> str:
        return self.constant(np.asarray(params.get('bias', np.zeros(channels))))

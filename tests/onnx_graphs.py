"""ONNX graphs that stand for teachers exported from another framework."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save_linear(
    path,
    kernel,
    *,
    image_shape,
    layout='nchw',
    batch='batch',
    kind=TensorProto.FLOAT,
    ending=(),
    sizes=None,
    inputs=('images',),
    outputs=('scores',),
    baked_batch=-1,
):
    """Writes `flatten(images) @ kernel`; the kernel `[H * W * C, classes]` is that of images in nhwc.

    Whatever `batch` declares, the nodes take `baked_batch` images, or any number if it is -1.
    """
    (height, width, channels) = image_shape
    if layout == 'nchw':
        kernel = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(-1, kernel.shape[-1])
    shape = [batch, *(sizes or ((channels, height, width) if layout == 'nchw' else image_shape))]
    nodes = [
        helper.make_node('Cast', [inputs[0]], ['pixels'], to=TensorProto.FLOAT),
        helper.make_node('Flatten', ['pixels'], ['flat']),
        helper.make_node('Reshape', ['flat', 'flat_shape'], ['rows']),
        helper.make_node('MatMul', ['rows', 'kernel'], ['product']),
    ]
    for index, name in enumerate(('Identity', *ending)):
        nodes.append(helper.make_node(name, [nodes[-1].output[0]], [f'value_{index}']))
    nodes += [helper.make_node('Identity', [nodes[-1].output[0]], [name]) for name in outputs]
    graph = helper.make_graph(
        nodes,
        'teacher',
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [
            numpy_helper.from_array(np.asarray(kernel, np.float32), 'kernel'),
            numpy_helper.from_array(np.array([baked_batch, len(kernel) if baked_batch == -1 else -1]), 'flat_shape'),
        ],
    )
    opset = helper.make_opsetid('', 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


def fitted_kernel(inputs, labels, classes, *, ridge=10.0):
    """The kernel of a ridge regression from inputs `[N, F]` to centred one-hot labels: a teacher without training."""
    targets = np.eye(classes)[labels] - 1 / classes
    # In the dual form, because images may have more pixels than there are images.
    return 10 * inputs.T @ np.linalg.solve(inputs @ inputs.T + ridge * np.eye(len(inputs)), targets)

"""ONNX files of a student, in float32 and int8, and their programs in onnxruntime."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from cckd_jax import cpu
from cckd_jax.errors import InputError
from cckd_jax.export.onnx_graph import FLOAT32, Graph
from cckd_jax.export.onnx_layers import add_layers, unknown_layer
from cckd_jax.export.student import PREPROCESSING, Student
from cckd_jax.imports import require
from cckd_jax.models import Classifier, layer_name

if TYPE_CHECKING:
    import onnx

_BATCH = 64  # images of a calibration step


def save(student: Student, path: Path) -> None:
    """Writes `student.onnx`: uint8 `images` `[B, H, W, C]` of any B to float32 `logits` `[B, C]`.

    The rules of `onnx_layers` write networks of this package. Other modules need jax2onnx.

    Raises:
      InputError: a package is missing, or the network has an operation that cannot be written.
    """
    require('onnx')
    import onnx  # an extra

    model = to_model(student)
    description = student.description
    properties = {
        'class_names': json.dumps(list(description.class_names)),
        'network': description.model,
        'dataset': description.dataset,
        'preprocessing': f'inside the graph: {PREPROCESSING}',
    }
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, path)


def to_model(student: Student) -> 'onnx.ModelProto':
    """The ONNX model of a student.

    Raises:
      InputError: the network has an operation that cannot be written.
    """
    (module, variables) = student.network
    if not isinstance(module, Classifier):
        return _by_jax2onnx(student, f'{type(module).__name__} has no list of layers')
    variables = jax.device_get(variables)
    unknown: Any = module.apply(variables, method=unknown_layer)
    if unknown is not None:
        return _by_jax2onnx(student, f'there is no rule for its layer {layer_name(unknown)!r}')
    graph = Graph()
    graph.rank['images'] = 4
    pixels = graph.add('Transpose', 'images', perm=[0, 3, 1, 2])
    unit = graph.add('Div', graph.add('Cast', pixels, to=1), graph.constant(np.array(255.0)))  # 1 is float32
    logits: Any = module.apply(variables, graph, unit, method=add_layers)
    return graph.model('images', logits, student.image_shape, len(student.class_names))


def quantize(source: Path, path: Path, images: np.ndarray) -> None:
    """Writes an int8 copy of a model: 8-bit weights per channel and activations, in QDQ format.

    Args:
      source: the float32 model.
      path: the file to write.
      images: uint8 `[N, H, W, C]`, which calibrate the ranges of activations.
    """
    import onnx  # an extra
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    class Images(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._batches: Iterator[np.ndarray] = iter(np.array_split(images, -(-len(images) // _BATCH)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {'images': batch}

    prepared = path.with_name(f'prepared.{source.name}')
    # The graph is optimal already, and keeps its names.
    shape_inference.quant_pre_process(source, prepared, skip_symbolic_shape=True, skip_optimization=True)
    precise = [node.name for node in onnx.load(source).graph.node if node.name.startswith(FLOAT32)]
    quantization.quantize_static(prepared, path, Images(), per_channel=True, nodes_to_exclude=precise)
    prepared.unlink()


def open_model(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function from uint8 images to logits that onnxruntime computes on the CPU."""
    require('onnxruntime')
    import onnxruntime  # an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(cpu.cores())
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    return lambda images: session.run(['logits'], {'images': images})[0]


def _by_jax2onnx(student: Student, reason: str) -> 'onnx.ModelProto':
    if importlib.util.find_spec('jax2onnx') is None:
        raise InputError(
            f'cannot export {student.description.model!r} as ONNX: {reason}; install jax2onnx, which traces any '
            'module, or leave onnx out of --formats'
        )
    try:
        from jax2onnx import to_onnx  # another extra, whose pins exclude ours

        shape = jax.ShapeDtypeStruct(('B', *student.image_shape), np.uint8)
        return to_onnx(
            lambda images: student.forward(student.network.variables, images),
            inputs=[shape],
            input_names=['images'],
            output_names=['logits'],
        )
    except Exception as error:  # a foreign converter of a foreign module
        text = ' '.join(str(error).split())[:200]
        raise InputError(
            f'jax2onnx cannot export {student.description.model!r} ({type(error).__name__}: {text}); leave onnx out of '
            '--formats'
        ) from None

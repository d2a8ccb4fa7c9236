"""Networks as ONNX graphs and StableHLO programs, which return their logits."""

import sys

import flax.linen as nn
import numpy as np
import onnx
import pytest
from students import assert_agree, images_of, random_student

from cckd_jax import models
from cckd_jax.errors import InputError
from cckd_jax.export import onnx_file, stablehlo
from cckd_jax.models import layers

# The fewest blocks and channels that have every kind of block.
SMALL = {
    'resnet18': {'width': 0.06, 'blocks': (1, 1), 'mean': (0.4, 0.5, 0.6), 'std': (0.2, 0.3, 0.25)},
    'resnet34': {'width': 0.06, 'blocks': (1, 1)},
    **{f'resnet{depth}': {'width': 0.5, 'blocks': (1, 1)} for depth in (20, 32, 44, 56)},
    'resnet8x4': {'width': 0.1, 'blocks': (1, 1)},
    'resnet20x4': {'width': 0.1, 'blocks': (1, 1)},
    'resnet32x4': {'width': 0.1, 'blocks': (1, 1)},
    'wrn40_2': {'width': 0.25, 'blocks': (1, 1)},
    'vgg8': {'width': 0.1},
    'vgg13': {'width': 0.1},
    'mobilenetv2': {'width': 0.25, 'blocks': (1, 2, 1, 1, 1, 1, 1), 'expansion': 2},
    'shufflenetv1': {'width': 0.1, 'blocks': (2, 1, 1)},
    'shufflenetv2': {'width': 0.1, 'blocks': (2, 1, 1)},
    'alexnet': {'width': 0.2},
    'alexnet_half': {'width': 0.1},
    'lenet5': {},
    'lenet5_half': {},
}


@pytest.mark.parametrize('name', models.MODELS)
def test_onnx_agrees_with_every_network(name, tmp_path):
    shape = (28, 28, 1) if name.startswith('lenet') else (32, 32, 3) if name.startswith('alexnet') else (8, 8, 3)
    student = random_student(name, shape, **SMALL[name])
    onnx_file.save(student, tmp_path / 'student.onnx')
    images = images_of(student)
    assert np.ptp(student(images), axis=0).max() > 0.01
    assert_agree(student, onnx_file.open_model(tmp_path / 'student.onnx'), images)


class Unusual(models.Classifier):
    """Settings of Flax's layers that the package's networks do not use."""

    def setup(self):
        self.convs = [
            nn.Conv(4, (3, 2), strides=(2, 1), padding='SAME'),
            nn.Conv(4, (3, 3), padding=((0, 1), (2, 0)), kernel_dilation=2, use_bias=False),
            nn.Conv(6, (2, 2), padding='VALID', feature_group_count=2),
            nn.Conv(8, (3, 2), padding='SAME', kernel_dilation=2),
        ]
        self.norm = layers.BatchNorm()
        self.output = nn.Dense(self.num_classes, use_bias=False)

    def stages(self):
        return ((self.norm, *self.convs, layers.LocalResponseNorm(1, 0.1, 0.6, 2.0), layers.MaxPool(3, 2)),)

    def classifier(self):
        return (layers.flatten, self.output)


class Unknown(models.Classifier):
    def setup(self):
        self.output = nn.Dense(self.num_classes)

    def stages(self):
        return ((nn.gelu,),)

    def classifier(self):
        return (layers.flatten, self.output)


class Dilated(Unknown):
    def setup(self):
        super().setup()
        self.conv = nn.Conv(4, (3, 3), strides=2, padding='SAME', kernel_dilation=2)

    def stages(self):
        return ((self.conv,),)


class Foreign(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))


def test_onnx_has_the_settings_of_flaxs_layers(tmp_path):
    student = random_student('test_export_networks:Unusual', (13, 12, 3))
    onnx_file.save(student, tmp_path / 'student.onnx')
    assert_agree(student, onnx_file.open_model(tmp_path / 'student.onnx'), images_of(student))


def test_a_convolution_that_onnx_cannot_express_is_one_line():
    with pytest.raises(InputError, match=r'cannot export the convolution conv: .* with both strides and dilation'):
        onnx_file.to_model(random_student('test_export_networks:Dilated', (8, 8, 1)))


@pytest.mark.parametrize(
    ('model', 'reason'),
    [('Unknown', "there is no rule for its layer 'gelu'"), ('Foreign', 'Foreign has no list of layers')],
)
def test_a_foreign_network_without_jax2onnx_is_one_line(model, reason, monkeypatch):
    monkeypatch.setitem(sys.modules, 'jax2onnx', None)
    student = random_student(f'test_export_networks:{model}', (8, 8, 1))
    with pytest.raises(
        InputError, match=f"cannot export 'test_export_networks:{model}' as ONNX: {reason}; install jax2onnx"
    ):
        onnx_file.to_model(student)


def test_a_foreign_network_is_a_program_for_any_batch(tmp_path):
    student = random_student('test_export_networks:Foreign', (8, 8, 1))
    stablehlo.save(student, tmp_path / 'student.stablehlo')
    program = stablehlo.open_program(tmp_path / 'student.stablehlo')
    assert_agree(student, program, images_of(student))
    assert program(images_of(student)[:1]).shape == (1, 7)


def test_the_graph_folds_batch_norm_into_convolutions():
    nodes = [node.op_type for node in onnx_file.to_model(random_student('vgg8', (8, 8, 3), width=0.05)).graph.node]
    assert nodes.count('Conv') == 5
    assert 'BatchNormalization' not in nodes


def test_the_graph_takes_pixels_and_any_batch():
    model = onnx_file.to_model(random_student('lenet5_half', (28, 28, 1)))
    (images, logits) = (model.graph.input[0], model.graph.output[0])
    facts = lambda value: (
        value.name,
        value.type.tensor_type.elem_type,
        [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim],
    )
    assert facts(images) == ('images', onnx.TensorProto.UINT8, ['B', 28, 28, 1])
    assert facts(logits) == ('logits', onnx.TensorProto.FLOAT, ['B', 7])


def test_a_program_for_cuda_has_ordinary_convolutions(monkeypatch):
    student = random_student('lenet5_half', (28, 28, 1))
    monkeypatch.setattr(stablehlo, 'PLATFORMS', ('cuda',))
    program = stablehlo.to_program(student).mlir_module()
    assert program.count('stablehlo.convolution') == 2
    monkeypatch.setattr(stablehlo, 'PLATFORMS', ('cpu',))
    assert 'stablehlo.convolution' not in stablehlo.to_program(student).mlir_module()

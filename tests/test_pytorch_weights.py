"""Weights of PyTorch in our ResNets give the logits of an independent forward pass in NumPy."""

import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import digits_config, forward, points_in_ball
from safetensors.numpy import save_file

from cckd_jax import data, evaluation, experiment, models
from cckd_jax.errors import InputError

CLASSES = 10
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
# (name of the layer, in, out, stride) of the two blocks of resnet20 with one block in each of two stages.
BLOCKS = (('layer1.0', 16, 16, 1), ('layer2.0', 16, 32, 2))


def state_dict(seed=0, classes=CLASSES):
    random = np.random.default_rng(seed)
    normal = lambda *shape: random.normal(scale=0.3, size=shape).astype(np.float32)
    arrays = {}

    def conv_and_norm(conv, norm, inputs, outputs, size):
        arrays[f'{conv}.weight'] = normal(outputs, inputs, size, size)
        arrays[f'{norm}.weight'], arrays[f'{norm}.bias'] = 1 + normal(outputs), normal(outputs)
        arrays[f'{norm}.running_mean'], arrays[f'{norm}.running_var'] = normal(outputs), 1 + normal(outputs) ** 2
        arrays[f'{norm}.num_batches_tracked'] = np.array(7)

    conv_and_norm('conv1', 'bn1', 3, 16, 3)
    for name, inputs, outputs, stride in BLOCKS:
        conv_and_norm(f'{name}.conv1', f'{name}.bn1', inputs, outputs, 3)
        conv_and_norm(f'{name}.conv2', f'{name}.bn2', outputs, outputs, 3)
        if stride == 2:
            conv_and_norm(f'{name}.downsample.0', f'{name}.downsample.1', inputs, outputs, 1)
    arrays['fc.weight'], arrays['fc.bias'] = normal(classes, 32), normal(classes)
    return arrays


def reference(arrays, images):
    """Logits of images `[B, C, H, W]`, in float64."""

    def conv(values, name, stride=1):
        kernel = arrays[f'{name}.weight'].astype(np.float64)
        padding = kernel.shape[-1] // 2
        padded = np.pad(values, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))
        return np.einsum('bchwij,ocij->bohw', windows[:, :, ::stride, ::stride], kernel)

    def norm(values, name):
        (scale, bias, mean, var) = (
            arrays[f'{name}.{field}'].reshape(-1, 1, 1) for field in ('weight', 'bias', 'running_mean', 'running_var')
        )
        return (values - mean) / np.sqrt(var + 1e-5) * scale + bias

    relu = lambda values: np.maximum(values, 0)
    values = relu(norm(conv(images, 'conv1'), 'bn1'))
    for name, _, _, stride in BLOCKS:
        inner = relu(norm(conv(values, f'{name}.conv1', stride), f'{name}.bn1'))
        inner = norm(conv(inner, f'{name}.conv2'), f'{name}.bn2')
        if stride == 2:
            values = norm(conv(values, f'{name}.downsample.0', stride), f'{name}.downsample.1')
        values = relu(inner + values)
    return values.mean((2, 3)) @ arrays['fc.weight'].T + arrays['fc.bias']


def renamed(arrays, *pairs):
    for old, new in pairs:
        arrays = {name.replace(old, new): values for name, values in arrays.items()}
    return arrays


@pytest.fixture(scope='module')
def images():
    return np.random.default_rng(1).uniform(size=(4, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    'names', [(), (('downsample', 'shortcut'), ('fc.', 'linear.')), (('conv1.', 'module.conv1.'),)], ids=str
)
def test_the_logits_are_those_of_the_weights(images, names):
    arrays = state_dict()
    if names and 'module' in names[0][1]:
        renamed_arrays = {f'module.{name}': values for name, values in arrays.items()}
    else:
        renamed_arrays = renamed(arrays, *names)
    module = models.create('resnet20', CLASSES, blocks=(1, 1), mean=MEAN, std=STD)
    network = models.Network(module, models.from_state_dict(module, renamed_arrays, (8, 8, 3)))
    expected = reference(arrays, ((images - MEAN) / STD).transpose(0, 3, 1, 2))
    np.testing.assert_allclose(forward(network, jnp.asarray(images)), expected, rtol=1e-4, atol=1e-4)


def test_certified_bounds_pass_the_standardization(images):
    module = models.create('resnet20', CLASSES, blocks=(1, 1), mean=MEAN, std=STD)
    network = models.Network(module, models.from_state_dict(module, state_dict(), (8, 8, 3)))
    bounds = lambda radius: evaluation.logit_bounds(network, jnp.asarray(images), radius, method='crown_ibp')
    (lower, upper) = bounds(0.01)
    logits = [forward(network, points) for points in points_in_ball(images, 0.01, 8)]
    assert all(bool(jnp.all((lower <= values + 1e-3) & (values - 1e-3 <= upper))) for values in logits)
    for bound in bounds(0.0):
        np.testing.assert_allclose(bound, forward(network, jnp.asarray(images)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            {'conv1.weight': np.zeros((16, 3, 7, 7))},
            r'conv1.weight .* \[16, 3, 7, 7\], .* ImageNet has 7x7.*teacher.onnx',
        ),
        ({'fc.weight': np.zeros((1000, 32))}, r'fc.weight .* \[1000, 32\], and the network needs \[10, 32\] .*classes'),
        ({'layer1.0.conv3.weight': np.zeros(1)}, 'bottleneck blocks, as in ResNet-50'),
        ({'layer2.0.downsample.0.weight': None}, 'the weights have no layer2.0.downsample.0.weight; export'),
        ({'layer2.1.conv1.weight': np.zeros(1)}, 'the weights have layer2.1.conv1.weight, which the network lacks'),
    ],
)
def test_weights_of_another_architecture_are_refused(change, message):
    arrays = {name: values for name, values in {**state_dict(), **change}.items() if values is not None}
    module = models.create('resnet20', CLASSES, blocks=(1, 1))
    with pytest.raises(InputError, match=message) as raised:
        models.from_state_dict(module, arrays, (8, 8, 3))
    assert len(str(raised.value).splitlines()) == 1


def test_files_that_are_no_weights_are_refused(tmp_path):
    (tmp_path / 'text.safetensors').write_text('no weights')
    with pytest.raises(InputError, match=r'cannot read weights from .*text\.safetensors'):
        models.read_state_dict(tmp_path / 'text.safetensors')
    with pytest.raises(InputError, match='no file of weights at'):
        models.read_state_dict(tmp_path / 'absent.safetensors')
    with pytest.raises(InputError, match='fit ResNets, and not a LeNet5'):
        models.from_state_dict(models.create('lenet5'), {}, (28, 28, 1))


def test_an_exported_student_is_no_checkpoint(tmp_path):
    path = tmp_path / 'student.safetensors'
    save_file({'params/output/bias': np.zeros(10, np.float32)}, path, metadata={'format': 'flax', 'config': '{}'})
    with pytest.raises(InputError, match=r'an exported student is not a checkpoint; give RUN/student$'):
        models.read_state_dict(path)


def test_a_dict_around_a_state_dict_is_listed(tmp_path, monkeypatch):
    array = np.zeros(3, np.float32)
    tensor = SimpleNamespace(float=lambda: SimpleNamespace(numpy=lambda: array))
    torch = SimpleNamespace(is_tensor=lambda value: value is tensor)
    monkeypatch.setitem(sys.modules, 'torch', torch)
    torch.load = lambda *args, **options: {'net': {'fc.bias': tensor}, 'acc': 0.9}
    with pytest.raises(InputError, match=r'net\.pt has net, acc and no state_dict; save the state dict alone$'):
        models.read_state_dict(tmp_path / 'net.pt')
    torch.load = lambda *args, **options: {'state_dict': {'fc.bias': tensor}, 'acc': 0.9}
    assert models.read_state_dict(tmp_path / 'net.pt') == {'fc.bias': array}


@pytest.mark.parametrize(
    ('suffix', 'package', 'remedy'),
    [('safetensors', 'safetensors', r"pip install '\.\[export\]'"), ('pt', 'torch', 'save a .safetensors file')],
)
def test_a_missing_package_is_named_with_a_way_out(suffix, package, remedy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f'{package}.* is not installed; .*{remedy}'):
        models.read_state_dict(tmp_path / f'net.{suffix}')


def test_a_mean_needs_a_network_with_that_option():
    fields = {'teacher.model': 'lenet5', 'teacher.checkpoint': 'a.pt', 'teacher.input_mean': (0.5,)}
    with pytest.raises(
        InputError, match=r'^input_mean needs a network with the option mean, .* lenet5 has none'
    ) as raised:
        experiment.check(digits_config(**fields))
    assert len(str(raised.value).splitlines()) == 1


def test_a_teacher_from_weights_of_pytorch_is_reported_when_it_guesses(tmp_path, one_device, capsys):
    """Its weights are random, so that it predicts at chance."""
    random = np.random.default_rng(0)
    arrays = {'x': random.integers(0, 256, (64, 8, 8, 3)).astype(np.uint8), 'y': np.arange(64) % CLASSES}
    path = tmp_path / 'noise.npz'
    np.savez(path, **{f'{name}_{split}': values for name, values in arrays.items() for split in ('train', 'test')})
    save_file(state_dict(), tmp_path / 'resnet.safetensors')
    config = digits_config(
        **{
            'method': 'kd',
            'dataset.name': str(path),
            'teacher.model': 'resnet20',
            'teacher.options.blocks': (1, 1),
            'teacher.checkpoint': str(tmp_path / 'resnet.safetensors'),
            'teacher.input_mean': MEAN,
            'teacher.input_std': STD,
            'student.model': 'helpers:Flat',
            'student.epochs': 1,
            'batch_size': 32,
            'separate.enabled': False,
        }
    )
    results = experiment.run(config, tmp_path / 'run', devices=one_device)
    assert (results['teacher']['model'], results['teacher']['epochs']) == ('resnet20', None)
    pixels = (np.asarray(data.to_unit(arrays['x'])) - MEAN) / STD
    expected = (reference(state_dict(), pixels.transpose(0, 3, 1, 2)).argmax(-1) == arrays['y']).mean()
    assert results['teacher']['test_accuracy'] == pytest.approx(expected)
    (warning,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith('warning'))
    assert 'resnet.safetensors, predicts' in warning
    assert 'in a random order it would predict' in warning


def test_a_mean_of_other_channels_is_refused(tmp_path, one_device):
    save_file(state_dict(), tmp_path / 'resnet.safetensors')
    fields = {'teacher.model': 'resnet20', 'teacher.checkpoint': str(tmp_path / 'resnet.safetensors')}
    fields |= {'teacher.input_mean': (0.5, 0.5)}
    with pytest.raises(InputError, match='has 2 values, and the images have 1 channels'):
        experiment.run(digits_config(**fields), tmp_path / 'run', devices=one_device)


def test_standardization_without_such_a_teacher_is_refused():
    with pytest.raises(InputError, match=r'teacher\.input_mean has no effect without teacher\.onnx, or'):
        experiment.check(digits_config(**{'teacher.input_mean': (0.5,)}))

"""A teacher in ONNX: its graph is checked, runs once over the data, and gives the logits of the network."""

import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers import digits_config, tiny_config
from onnx import TensorProto
from onnx_graphs import fitted_kernel, save_linear

from cckd_jax import experiment
from cckd_jax.errors import InputError
from cckd_jax.studies import seeds
from cckd_jax.studies.jobs import restore_networks
from cckd_jax.training import onnx_teacher
from cckd_jax.training.onnx_teacher import Preprocessing, load_onnx

SHAPE = (28, 28, 1)


@pytest.fixture(scope='module')
def kernel(digits):
    return fitted_kernel(digits.train.images.reshape(1437, -1) / 255, digits.train.labels, 10)


@pytest.fixture
def few(digits):
    """Forty training and ten test images."""
    return digits._replace(train=digits.train.take(np.arange(40)), test=digits.test.take(np.arange(10)))


@pytest.mark.parametrize('graph', [{}, {'batch': 7}, {'layout': 'nhwc'}, {'sizes': ('c', 'h', 'w')}])
def test_the_outputs_are_those_of_the_graph(tmp_path, few, kernel, graph):
    path = save_linear(tmp_path / 'teacher.onnx', kernel, image_shape=SHAPE, **graph)
    preprocessing = Preprocessing('nchw' if 'sizes' in graph else None, (-1, 1), (0.5,), (0.25,))
    outputs = load_onnx(path, few, preprocessing)
    for split, logits in zip((few.train, few.test), outputs, strict=True):
        pixels = (2 * (split.images.reshape(len(split), -1) / 255) - 1 - 0.5) / 0.25
        np.testing.assert_allclose(logits[:, 0], pixels @ kernel, rtol=1e-4, atol=1e-3)


def test_channels_are_moved_and_scaled_each_by_its_own_mean(tmp_path, few):
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 4, 3)).astype(np.uint8)
    colour = few._replace(train=replace(few.train, images=images), test=replace(few.test, images=images[:10]))
    kernel = np.random.default_rng(1).normal(size=(60, 10))
    path = save_linear(tmp_path / 'teacher.onnx', kernel, image_shape=(5, 4, 3))
    (mean, std) = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    outputs = load_onnx(path, colour, Preprocessing(mean=mean, std=std))
    pixels = (images / 255 - mean) / std
    np.testing.assert_allclose(outputs.train[:, 0], pixels.reshape(40, -1) @ kernel, rtol=1e-4, atol=1e-3)


def test_a_graph_of_uint8_receives_the_pixels(tmp_path, few, kernel):
    path = save_linear(tmp_path / 'teacher.onnx', kernel / 255, image_shape=SHAPE, kind=TensorProto.UINT8)
    logits = load_onnx(path, few, Preprocessing()).train[:, 0]
    np.testing.assert_allclose(logits, few.train.images.reshape(40, -1) / 255 @ kernel, rtol=1e-4, atol=1e-3)
    with pytest.raises(InputError, match='takes uint8 pixels as they are, and input_mean is set; remove it'):
        load_onnx(path, few, Preprocessing(mean=(0.5,)))


def test_the_teacher_runs_once_until_something_changes(tmp_path, few, kernel, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    path = save_linear(tmp_path / 'teacher.onnx', kernel, image_shape=SHAPE)
    runs = []
    run = onnx_teacher._Graph.logits
    monkeypatch.setattr(onnx_teacher._Graph, 'logits', lambda *args: runs.append(1) or run(*args))
    first = load_onnx(path, few, Preprocessing()).train
    np.testing.assert_array_equal(load_onnx(path, few, Preprocessing()).train, first)
    assert len(runs) == 2  # the training and the test split
    load_onnx(path, few, Preprocessing(mean=(0.5,)))
    assert len(runs) == 4
    save_linear(path, 2 * kernel, image_shape=SHAPE)
    np.testing.assert_allclose(load_onnx(path, few, Preprocessing()).train, 2 * first, rtol=1e-5)
    assert len(runs) == 6
    for cached in (tmp_path / 'cache').rglob('onnx-*.npz'):
        cached.write_bytes(cached.read_bytes()[:100])
    np.testing.assert_allclose(load_onnx(path, few, Preprocessing()).train, 2 * first, rtol=1e-5)
    assert len(runs) == 8


@pytest.mark.parametrize(
    ('graph', 'message'),
    [
        ({'sizes': ('c', 27, 28)}, r'takes images of \[batch, c, 27, 28\]; the data set needs \[batch, 28, 28, 1\] or'),
        ({'sizes': (784,)}, r'takes images of \[batch, 784\]'),
        ({'sizes': ('c', 'h', 'w')}, 'takes both layouts; set input_layout to nhwc or nchw'),
        ({'classes': 9}, r'returns \[batch, 9\]; 10 classes need \[batch, 10\]'),
        ({'inputs': ('a', 'b')}, r'has 2 inputs \(a, b\); a teacher has one, images'),
        ({'outputs': ('a', 'b')}, r'has 2 outputs \(a, b\); name one of them logits'),
        ({'kind': TensorProto.INT64}, r'takes tensor\(int64\); a teacher takes tensor\(uint8\), '),
        ({'baked_batch': 2}, 'cannot run a batch of 3 images: .*; export it with a dynamic batch axis'),
        ({'baked_batch': 3}, 'cannot run a batch of 40 images: .*; export it with a dynamic batch axis'),
        ({'ending': ('ReduceMean',)}, r'returns \[1, 1\] for a batch of 3 images; export it with a dynamic batch axis'),
        ({'ending': ('Softmax',)}, 'on train images are probabilities: .*check_logits=false'),
        ({'ending': ('Log',)}, 'on train images must be finite floats'),
    ],
)
def test_graphs_that_do_not_fit_are_refused(tmp_path, few, kernel, graph, message):
    columns = graph.pop('classes', 10)
    path = save_linear(tmp_path / 'teacher.onnx', kernel[:, :columns], image_shape=SHAPE, **graph)
    with pytest.raises(InputError, match=message) as raised:
        load_onnx(path, few, Preprocessing())
    assert len(str(raised.value).splitlines()) == 1


def test_of_several_outputs_the_one_named_logits_is_read(tmp_path, few, kernel):
    path = save_linear(tmp_path / 'teacher.onnx', kernel, image_shape=SHAPE, outputs=('logits',))
    model = onnx.load(path)
    model.graph.output.insert(0, onnx.helper.make_tensor_value_info('flat', TensorProto.FLOAT, None))
    onnx.save(model, path)
    logits = load_onnx(path, few, Preprocessing()).train[:, 0]
    np.testing.assert_allclose(logits, few.train.images.reshape(40, -1) / 255 @ kernel, rtol=1e-4, atol=1e-3)


def test_weights_in_a_file_of_their_own_are_part_of_the_key(tmp_path, few, kernel):
    path = save_linear(tmp_path / 'teacher.onnx', kernel, image_shape=SHAPE)
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location='weights.bin', size_threshold=1000)
    first = load_onnx(path, few, Preprocessing()).train
    weights = tmp_path / 'weights.bin'
    weights.write_bytes((2 * np.fromfile(weights, np.float32)).tobytes())
    np.testing.assert_allclose(load_onnx(path, few, Preprocessing()).train, 2 * first, rtol=1e-5)


@pytest.mark.parametrize('package', ['onnx', 'onnxruntime'])
def test_a_missing_package_is_named_with_its_command(tmp_path, few, kernel, package, monkeypatch):
    path = save_linear(tmp_path / 'teacher.onnx', kernel, image_shape=SHAPE)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"^{package} is not installed; pip install '\.\[export\]'"):
        load_onnx(path, few, Preprocessing())


def test_files_and_settings_that_cannot_be_used_are_refused(tmp_path, few, kernel):
    with pytest.raises(InputError, match=r'no ONNX file at .*absent\.onnx'):
        load_onnx(tmp_path / 'absent.onnx', few, Preprocessing())
    (tmp_path / 'text.onnx').write_text('no graph')
    with pytest.raises(InputError, match=r'cannot read .*text\.onnx as an ONNX graph'):
        load_onnx(tmp_path / 'text.onnx', few, Preprocessing())
    path = save_linear(tmp_path / 'teacher.onnx', kernel, image_shape=SHAPE)
    with pytest.raises(InputError, match='has 2 values, and the images have 1 channels'):
        load_onnx(path, few, Preprocessing(mean=(0.5, 0.5)))


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'method': 'faithful_adversarial'}, 'points near the images, and teacher.onnx covers .* such as cckd_t or kd'),
        ({'augmentation.flip': True}, 'the logits of teacher.onnx belong to the original images, and augmentation'),
        ({'evaluate.faithfulness': True}, 'teacher.onnx covers the images alone'),
        ({'method': 'ca_mkd', 'num_teachers': 2}, 'feature maps, which teachers.0.onnx does not give'),
        ({'teacher.self_regulate': True}, 'needs a teacher that is trained, and teacher.onnx is set'),
        ({'teacher.logits': 'a.npz'}, 'teacher.logits and teacher.onnx are both set'),
        ({'teacher.input_range': (1, 0)}, r'teacher.input_range=\(1, 0\) must be two numbers'),
        ({'teacher.input_std': (0.5, 0.0)}, 'teacher.input_std=.* must be one or more numbers above 0'),
        ({'teacher.input_layout': 'hwc'}, 'teacher.input_layout=hwc must be nhwc or nchw'),
        ({'teacher.onnx': None, 'teacher.input_layout': 'nchw'}, 'input_layout has no effect without teacher.onnx'),
        ({'method': 'hybrid'}, 'needs the significance of samples, which teacher.onnx does not give'),
    ],
)
def test_settings_that_an_onnx_teacher_cannot_serve_are_refused(fields, message):
    config = digits_config(**{'method': 'kd', 'teacher.onnx': 'a.onnx', **fields})
    with pytest.raises(InputError, match=message):
        experiment.check(config)


def test_a_student_learns_from_teachers_in_onnx(tmp_path, kernel, one_device, capsys):
    path = save_linear(tmp_path / 'teacher.onnx', kernel, image_shape=SHAPE)
    rolled = save_linear(tmp_path / 'rolled.onnx', np.roll(kernel, 1, axis=1), image_shape=SHAPE)
    config = tiny_config(
        **{
            'method': 'aver',
            'num_teachers': 2,
            'teacher.onnx': str(path),
            'teachers.1.onnx': str(rolled),
            'separate.enabled': False,
        }
    )
    results = experiment.run(config, tmp_path / 'run', devices=one_device)
    assert results['teacher']['test_accuracy'][0] > 0.9
    assert not {'teacher_0', 'teacher_1'} & {path.name for path in (tmp_path / 'run').iterdir()}
    lines = capsys.readouterr().err.splitlines()
    assert f'the teacher in {path} predicts 95.31% of the training labels' in lines
    (warning,) = (line for line in lines if line.startswith('warning'))
    assert 'if its classes are renumbered (0 to 9, 1 to 0, 2 to 1' in warning


def test_a_study_keeps_its_teachers_in_onnx(tmp_path):
    config = digits_config(**{'teacher.onnx': 'a.onnx'})
    assert restore_networks(config, tmp_path, baseline='separate') == {'attack.checkpoint': str(tmp_path / 'separate')}


def test_a_study_without_the_baseline_restores_and_draws_none(tmp_path):
    config = digits_config(**{'separate.enabled': False})
    assert 'attack.checkpoint' not in restore_networks(config, tmp_path, baseline='separate')
    estimate = {'mean': 0.9, 'half_width': 0.1}
    values = {'teacher.test_accuracy': None, 'separate.test_accuracy': None, 'student.test_accuracy': estimate}
    (line,) = seeds._lines([{'row': 'kd', **values}])
    assert line[0] == 'kd'

"""Students outside their runs: loaded, and exported as ONNX, StableHLO and safetensors."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
import safetensors
from helpers import digits_config, random_split

import cckd_jax
from cckd_jax import __main__ as command, data, interrupt, models
from cckd_jax.errors import InputError
from cckd_jax.export import Description, Student, exporting, latency, onnx_file, stablehlo, verification, weights
from cckd_jax.export.formats import FORMATS
from cckd_jax.models import layers

CLASSES = tuple('abcdefg')
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


@pytest.fixture(autouse=True)
def _keep_the_handler_of_pytest(monkeypatch):
    monkeypatch.setattr(interrupt, 'exit_at_once', lambda: None)


def random_student(model, shape, **options):
    """A student all of whose weights and running statistics are random."""
    description = Description(model, options, 'noise', CLASSES, shape)
    module = description.create()
    variables = jax.eval_shape(lambda: models.init(module, jax.random.key(0), jnp.zeros((1, *shape))))
    random = np.random.default_rng(0)

    def drawn(path, leaf):
        values = random.normal(size=leaf.shape).astype(np.float32)
        if path[-1].key == 'kernel':
            return values * np.float32(np.sqrt(2 / np.prod(leaf.shape[:-1])))
        return np.exp(0.3 * values) if path[-1].key in ('scale', 'var') else 0.3 * values

    return Student(description, jax.tree.map_with_path(drawn, variables))


def images_of(student):
    """Noise of three brightnesses."""
    images = random_split(3, shape=student.image_shape).images
    return (images * np.array([0.2, 0.6, 1.0]).reshape(3, 1, 1, 1)).astype(np.uint8)


def assert_agree(student, function, images):
    comparison = verification.compare(function(images), student(images), np.zeros(len(images)))
    assert comparison.relative_difference < 1e-5
    assert comparison.changed_predictions == 0


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


def test_onnx_has_the_settings_of_flaxs_layers(tmp_path):
    student = random_student('test_export:Unusual', (13, 12, 3))
    onnx_file.save(student, tmp_path / 'student.onnx')
    assert_agree(student, onnx_file.open_model(tmp_path / 'student.onnx'), images_of(student))


@pytest.mark.parametrize(
    ('model', 'reason'),
    [('Unknown', "there is no rule for its layer 'gelu'"), ('Foreign', 'Foreign has no list of layers')],
)
def test_a_foreign_network_without_jax2onnx_is_one_line(model, reason, monkeypatch):
    monkeypatch.setitem(sys.modules, 'jax2onnx', None)
    student = random_student(f'test_export:{model}', (8, 8, 1))
    with pytest.raises(InputError, match=f"cannot export 'test_export:{model}' as ONNX: {reason}; install jax2onnx"):
        onnx_file.to_model(student)


class Foreign(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))


def test_a_foreign_network_is_a_program_for_any_batch(tmp_path):
    student = random_student('test_export:Foreign', (8, 8, 1))
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


@pytest.fixture(scope='module')
def exported(trained, tmp_path_factory):
    output = tmp_path_factory.mktemp('exported') / 'files'
    arguments = ['export', f'--run={trained}', f'--output={output}', '--int8']
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(interrupt, 'exit_at_once', lambda: None)
        assert command.main(arguments) == 0
    return output


def test_an_export_writes_verified_files_and_a_card(exported, trained):
    files = ['student.onnx', 'student.stablehlo', 'student.safetensors', 'student.int8.onnx']
    assert {path.name for path in exported.iterdir()} == {*files, 'card.md'}
    card = (exported / 'card.md').read_text()
    rows = {row.split('|')[1].strip(): row.split('|')[2:-1] for row in card.splitlines() if row.startswith('|')}
    accuracy = json.loads((trained / 'results.json').read_text())['student']['test_accuracy']
    for name in files:
        (size, measured, _, relative, changed, *latencies) = rows[f'`{name}`']
        assert size.strip() == f'{(exported / name).stat().st_size / 1000:,.1f} kB'
        assert all(float(milliseconds) > 0 for milliseconds in latencies)
        if 'int8' in name:
            assert abs(float(measured.strip(' %')) / 100 - accuracy) < 0.02
        else:
            assert measured.strip() == f'{accuracy:.2%}'
            assert float(relative) <= 1e-4
            assert int(changed) == 0
    assert (exported / 'student.int8.onnx').stat().st_size < 0.4 * (exported / 'student.onnx').stat().st_size
    assert 'float32(pixels) / 255' in card
    assert '0, 1, 2, 3, 4, 5, 6, 7, 8, 9' in card


def test_exported_files_answer_without_the_run(exported, trained, digits):
    student = cckd_jax.export.load(trained)
    images = digits.test.images[:5]
    for name in ('onnx', 'stablehlo', 'safetensors'):
        assert_agree(student, FORMATS[name].open(exported / FORMATS[name].file), images)
    reloaded = cckd_jax.export.load(exported / 'student.safetensors')
    assert reloaded.description == student.description


def test_the_onnx_file_answers_without_jax(exported, tmp_path, digits):
    script = """
import sys
sys.modules['jax'] = None
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
(logits,) = session.run(['logits'], {'images': np.load(sys.argv[2])})
print((logits.argmax(-1) == np.load(sys.argv[3])).mean())
"""
    np.save(tmp_path / 'images.npy', digits.test.images)
    np.save(tmp_path / 'labels.npy', digits.test.labels)
    arguments = [exported / 'student.onnx', tmp_path / 'images.npy', tmp_path / 'labels.npy']
    done = subprocess.run([sys.executable, '-c', script, *arguments], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0.85


@pytest.mark.parametrize('model', ['alexnet_half', 'resnet18'])
def test_a_trained_network_is_exported(model, tmp_path, one_device, monkeypatch):
    options = {'alexnet_half': {'width': 0.1}, 'resnet18': {'width': 0.05, 'blocks': (1, 1)}}[model]
    config = digits_config(
        **{
            'method': 'separate',
            'dataset.image_shape': (32, 32, 3),
            'dataset.examples': 256,
            'student.epochs': 2,
            'teacher.epochs': 1,
            'teacher.model': 'helpers:Flat',
            'student.model': model,
            'evaluate.transfer_attack': False,
        }
    )
    config.student.options = options
    cckd_jax.experiment.run(config, tmp_path / 'run', devices=one_device)
    monkeypatch.setattr(latency, 'measure', no_latency)
    paths = exporting.export(tmp_path / 'run', tmp_path / 'files', list(FORMATS.values()), int8=True)
    assert [path.name for path in paths if not path.exists()] == []


def no_latency(run, files):
    return {name: {'1': 1.0, '64': 1.0} for name in (latency.STUDENT, *(file.name for file in files))}


@pytest.mark.parametrize('wrong', ['weights', 'nan'])
def test_a_file_that_differs_is_refused_and_nothing_is_kept(wrong, trained, tmp_path, monkeypatch, capsys):
    to_model = onnx_file.to_model

    def changed(student):
        model = to_model(student)
        (bias,) = (weight for weight in model.graph.initializer if list(weight.dims) == [10])
        values = onnx.numpy_helper.to_array(bias) + np.float32(0.05 if wrong == 'weights' else np.nan)
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        return model

    monkeypatch.setattr(onnx_file, 'to_model', changed)
    arguments = ['export', f'--run={trained}', f'--output={tmp_path / "files"}', '--formats=safetensors,onnx']
    assert command.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: student.onnx differs from the student on the test split, and nothing is exported')
    assert not (tmp_path / 'files').exists()


def test_the_relative_difference_is_of_the_largest_logit():
    logits = np.array([[0.0, -2.0], [1.0, 0.5]])
    comparison = verification.compare(logits + np.array([[0.5, 0.0], [0.0, 0.6]]), logits, np.array([0, 0]))
    np.testing.assert_allclose(comparison, (0.5, 0.6, 0.6, 1))


def test_a_student_loads_from_a_moved_directory_without_data_or_teacher(trained, tmp_path, monkeypatch, digits):
    run = tmp_path / 'moved'
    shutil.copytree(trained, run)
    shutil.rmtree(run / 'teacher')
    (run / 'teacher_outputs.npz').unlink()
    monkeypatch.setattr(data, 'load', lambda *a, **k: pytest.fail('read the data set'))
    before = {path: path.stat().st_mtime_ns for path in run.rglob('*')}
    student = cckd_jax.export.load(run)
    assert (student.image_shape, student.class_names) == ((28, 28, 1), tuple('0123456789'))
    predictions = student.predict(digits.test.images)
    accuracy = json.loads((run / 'results.json').read_text())['student']['test_accuracy']
    assert (predictions == digits.test.labels).mean() == pytest.approx(accuracy, abs=1e-6)
    assert {path: path.stat().st_mtime_ns for path in run.rglob('*')} == before


def test_any_batch_size_takes_few_programs(trained, digits):
    student = cckd_jax.export.load(trained)
    images = digits.test.images
    whole = student(images)
    assert whole.dtype == np.float32
    for count in (0, 1, 2, 3, 5, 6, 7, 8, 300):
        logits = student(images[:count])
        assert logits.shape == (count, 10)
        np.testing.assert_allclose(logits, whole[:count], rtol=1e-5, atol=1e-4)
    # 1, 2, 4, 8, 64, 128 and 256.
    assert student._logits._cache_size() <= 7
    np.testing.assert_allclose(student(images[:8] / 255.0), whole[:8], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ('images', 'message'),
    [
        (np.zeros((28, 28, 1), np.uint8), r'must be \[B, 28, 28, 1\], not \[28, 28, 1\]'),
        (np.zeros((2, 28, 28, 3), np.uint8), r'not \[2, 28, 28, 3\]'),
        (np.zeros((2, 28, 28, 1), np.int32), 'must be uint8, or float in .*, not int32'),
        (np.full((2, 28, 28, 1), 255.0), 'divide pixels by 255'),
        (np.full((2, 28, 28, 1), np.nan), 'divide pixels by 255'),
    ],
)
def test_wrong_images_are_refused(images, message):
    with pytest.raises(InputError, match=message):
        random_student('lenet5_half', (28, 28, 1))(images)


def damaged(run):
    for path in (run / 'student' / 'checkpoints').rglob('*'):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def an_epoch_short(run):
    config = json.loads((run / 'config.json').read_text())
    config['student']['epochs'] += 1
    (run / 'config.json').write_text(json.dumps(config))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (shutil.rmtree, 'no run at'),
        (lambda run: shutil.rmtree(run / 'student'), 'has no trained student; give a run directory, or finish the run'),
        (damaged, 'no readable checkpoint in'),
        (an_epoch_short, '16 of 17 epochs; finish the run'),
        (lambda run: (run / 'config.json').write_text('{'), 'config.json cannot be read'),
    ],
)
def test_a_run_without_a_whole_student_is_one_line(change, message, trained, tmp_path, capsys):
    run = tmp_path / 'run'
    shutil.copytree(trained, run)
    change(run)
    assert command.main(['predict', f'--run={run}', 'image.png']) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith('error: ')
    assert message in line


def test_a_run_of_an_earlier_version_has_numbers_for_names(trained, tmp_path):
    run = tmp_path / 'run'
    shutil.copytree(trained, run)
    results = json.loads((run / 'results.json').read_text())
    assert results.pop('class_names') == list('0123456789')
    (run / 'results.json').write_text(json.dumps(results))
    assert cckd_jax.export.load(run).class_names == tuple('0123456789')
    results['class_names'] = [f'digit {index}' for index in range(10)]
    (run / 'results.json').write_text(json.dumps(results))
    assert cckd_jax.export.load(run).class_names[3] == 'digit 3'


def test_a_damaged_safetensors_file_is_one_line(tmp_path):
    student = random_student('lenet5_half', (28, 28, 1))
    path = tmp_path / 'student.safetensors'
    weights.save(student, path)
    with safetensors.safe_open(path, 'numpy') as file:
        assert json.loads(file.metadata()['config'])['class_names'] == list(CLASSES)
    path.write_bytes(path.read_bytes()[:1000])
    for broken in (path, tmp_path / 'missing.safetensors'):
        with pytest.raises(InputError, match=f'(cannot read a student from|no file at) {broken}'):
            cckd_jax.export.load(broken)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--formats=onxx'], "unknown format 'onxx' (did you mean 'onnx'?); there are: onnx, stablehlo, safetensors"),
        (['--formats=safetensors', '--int8'], '--int8 is made from the ONNX file; add onnx to --formats=safetensors'),
        (['--output=/proc/files'], 'cannot use --output=/proc/files'),
        (['--run=missing'], 'no run at missing'),
        (['--dataset=missing.npz'], 'no data set at missing.npz'),
        (['--formatz=onnx'], 'unrecognized arguments: --formatz=onnx; see cckd-jax export --help'),
    ],
)
def test_a_wrong_export_is_one_line(arguments, message, trained, tmp_path, capsys):
    given = {'--run': trained, '--output': tmp_path / 'files', '--formats': 'safetensors'}
    defaults = [f'{name}={value}' for name, value in given.items()]
    assert command.main(['export', *defaults, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'error: {message}')
    assert not (tmp_path / 'files').exists()


def test_a_missing_package_is_named_with_its_command(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert command.main(['export', f'--run={trained}', f'--output={tmp_path / "files"}']) == 2
    assert "error: onnxruntime is not installed; pip install '.[export]'" in capsys.readouterr().err


def test_the_page_loads_a_student_in_three_lines(trained, digits):
    page = (Path(__file__).parents[1] / 'docs' / 'export.md').read_text()
    (code,) = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    names = {'images': digits.test.images[:3]}
    exec(code.replace('runs/mnist', str(trained)), names)
    assert names['logits'].shape == (3, 10)
    assert set(names['names']) <= set('0123456789')

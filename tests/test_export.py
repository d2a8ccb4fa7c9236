"""Students of runs, exported as ONNX, StableHLO and safetensors files, each verified."""

import dataclasses
import importlib.metadata
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from helpers import digits_config
from students import assert_agree, random_student

import cckd_jax
from cckd_jax import __main__ as command, interrupt
from cckd_jax.errors import InputError
from cckd_jax.export import card, exporting, latency, onnx_file, verification
from cckd_jax.export.formats import FORMATS


@pytest.fixture(autouse=True)
def _keep_the_handler_of_pytest(monkeypatch):
    monkeypatch.setattr(interrupt, 'exit_at_once', lambda: None)


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
    settings = {'--run': trained, '--output': tmp_path / 'files', '--formats': 'safetensors'}
    defaults = [f'{name}={value}' for name, value in settings.items()]
    assert command.main(['export', *defaults, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'error: {message}')
    assert not (tmp_path / 'files').exists()


def test_a_missing_package_is_named_with_its_command(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert command.main(['export', f'--run={trained}', f'--output={tmp_path / "files"}']) == 2
    assert "error: onnxruntime is not installed; pip install '.[export]'" in capsys.readouterr().err


def test_the_versions_are_those_of_the_packages_that_provide_the_modules(monkeypatch):
    packages = {'jax': ['jax'], 'onnxruntime': ['onnxruntime-gpu']}
    numbers = {'jax': '0.10', 'onnxruntime-gpu': '1.20'}
    monkeypatch.setattr(importlib.metadata, 'packages_distributions', lambda: packages)
    monkeypatch.setattr(importlib.metadata, 'version', numbers.__getitem__)
    assert exporting._versions() == {'cckd-jax': cckd_jax.__version__, **numbers}


def test_a_measurement_that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'executable', '/bin/false')
    with pytest.raises(InputError, match='cannot measure latency: its process ended with status 1; free some memory'):
        latency.measure(tmp_path, [])


def test_ctrl_c_does_not_reach_the_measurement(tmp_path, monkeypatch):
    script = tmp_path / 'session'
    script.write_text(f'#!{sys.executable}\nimport json, os\nprint(json.dumps(os.getsid(0) == os.getpid()))\n')
    script.chmod(0o700)
    monkeypatch.setattr(sys, 'executable', str(script))
    assert latency.measure(tmp_path, []) is True


def test_a_bar_in_a_class_name_leaves_the_table_of_the_card_whole():
    student = random_student('lenet5_half', (28, 28, 1))
    student.description = dataclasses.replace(student.description, class_names=('a|b', *student.class_names[1:]))
    text = card.render(student, {}, 0.5, [], {latency.STUDENT: {'1': 1.0, '64': 1.0}}, '', {})
    assert r'| classes | 7: a\|b, b, c, d, e, f, g |' in text

"""Students that are loaded from run directories and from safetensors files."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors
from students import CLASSES, random_student

import cckd_jax
from cckd_jax import __main__ as command, data, interrupt
from cckd_jax.errors import InputError
from cckd_jax.export import weights


@pytest.fixture(autouse=True)
def _keep_the_handler_of_pytest(monkeypatch):
    monkeypatch.setattr(interrupt, 'exit_at_once', lambda: None)


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
    assert cckd_jax.export.load(path).description == student.description
    with pytest.raises(InputError, match='holds one student; leave out student=1, or give the run directory'):
        cckd_jax.export.load(path, student=1)
    path.write_bytes(path.read_bytes()[:1000])
    for broken in (path, tmp_path / 'missing.safetensors'):
        with pytest.raises(InputError, match=f'(cannot read a student from|no file at) {broken}'):
            cckd_jax.export.load(broken)


def test_the_page_loads_a_student_in_three_lines(trained, digits):
    page = (Path(__file__).parents[1] / 'docs' / 'export.md').read_text()
    (code,) = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    names = {'images': digits.test.images[:3]}
    exec(code.replace('runs/mnist', str(trained)), names)
    assert names['logits'].shape == (3, 10)
    assert set(names['names']) <= set('0123456789')

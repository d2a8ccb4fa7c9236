"""docs/own_data.md from start to end: a folder of images and a teacher in ONNX become a student."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onnx_graphs import fitted_kernel, save_linear
from PIL import Image

from cckd_jax import data, models
from cckd_jax.training.teacher_outputs import load_logits

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'own_data.md').read_text()
(CONFIG, WRITE_LOGITS, NNX) = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
CLASSES = ('apple', 'crème brûlée', 'pear', '梨')


def commands():
    """The commands that the page shows, in their order."""
    return [line.strip() for line in PAGE.splitlines() if re.match('    (cckd-jax|python launch)', line)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory, digits):
    """A folder with `photos`, the teacher and the config."""
    folder = tmp_path_factory.mktemp('own')
    for label, name in enumerate(CLASSES):
        (folder / 'photos' / name).mkdir(parents=True)
        for index, image in enumerate(digits.train.images[digits.train.labels == label][:40]):
            picture = Image.fromarray(image[..., 0]).convert('RGB').resize((40 + index % 5, 36))
            picture.save(folder / 'photos' / name / (f'IMG {index:04}.jpg' if index % 2 else f'été {index}.png'))
    train = data.load(str(folder / 'photos'), image_shape=(32, 32, 3)).train
    inputs = (train.images.reshape(len(train), -1) / 255 - 0.5) / 0.25
    kernel = fitted_kernel(inputs, train.labels, len(CLASSES), ridge=1e4)
    save_linear(folder / 'teacher.onnx', kernel, image_shape=(32, 32, 3))
    np.save(folder / 'kernel.npy', kernel)
    (folder / 'my_config.py').write_text(CONFIG)
    return folder


@pytest.fixture(scope='module')
def outputs(folder):
    """What the commands print, by command."""
    printed = {}
    for command in commands():
        words = [sys.executable if word == 'python' else word for word in shlex.split(command)]
        words = [sys.executable, '-m', 'cckd_jax', *words[1:]] if words[0] == 'cckd-jax' else words
        words = [str(ROOT / word) if word.startswith('launch/') else word for word in words]
        done = subprocess.run(
            words,
            cwd=folder,
            env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_NUM_CPU_DEVICES': '1'},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f'{command}: {done.stderr}'
        printed[command] = done.stdout + done.stderr
    return printed


def test_a_student_learns_from_the_teacher_of_the_page(folder, outputs):
    results = json.loads((folder / 'runs' / 'photos' / 'results.json').read_text())
    assert tuple(results['class_names']) == CLASSES
    assert results['teacher']['test_accuracy'] > 0.9
    assert results['student']['test_accuracy'] > 0.8
    assert re.search(
        r'^the teacher in teacher\.onnx predicts 9\d\.\d\d% of', next(iter(outputs.values())), re.MULTILINE
    )


def test_the_exported_student_classifies_an_image(folder, outputs):
    (path, label, probability) = list(outputs.values())[-1].splitlines()[0].split('\t')
    assert (path, label) == ('photos/apple/IMG 0001.jpg', 'apple')
    assert float(probability) > 0.5
    card = (folder / 'export' / 'card.md').read_text()
    assert all(name in card for name in CLASSES)
    assert (folder / 'export' / 'student.onnx').exists()
    assert (folder / 'export' / 'student.int8.onnx').exists()


def test_a_function_of_python_writes_the_same_logits(folder, monkeypatch):
    monkeypatch.chdir(folder)
    kernel = np.load(folder / 'kernel.npy')
    teacher = lambda pixels: pixels.transpose(0, 2, 3, 1).reshape(len(pixels), -1) @ kernel
    exec(WRITE_LOGITS, {'my_teacher': teacher})
    photos = data.load('photos', image_shape=(32, 32, 3))
    logits = load_logits(folder / 'teacher_logits.npz', photos)
    pixels = (photos.test.images.reshape(len(photos.test), -1) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(logits.test[:, 0], pixels @ kernel, rtol=1e-3, atol=1e-3)


def test_an_nnx_network_of_the_page_is_a_network(tmp_path, monkeypatch):
    (tmp_path / 'my_networks.py').write_text(NNX)
    monkeypatch.syspath_prepend(tmp_path)
    module = models.create('my_networks:small_net', 4)
    models.check_image_shape('my_networks:small_net', module, (32, 32, 3), 4)
    images = jax.random.uniform(jax.random.key(1), (2, 32, 32, 3))
    variables = models.init(module, jax.random.key(0), images)
    loss = lambda params: models.train_forward(
        module, {**variables, 'params': params}, images, models.TrainMode(jnp.ones(2, bool))
    )[0].sum()
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(jax.grad(loss)(variables['params'])))

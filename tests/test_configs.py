import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cckd_jax import cli, experiment
from cckd_jax import config as settings
from cckd_jax.methods import METHODS

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))


@pytest.mark.parametrize('name', CONFIGS)
def test_smoke_takes_the_whole_path(name, tmp_path):
    # From the shell on one device, where programs are kept: the configs of one pair compile once for all.
    command = [sys.executable, 'launch/main.py', f'--config=configs/{name}.py:smoke', f'--workdir={tmp_path / "run"}']
    environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': '1'}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / 'run' / 'results.json').read_text())
    assert results['dataset'] == 'digits'
    assert results['student']['samples_presented'] == 2 * 512
    assert (tmp_path / 'run' / 'report.md').exists()


@pytest.mark.parametrize('name', CONFIGS)
def test_a_config_is_locked_valid_and_says_how_to_run_it(name):
    config = cli._load(f'{ROOT}/configs/{name}.py')
    settings.check(config)
    assert config.is_locked
    assert config.method in METHODS
    text = (ROOT / 'configs' / f'{name}.py').read_text()
    assert f'--config=configs/{name}.py' in text.split('"""')[1]


def test_the_papers_settings():
    for name, epsilon in (('mnist_lenet', 0.15), ('fashion_mnist_lenet', 0.05)):
        config = cli._load(f'{ROOT}/configs/{name}.py')
        method = experiment.resolve_method(config)
        assert (config.batch_size, config.teacher.epochs, config.student.epochs) == (512, 200, 200)
        assert (config.attack.epsilon, config.attack.samples) == (epsilon, 30_000)
        assert (config.teacher.learning_rate, method.learning_rate) == (1e-3, 1e-2)
        hyperparameters = method.hyperparameters
        assert (hyperparameters['alpha'], hyperparameters['temperature']) == (0.01, 20.0)
        assert hyperparameters['margin_temperature'] is None
        assert hyperparameters['confidence_temperature'] is None

    for name, alpha, teacher, student, epochs in (
        ('cifar10_alexnet', 0.008, 'alexnet', 'alexnet_half', 1000),
        ('svhn_alexnet', 0.01, 'alexnet', 'alexnet_half', 500),
        ('svhn_resnet', 0.01, 'resnet34', 'resnet18', 200),
    ):
        config = cli._load(f'{ROOT}/configs/{name}.py')
        assert (config.teacher.model, config.student.model) == (teacher, student)
        assert (config.batch_size, config.teacher.epochs, config.student.epochs) == (512, epochs, epochs)
        assert (config.alpha, config.attack.epsilon, config.attack.samples) == (alpha, 0.15, 2500)
        assert (config.augmentation.crop, config.augmentation.flip, config.precision) == (0, False, 'float32')


def test_overrides_replace_the_rows_own_values():
    config = settings.default()
    config.method = 'kd'
    config.hard_weight = 0.7
    config.temperature = 4.0
    assert experiment.resolve_method(config).hyperparameters == {'temperature': 4.0, 'hard_weight': 0.7}

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cckd_jax import cli, config as settings, config_check, experiment, models
from cckd_jax.experiment import networks
from cckd_jax.methods import METHODS

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
# What share a recipe differ in their networks alone: one takes the whole path, all are checked without computing.
PAIRS = [name for name in CONFIGS if name.startswith('cifar100_')]
# What is the same on digits but for the numbers named, as `test_what_is_not_run_is_the_same_on_digits` makes sure.
SAME = {
    'mnist_lenet': 'digits_lenet',
    'fashion_mnist_lenet': 'digits_lenet',
    'mnist_faithful': 'digits_faithful',
    'fashion_mnist_faithful': 'digits_faithful',
    'cifar10_alexnet': 'digits_alexnet',
    'svhn_alexnet': 'digits_alexnet',
    'svhn_resnet': 'digits_resnet',
    'mnist_peers': 'digits_peers',
    'mnist_zskd': 'digits_zskd',
}
NUMBERS = {'alpha', 'attack.epsilon', 'attack.samples', 'epsilon', 'teacher.epsilon', 'evaluate.epsilons'}
ONCE = [name for name in CONFIGS if name not in (*PAIRS, *SAME)]


@pytest.mark.parametrize('name', [*ONCE, 'cifar100_vgg13_vgg8'])
def test_smoke_takes_the_whole_path(name, tmp_path):
    # From the shell on one device, where programs are kept: the configs of one pair compile once for all.
    command = [sys.executable, 'launch/main.py', f'--config=configs/{name}.py:smoke', f'--workdir={tmp_path / "run"}']
    environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': '1'}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / 'run' / 'results.json').read_text())
    assert results['dataset'] == 'digits'
    held_out = int(256 * cli.load(f'{ROOT}/configs/{name}.py:smoke').validation_fraction)
    assert set(np.ravel(results['student']['samples_presented'])) == {2 * (256 - held_out)}
    assert (tmp_path / 'run' / 'report.md').exists()


@pytest.mark.parametrize('name', SAME)
def test_what_is_not_run_is_the_same_on_digits(name):
    (own, run) = (settings_of(each) for each in (name, SAME[name]))
    assert own.keys() == run.keys()
    assert {key for key in own if own[key] != run[key]} <= NUMBERS


def settings_of(name):
    return flatten_dict(cli.load(f'{ROOT}/configs/{name}.py:smoke').to_dict(), keep_empty_nodes=True, sep='.')


@pytest.mark.parametrize('name', CONFIGS)
def test_a_config_is_locked_valid_and_says_how_to_run_it(name):
    config = cli.load(f'{ROOT}/configs/{name}.py')
    config_check.check(config)
    assert config.is_locked
    assert config.method in METHODS
    text = (ROOT / 'configs' / f'{name}.py').read_text()
    assert f'--config=configs/{name}.py' in text.split('"""')[1]


def test_the_papers_settings():
    for name, epsilon in (('mnist_lenet', 0.15), ('fashion_mnist_lenet', 0.05)):
        config = cli.load(f'{ROOT}/configs/{name}.py')
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
        config = cli.load(f'{ROOT}/configs/{name}.py')
        assert (config.teacher.model, config.student.model) == (teacher, student)
        assert (config.batch_size, config.teacher.epochs, config.student.epochs) == (512, epochs, epochs)
        assert (config.alpha, config.attack.epsilon, config.attack.samples) == (alpha, 0.15, 2500)
        assert (config.augmentation.crop, config.augmentation.flip, config.precision) == (0, False, 'float32')


@pytest.mark.parametrize('name', PAIRS)
def test_smoke_makes_the_networks_of_a_pair_small_and_they_take_digits(name):
    config = cli.load(f'{ROOT}/configs/{name}.py:smoke')
    for part in (config.teacher, config.student):
        module = networks.create_model(config, part, 10)
        models.check_image_shape(part.model, module, (32, 32, 3), 10)
        variables = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), 'float32'))
        assert sum(leaf.size for leaf in jax.tree.leaves(variables)) < 100_000


@pytest.mark.parametrize('name', PAIRS)
def test_the_student_of_a_pair_is_aligned_to_its_three_teachers(name):
    config = cli.load(f'{ROOT}/configs/{name}.py')
    modules = [networks.create_model(config, part, 100) for part in (config.student, *settings.teachers(config))]
    (student, *teachers) = [models.feature_shapes(module, (32, 32, 3))[-1] for module in modules]
    aligned = experiment.resolve_method(config).adapter(tuple(modules[1:]), (32, 32, 3))
    maps = (jax.ShapeDtypeStruct((1, *student), 'float32'),)
    (found, _) = jax.eval_shape(aligned.init_with_output, jax.random.key(0), maps)
    assert [each.shape[1:] for each in found] == teachers
    assert len(teachers) == 3


def test_the_recipe_of_several_teachers():
    pairs = {}
    for name in PAIRS:
        config = cli.load(f'{ROOT}/configs/{name}.py')
        pairs[config.teacher.model, config.student.model] = config.student.learning_rate
        assert name == f'cifar100_{config.teacher.model}_{config.student.model}'
        assert (config.dataset.name, tuple(config.dataset.image_shape)) == ('cifar100', (32, 32, 3))
        assert (config.batch_size, config.teacher.epochs, config.student.epochs) == (64, 240, 240)
        assert config.optimizer.to_dict() == {'name': 'sgd', 'schedule': 'step', 'weight_decay': 5e-4}
        assert config.augmentation.to_dict() == {'crop': 4, 'flip': True, 'per_student': False}
        assert config.teacher.learning_rate == 0.05
        assert (config.method, config.num_teachers) == ('ca_mkd', 3)
        defaults = experiment.resolve_method(config).hyperparameters
        assert (defaults['temperature'], defaults['soft_weight'], defaults['feature_weight']) == (4.0, 1.0, 50.0)
    assert pairs == {
        ('wrn40_2', 'shufflenetv1'): 0.01,
        ('resnet56', 'mobilenetv2'): 0.01,
        ('vgg13', 'vgg8'): 0.05,
        ('vgg13', 'mobilenetv2'): 0.01,
        ('resnet32x4', 'resnet8x4'): 0.05,
        ('resnet32x4', 'shufflenetv2'): 0.01,
        ('resnet32x4', 'vgg8'): 0.05,
    }


def test_overrides_replace_the_rows_own_values():
    config = settings.default()
    config.method = 'kd'
    config.hard_weight = 0.7
    config.temperature = 4.0
    assert experiment.resolve_method(config).hyperparameters == {'temperature': 4.0, 'hard_weight': 0.7}

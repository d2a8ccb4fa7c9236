"""Several seeds that train in one program, against each of them alone."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Tiny, assert_trees_close, method_named, random_split, tiny_config

from cckd_jax import experiment, training
from cckd_jax.data import augmentation
from cckd_jax.methods import METHODS
from cckd_jax.training.seeds import FORMS

SEEDS = (3, 5)


def prepared(devices):
    """A method with gate and records on a network with batch norm and dropout; the state and the data of each seed."""
    split = random_split(16, shape=(8, 8, 3))
    method = method_named('cckd_t_reg', keep=lambda inputs: inputs.labels % 3 > 0)
    logits = np.random.default_rng(0).normal(size=(2, 16, 1, 10)).astype(np.float32)
    keys = [jax.random.key(seed) for seed in SEEDS]
    states = [training.initial_state(method, Tiny(), (), optax.sgd(0.1, momentum=0.9), split, key) for key in keys]
    data = [training.train_data(split, {'teacher_logits': own}, key) for own, key in zip(logits, keys, strict=True)]
    options = {'devices': devices, 'augment': augmentation(crop=1, flip=True, image_shape=(8, 8, 3))}
    return method, states, data, options


def batches(seed):
    order = np.random.default_rng(seed).permutation(16).astype(np.int32)
    order[-1] = -1
    return order.reshape(2, 2, 4)


@pytest.fixture(scope='module')
def alone():
    """The state and the metrics of each seed after two steps on two devices."""
    devices = jax.devices()[:2]
    (method, states, data, options) = prepared(devices)
    step = training.make_step(method, Tiny(), (), optax.sgd(0.1, momentum=0.9), **options)
    ends = []
    for seed, state, own in zip(SEEDS, states, data, strict=True):
        (state, own) = training.replicate((state, own), devices)
        metrics = []
        for rows in batches(seed):
            (state, measured) = step(state, own, rows)
            metrics.append(jax.device_get(measured))
        ends.append((jax.device_get(state), metrics))
    return ends


@pytest.mark.parametrize('form', FORMS)
def test_each_seed_ends_as_it_would_alone(form, alone):
    devices = jax.devices()[:2]
    (method, states, data, options) = prepared(devices)
    step = training.make_seeds_step(method, Tiny(), (), optax.sgd(0.1, momentum=0.9), form=form, **options)
    state = training.replicate(training.SeedsState.stack(states), devices)
    data = training.replicate(training.stack_data(data), devices)
    for index, rows in enumerate(np.stack([batches(seed) for seed in SEEDS], axis=2)):
        (state, metrics) = step(state, data, rows)
        for seed, (_, expected) in enumerate(alone):
            own = jax.tree.map(lambda values, seed=seed: values[seed], jax.device_get(metrics['peers']))
            assert_trees_close(own, expected[index], rtol=1e-4)
    for peer, (expected, _) in zip(state.peers, alone, strict=True):
        assert_trees_close(peer, expected, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_in_one_seed_is_not_finite():
    devices = jax.devices()[:1]
    (method, states, data, options) = prepared(devices)
    step = training.make_seeds_step(method, Tiny(), (), optax.sgd(0.1, momentum=0.9), form='vmap', **options)
    states[1] = states[1].replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, states[1].params))
    rows = np.stack([batches(seed)[0].reshape(1, 8) for seed in SEEDS], axis=1)
    (_, metrics) = step(training.SeedsState.stack(states), training.stack_data(data), rows)
    assert not metrics['finite']
    assert list(metrics['peers']['finite']) == [True, False]


def test_runs_go_on_with_networks_that_trained_together(tmp_path, one_device, capsys):
    configs = [tiny_config(method='cckd_t_reg', seed=seed, **{'student.epochs': 2}) for seed in SEEDS]
    together = [tmp_path / f'together{seed}' for seed in SEEDS]
    experiment.train_seeds(configs, together, devices=one_device)
    shown = capsys.readouterr().err
    assert 'student of 2 seeds: epoch 2/2' in shown
    for config, folder in zip(configs, together, strict=True):
        result = experiment.run(config, folder, devices=one_device)
        assert 'all 2 epochs are done' in capsys.readouterr().err
        expected = experiment.run(config, tmp_path / f'alone{config.seed}', devices=one_device)
        for name in ('teacher', 'student', 'separate'):
            assert result[name]['test_accuracy'] == pytest.approx(expected[name]['test_accuracy'], abs=0.01)
            (own, other) = (_losses(folder / name), _losses(folder.with_name(f'alone{config.seed}') / name))
            np.testing.assert_allclose(own, other, rtol=1e-4)
        assert result['student']['samples_used'] == expected['student']['samples_used']
    # Their orders and first weights differ.
    assert _losses(together[0] / 'student') != _losses(together[1] / 'student')


def test_networks_with_data_of_their_own_train_one_by_one(tmp_path, one_device, capsys):
    configs = [tiny_config(method='kd', seed=seed, validation_fraction=0.1) for seed in SEEDS]
    experiment.train_seeds(configs, [tmp_path / str(seed) for seed in SEEDS], devices=one_device)
    assert 'student: the seeds train one after the other, because each has a validation' in capsys.readouterr().err


def test_a_seed_that_is_ahead_keeps_its_checkpoints(tmp_path, one_device, capsys):
    configs = [tiny_config(method='kd', seed=seed) for seed in SEEDS]
    folders = [tmp_path / str(seed) for seed in SEEDS]
    experiment.train_seeds(configs[:1], folders[:1], devices=one_device)
    before = (folders[0] / 'teacher' / 'checkpoints' / '1').stat()
    experiment.train_seeds(configs, folders, devices=one_device)
    assert 'teacher: the seeds train one after the other, because they have no checkpoint' in capsys.readouterr().err
    assert (folders[0] / 'teacher' / 'checkpoints' / '1').stat().st_ino == before.st_ino


def _losses(folder):
    return [json.loads(line)['loss'] for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def test_methods_are_the_same_rows():
    # `train_seeds` compares them.
    assert METHODS['cckd_t'].override(temperature=3.0) == METHODS['cckd_t'].override(temperature=3.0)
    assert METHODS['cckd_t'] != METHODS['cckd_l']

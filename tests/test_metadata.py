"""Activation records and the images that replay them: moments by hand, real accuracy, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Flat, Tiny, digits_config, optimised, random_network, tiny_config

from cckd_jax import experiment, models, synthesis
from cckd_jax.data import Split
from cckd_jax.errors import InputError
from cckd_jax.synthesis import metadata, records

SMALL = {'transfer.name': 'metadata', 'transfer.images': 64, 'transfer.steps': 5, 'transfer.batch_size': 16}
FILE = 'activation_records.npz'


def two_classes(count=23, shape=(8, 8, 3)):
    """Random images of classes 0 and 1."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *shape)).astype(np.uint8)
    return Split(images, (np.arange(count) % 2).astype(np.int32))


def test_outputs_of_hidden_layers_come_before_their_activation_function():
    network = random_network(Tiny(num_classes=4), (8, 8, 3))
    images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    outputs = records.layer_outputs(network, images, hidden=True)
    assert list(outputs) == ['conv', 'dense', 'logits']
    np.testing.assert_allclose(outputs['logits'], network(images), atol=1e-6)
    params = network.variables['params']['conv']
    pixels = np.pad(np.asarray(images), ((0, 0), (1, 1), (1, 1), (0, 0)))[0, 2:5, 3:6]
    by_hand = np.einsum('hwc,hwck->k', pixels, params['kernel']) + params['bias']
    np.testing.assert_allclose(outputs['conv'][0, 2, 3], by_hand, rtol=1e-4, atol=1e-5)
    assert (np.asarray(outputs['conv']) < 0).any()
    assert list(records.layer_outputs(network, images, hidden=False)) == ['logits']


def test_layers_of_blocks_have_the_names_of_their_modules():
    resnet = models.create('resnet18', width=0.05, blocks=(1,))

    def outputs(images):
        network = models.Network(resnet, resnet.init(jax.random.key(0), images))
        return records.layer_outputs(network, images, hidden=True)

    names = list(jax.eval_shape(outputs, jnp.ones((1, 8, 8, 3))))
    assert len(names) == len(set(names)) >= 3
    assert 'logits' in names
    assert any('.' in name for name in names)


def test_records_are_moments_by_class(monkeypatch):
    monkeypatch.setattr(records, '_BATCH', 6)  # four batches, the last of five images
    network, train = random_network(Tiny(num_classes=2), (8, 8, 3)), two_classes()
    recorded = records.measure(network, train, 2, hidden=True)
    outputs = records.layer_outputs(network, train.images / np.float32(255), hidden=True)
    for label in (0, 1):
        rows = {name: np.asarray(values, np.float64)[train.labels == label] for name, values in outputs.items()}
        for name, values in rows.items():
            np.testing.assert_allclose(recorded[f'{name}.mean'][label], values.mean(0), atol=1e-4)
        factor = recorded['dense.factor'][label].astype(np.float64)
        covariance = np.cov(rows['dense'].T, bias=True)
        np.testing.assert_allclose(factor @ factor.T, covariance, atol=1e-4 * covariance.max())
        np.testing.assert_allclose(recorded['conv.deviation'][label], rows['conv'].std(0), atol=1e-4)
    np.testing.assert_allclose(recorded['pixels'][0], (train.images / 255).mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(recorded['pixels'][1], (train.images / 255).std((0, 1, 2)), rtol=1e-5)
    with pytest.raises(InputError, match='class 2 has no training image'):
        records.measure(network, train, 3, hidden=False)


def test_draws_have_the_recorded_moments_and_a_unit_without_variance_keeps_its_mean():
    covariance = np.array([[4.0, 0.0, 1.2], [0.0, 0.0, 0.0], [1.2, 0.0, 1.0]])
    recorded = {
        'dense.mean': jnp.array([[9.0, 9.0, 9.0], [1.0, -2.0, 0.5]]),
        'dense.factor': jnp.asarray(records.cholesky_factor(np.stack([np.eye(3), covariance])), jnp.float32),
        'conv.mean': jnp.ones((2, 1, 1, 2)),
        'conv.deviation': jnp.array([1.0, 3.0]).reshape(1, 1, 1, 2) * jnp.ones((2, 1, 1, 2)),
    }
    drawn = records.draw(jax.random.key(0), recorded, jnp.ones(20_000, int))
    np.testing.assert_allclose(drawn['dense'].mean(0), [1, -2, 0.5], atol=0.05)
    np.testing.assert_allclose(np.cov(drawn['dense'].T), covariance, atol=0.1)
    assert float(jnp.abs(drawn['dense'][:, 1] + 2).max()) < 0.02
    np.testing.assert_allclose(drawn['conv'].std(0).ravel(), [1, 3], rtol=0.03)
    assert np.isfinite(records.cholesky_factor(np.zeros((3, 3)))).all()


def test_the_loss_is_a_mean_over_the_units_of_each_layer():
    outputs = {'conv': jnp.array([[[[1.0, -1.0]]]]), 'logits': jnp.array([[8.0, 0.0]])}
    drawn = {'conv': jnp.array([[[[3.0, -5.0]]]]), 'logits': jnp.array([[-8.0, 16.0]])}
    # The feature map: (2² + 0) / 2. The logits: (1² + 2²) / 2.
    assert metadata.replay_loss(outputs, drawn, temperature=8.0).tolist() == [4.5]


def test_a_student_learns_digits_from_records(trained, tmp_path, one_device):
    config = digits_config(
        **{
            **SMALL,
            'transfer.images': 200,
            'transfer.steps': 30,
            'transfer.batch_size': 100,
            'method': 'teacher_only',
            'temperature': 8.0,
            'student.learning_rate': 3e-3,
            'student.epochs': 15,
            'batch_size': 32,
            'teacher.checkpoint': str(trained / 'teacher'),
            'separate.enabled': False,
        }
    )
    with optimised():
        results = experiment.run(config, tmp_path / 'run', devices=one_device)
    assert results['transfer']['real_data'] == 'statistics'
    assert results['transfer']['agreement'] > 0.9
    assert results['student']['test_accuracy'] > 0.6
    assert 'with statistics of the training set apart' in (tmp_path / 'run' / 'report.md').read_text()


def run(workdir, one_device, **fields):
    return experiment.run(tiny_config(**{**SMALL, **fields}), workdir, devices=one_device)


def test_records_go_where_the_training_set_does_not(tmp_path, one_device):
    run(tmp_path / 'first', one_device, **{'separate.enabled': False})
    teacher = {'teacher.checkpoint': str(tmp_path / 'first' / 'teacher'), 'separate.enabled': False}
    (tmp_path / 'first' / FILE).rename(tmp_path / 'records.npz')
    run(tmp_path / 'second', one_device, **teacher, **{'transfer.records': str(tmp_path / 'records.npz')})
    sets = [np.load(tmp_path / name / 'transfer_set.npz')['images'] for name in ('first', 'second')]
    np.testing.assert_array_equal(*sets)
    assert not (tmp_path / 'second' / FILE).exists()


def test_records_of_another_teacher_or_without_a_layer_are_refused(tmp_path):
    network, path = random_network(Flat(num_classes=2), (8, 8, 3)), tmp_path / FILE
    records.save(path, records.measure(network, two_classes(), 2, hidden=False), 'a')
    assert set(records.load(path, 'a', {'logits': (2, 2)})) == {'pixels', 'logits.mean', 'logits.factor'}
    with pytest.raises(InputError, match='has the activation records of another teacher; give those of this one'):
        records.load(path, 'b', {'logits': (2, 2)})
    for shapes in ({'logits': (2, 2), 'hidden': (2, 6)}, {'logits': (3, 3)}):
        with pytest.raises(InputError, match=r'no activation records of .*; set --config.transfer.layers=top'):
            records.load(path, 'a', shapes)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'transfer.records': 'none.npz'}, 'there is no file .*none.npz; correct --config.transfer.records'),
        ({'transfer.layers': 'hidden'}, 'transfer.layers=hidden must be top or all'),
        ({'teacher.model': 'helpers:Flat', 'teacher.options': {'width': 0.0}}, 'Flat has none; set .*layers=top'),
        ({'transfer.images': 2**31 - 1}, 'transfer.images=2147483647 need at least .* GiB of memory, and there'),
        ({'transfer.label': 'soft'}, "'soft'"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(fields, message, tmp_path, one_device):
    with pytest.raises(InputError, match=message) as raised:
        run(tmp_path / 'run', one_device, **fields)
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / 'run' / 'teacher').exists()


def test_a_loss_that_becomes_infinite_names_its_step(tmp_path):
    network = random_network(Flat(num_classes=2, width=1.0), (8, 8, 3))
    real = records.measure(network, two_classes(), 2, hidden=True)
    real['logits.mean'] += np.inf
    settings = {**metadata.METADATA.defaults, 'images': 4, 'steps': 3}
    partial = synthesis.Partial(tmp_path / 'partial.npz', 'key')
    problem = synthesis.Problem(network, (8, 8, 3), 2, settings, jax.random.key(0), partial, real)
    with pytest.raises(synthesis.NonFiniteSynthesis, match=r'in step 1; .*transfer.learning_rate'):
        metadata.generate(problem)

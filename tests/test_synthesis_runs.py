"""Runs whose student learns from a transfer set: real accuracy, real data named, resumed, and refused in one line."""

import json

import numpy as np
import pytest
from helpers import digits_config, optimised, tiny_config

from cckd_jax import experiment, models, synthesis
from cckd_jax.errors import InputError
from cckd_jax.synthesis import last_layer, zskd

# Impressions of a few seconds.
SMALL = {'transfer.name': 'zskd', 'transfer.images': 400, 'transfer.steps': 50, 'transfer.batch_size': 200}
FLAT = {'transfer.name': 'zskd', 'transfer.images': 64, 'transfer.steps': 5, 'transfer.batch_size': 16}


def run(tmp_path, one_device, **fields):
    return experiment.run(tiny_config(**fields), tmp_path / 'run', devices=one_device)


def images_of(workdir):
    with np.load(workdir / 'transfer_set.npz') as stored:
        return stored['images']


def test_a_student_learns_digits_without_seeing_any(trained, tmp_path, one_device):
    config = digits_config(
        **{
            **SMALL,
            'method': 'teacher_only',
            'transfer.learning_rate': 0.05,
            'student.learning_rate': 3e-3,
            'student.epochs': 20,
            'teacher.checkpoint': str(trained / 'teacher'),
            'attack.checkpoint': str(trained / 'separate'),
        }
    )
    with optimised():
        results = experiment.run(config, tmp_path / 'run', devices=one_device)
    assert results['student']['test_accuracy'] > 0.5
    assert results['student']['samples_in_all'] == 20 * 400
    assert results['transfer']['real_data'] == 'none'
    assert results['transfer']['images'] == 400
    # The rates are over the real training set, not over the samples.
    with np.load(tmp_path / 'run' / 'teacher_outputs.npz') as stored:
        assert stored['logits'].shape == (1437, 1, 10)
    assert results['student']['failure_rate'] > 0
    report = (tmp_path / 'run' / 'report.md').read_text()
    assert 'with no real data apart from what trained the teacher' in report
    assert (tmp_path / 'run' / 'figures' / 'transfer_set.png').exists()


@pytest.mark.parametrize(
    ('method', 'fields'),
    [
        ('cckd_t_reg', {'transfer.augment': True}),
        ('cckd_l', {'transfer.label': 'soft'}),
        ('separate', {'transfer.reject': True, 'batch_size': 4}),
        ('ard', {'transfer.label': 'teacher'}),
        ('kd', {'transfer.name': 'noise', 'transfer.steps': None, 'transfer.batch_size': None}),
    ],
)
def test_methods_of_one_teacher_take_a_transfer_set(method, fields, tmp_path, one_device):
    results = run(tmp_path, one_device, **{**FLAT, 'method': method, **fields})
    transfer = results['transfer']
    assert transfer['images'] + transfer['rejected'] == 64
    assert results['student']['samples_presented'] == transfer['images']
    assert results['separate']['test_accuracy'] is not None
    assert transfer['real_data'] == 'none'
    assert sum(transfer['images_by_class']) == transfer['images']


def test_a_run_on_the_training_set_says_so(trained):
    assert json.loads((trained / 'results.json').read_text())['transfer'] == {'real_data': 'all'}


def test_an_interrupted_synthesis_goes_on_and_gives_the_same_set(tmp_path, one_device, monkeypatch):
    config = tiny_config(**{**FLAT, 'method': 'teacher_only', 'save_seconds': 0.0})
    whole = experiment.run(config, tmp_path / 'whole', devices=one_device)['student']
    optimizer = zskd.make_input_optimizer
    calls = []

    def interrupted(*arguments, **options):
        optimise = optimizer(*arguments, **options)

        def counted(*arguments):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return optimise(*arguments)

        return counted

    monkeypatch.setattr(zskd, 'make_input_optimizer', interrupted)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(config, tmp_path / 'run', devices=one_device)
    resumed = experiment.run(config, tmp_path / 'run', devices=one_device)['student']
    # Two batches before the interruption, the third, and two after it.
    assert len(calls) == 5
    first, second = (images_of(tmp_path / name) for name in ('whole', 'run'))
    np.testing.assert_array_equal(first, second)
    assert whole['test_accuracy'] == resumed['test_accuracy']
    assert not (tmp_path / 'run' / 'transfer_partial.npz').exists()


def test_a_stored_set_of_other_settings_is_refused(tmp_path):
    samples, logits = synthesis.Samples(np.zeros((1, 2, 2, 1), np.uint8), np.zeros(1, np.int32)), np.zeros((1, 2))
    synthesis.save(tmp_path / 'set.npz', samples, logits, 'a')
    assert synthesis.load(tmp_path / 'set.npz', 'a')[0].targets is None
    with pytest.raises(InputError, match='made with other teacher weights or settings; delete it'):
        synthesis.load(tmp_path / 'set.npz', 'b')


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'transfer.name': 'zskt'}, "unknown transfer.name 'zskt' .did you mean 'zskd'"),
        ({'transfer.label': 'gold'}, "'gold'"),
        ({'transfer.label': 'teacher', 'transfer.reject': True}, 'makes them equal'),
        ({'transfer.distribution': 'uniform'}, 'transfer.distribution has no effect with transfer.name=zskd'),
        ({'transfer.betas': (1.0, 0.0)}, 'transfer.betas=.* must be one or more numbers above 0'),
        ({'teacher.logits': 'logits.npz'}, "needs the teacher's weights, which teacher.logits does not give; give"),
        ({'teacher.onnx': 'teacher.onnx'}, "needs the teacher's weights, which teacher.onnx does not give; give"),
        ({'method': 'significance'}, 'significance'),
        ({'augmentation.flip': True, 'transfer.augment': True}, 'both change the images'),
        ({'batch_size': 65}, 'batch_size=65 is larger than the 64 samples of the transfer set'),
        ({'transfer.name': 'noise', 'transfer.distribution': 'gauss'}, "'gauss'"),
    ],
)
def test_what_cannot_be_used_is_one_line(fields, message, tmp_path, one_device):
    base = {'transfer.name': 'noise', 'transfer.images': 64} if fields.get('transfer.name') == 'noise' else FLAT
    with pytest.raises(InputError, match=message) as raised:
        run(tmp_path, one_device, **{**base, **fields})
    assert len(str(raised.value).splitlines()) == 1


class EndsWithRelu(models.Classifier):
    def stages(self):
        return ()

    def classifier(self):
        return (np.tanh,)


def test_a_teacher_without_a_last_dense_layer_is_refused():
    with pytest.raises(InputError, match='EndsWithRelu ends with tanh; use a network that ends with a Dense layer'):
        last_layer.check(EndsWithRelu(num_classes=2), (2, 2, 1))

"""Real runs on real images, to a real accuracy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import digits_config, optimised

from cckd_jax import experiment
from cckd_jax.errors import InputError
from cckd_jax.evaluators import Significance
from cckd_jax.experiment.significance import save
from cckd_jax.methods import METHODS
from cckd_jax.report.metrics import read_rows
from cckd_jax.training import load_network

ROOT = Path(__file__).parents[1]

# Those that look around a sample take ten times as long; test_around_runs.py has them on a smaller network.
AT_THE_SAMPLE = [name for name, method in METHODS.items() if 'epsilon' not in method.hyperparameters]


@pytest.fixture(scope='module', autouse=True)
def _optimised():
    with optimised():
        yield


@pytest.mark.parametrize('method', [name for name in AT_THE_SAMPLE if not METHODS[name].peers])
def test_every_method_distils_digits(method, trained, significance, tmp_path, one_device):
    second = {'num_teachers': 2, 'teachers.1.model': 'lenet5_half', 'teachers.1.checkpoint': str(trained / 'separate')}
    # A method that presents two samples of three gets half as many epochs again, and so as many presentations.
    epochs = 24 if METHODS[method].weighting else 16
    config = digits_config(
        **{
            'method': method,
            'student.epochs': epochs,
            'teacher.checkpoint': str(trained / 'teacher'),
            'attack.checkpoint': str(trained / 'separate'),
            'significance.file': str(significance) if METHODS[method].weighting else None,
            **(second if METHODS[method].teachers == 'several' else {}),
        }
    )
    student = experiment.run(config, tmp_path / 'run', devices=one_device)['student']
    assert student['test_accuracy'] > 0.92
    assert student['samples_in_all'] == epochs * 1437
    assert (student['samples_presented'] < student['samples_in_all']) == (METHODS[method].weighting is not None)
    assert (student['samples_used'] < student['samples_presented']) == (METHODS[method].gate is not None)


@pytest.mark.parametrize('method', ['dml', 'cckd_online_t_reg'])
def test_students_that_teach_each_other_learn_digits(method, trained, tmp_path, one_device):
    networks = {'teacher.checkpoint': str(trained / 'teacher'), 'attack.checkpoint': str(trained / 'separate')}
    config = digits_config(method=method, num_students=2, teacher_prior=0.5, **networks)
    student = experiment.run(config, tmp_path / 'run', devices=one_device)['student']
    assert min(student['test_accuracy']) > 0.9
    gated = [used < 16 * 1437 for used in student['samples_used']]
    assert gated == [METHODS[method].gate is not None] * 2
    assert None not in student['failure_rate']


def test_a_run_at_the_compiler_settings_that_users_have(tmp_path):
    # The other tests compile with fewer passes (conftest.py).
    ours = ('JAX_DISABLE_MOST_OPTIMIZATIONS', 'JAX_COMPILATION_CACHE_DIR', 'JAX_NUMPY_RANK_PROMOTION', 'XLA_FLAGS')
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, 'launch/main.py', '--config=configs/digits_lenet.py', f'--workdir={tmp_path / "run"}']
    fewer = ['--config.teacher.epochs=12', '--config.student.epochs=14', '--config.method=cckd_t']
    fewer += ['--config.separate.enabled=false', '--config.evaluate.calibration=false']
    subprocess.run([*command, *fewer], cwd=ROOT, env=environment, check=True, capture_output=True)
    results = json.loads((tmp_path / 'run' / 'results.json').read_text())
    assert results['student']['test_accuracy'] > 0.92
    assert results['teacher']['test_accuracy'] > 0.92


@pytest.fixture
def significance(tmp_path, digits):
    """A file of counts: every third example has none."""
    counts = Significance(np.arange(1437) % 3, 2)
    save(tmp_path / 'counts.npz', counts, digits)
    return tmp_path / 'counts.npz'


def test_the_run_directory(trained):
    results = json.loads((trained / 'results.json').read_text())
    assert results['method'] == 'cckd_t_reg'
    assert results['dataset'] == 'digits'
    assert results['teacher']['test_accuracy'] > 0.95
    for name in ('samples_used', 'success_rate', 'failure_rate', 'adversarial_accuracy'):
        assert name in results['student']
    assert {'seed', 'commit', 'device', 'seconds'} <= results.keys()
    for name in ('teacher', 'student', 'separate'):
        rows = read_rows(trained / name)
        assert [row['epoch'] for row in rows] == list(range(results[name]['epochs']))
        assert {'loss', 'kept_share', 'epoch_seconds'} <= rows[0].keys()
        assert list((trained / name).glob('events.out.tfevents.*'))
    for name in ('curves', 'participation', 'adversarial'):
        assert (trained / 'figures' / f'{name}.png').read_bytes().startswith(b'\x89PNG')
        assert f'figures/{name}.png' in (trained / 'report.md').read_text()
    assert f'{results["student"]["test_accuracy"]:.2%}' in (trained / 'report.md').read_text()


def test_the_numbers_of_a_run_agree_with_each_other(trained, digits):
    results = json.loads((trained / 'results.json').read_text())
    (meta, variables) = load_network(trained / 'student')
    assert meta['model'] == 'lenet5_half'
    from cckd_jax import evaluation, models

    network = models.Network(models.create(meta['model']), variables)
    logits = evaluation.predict(network, digits.test.images, devices=jax.devices()[:1])
    assert results['student']['test_accuracy'] == np.mean(logits.argmax(-1) == digits.test.labels)
    rows = read_rows(trained / 'student')
    assert results['student']['samples_used'] == sum(row['samples_used'] for row in rows)
    cached = np.load(trained / 'teacher_outputs.npz')
    assert cached['logits'].shape == (1437, 1, 10)
    teacher_correct = cached['logits'][:, 0].argmax(-1) == digits.train.labels
    student_correct = (
        evaluation.predict(network, digits.train.images, devices=jax.devices()[:1]).argmax(-1) == digits.train.labels
    )
    assert results['student']['failure_rate'] == np.mean(~student_correct[teacher_correct])


def test_a_teacher_given_as_logits_teaches_the_same(trained, tmp_path, digits, one_device):
    fields = {'attack.checkpoint': str(trained / 'separate'), 'student.epochs': 3}
    runs = [
        experiment.run(digits_config(**fields, **teacher), tmp_path / name, devices=one_device)
        for name, teacher in (
            ('network', {'teacher.checkpoint': str(trained / 'teacher')}),
            ('logits', {'teacher.logits': str(trained / 'teacher_outputs.npz')}),
        )
    ]
    for name in ('test_accuracy', 'samples_used', 'adversarial_accuracy', 'failure_rate'):
        assert runs[0]['student'][name] == runs[1]['student'][name]
    assert runs[0]['teacher']['test_accuracy'] == runs[1]['teacher']['test_accuracy']
    # A file that changed is noticed when the run is resumed.
    changed = tmp_path / 'changed.npz'
    np.savez(changed, logits=np.eye(10)[digits.train.labels] * 9)
    workdir = tmp_path / 'logits'
    (workdir / 'report.md').unlink()
    config = json.loads((workdir / 'config.json').read_text())
    config['teacher']['logits'] = str(changed)
    (workdir / 'config.json').write_text(json.dumps(config))
    with pytest.raises(InputError, match='was computed for other teacher weights'):
        experiment.run(digits_config(**fields, **{'teacher.logits': str(changed)}), workdir, devices=one_device)


def test_given_logits_need_no_teacher_network_that_fits(tmp_path, one_device):
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (80, 4, 4, 2)).astype(np.uint8), np.arange(80) % 3
    np.savez(tmp_path / 'tiny.npz', x_train=images, y_train=labels, x_test=images, y_test=labels)
    logits = np.eye(3)[labels] * 9 + random.normal(size=(80, 3))
    np.save(tmp_path / 'logits.npy', logits)
    fields = {'dataset.name': str(tmp_path / 'tiny.npz'), 'teacher.logits': str(tmp_path / 'logits.npy')}
    config = digits_config(**fields, **{'student.model': 'resnet18', 'student.epochs': 1, 'batch_size': 40})
    config.student.options.update(width=0.02, blocks=(1,))
    results = experiment.run(config, tmp_path / 'run', devices=one_device)
    assert results['teacher']['parameters'] is None
    assert results['teacher']['test_accuracy'] is None
    np.save(tmp_path / 'logits.npy', np.stack([logits, logits], axis=1))
    with pytest.raises(InputError, match='holds 2 teachers; cckd_t_reg takes one'):
        experiment.run(config, tmp_path / 'other', devices=one_device)


def test_the_gate_goes_on_any_method_and_off_again(trained, tmp_path, one_device):
    fields = {
        'teacher.checkpoint': str(trained / 'teacher'),
        'attack.checkpoint': str(trained / 'separate'),
        'student.epochs': 3,
    }
    share = lambda name, **more: experiment.run(digits_config(**fields, **more), tmp_path / name, devices=one_device)[
        'student'
    ]['share_used']
    assert share('on', method='kd', self_regulate=True) < 1
    assert share('off', method='cckd_t_reg', self_regulate=False) == 1


def test_masked_and_resting_runs_learn_what_the_compacted_one_does(trained, tmp_path, one_device):
    fields = {'teacher.checkpoint': str(trained / 'teacher'), 'attack.checkpoint': str(trained / 'separate')}
    compacted = json.loads((trained / 'results.json').read_text())['student']
    run = lambda name, **more: experiment.run(digits_config(**fields, **more), tmp_path / name, devices=one_device)
    masked = run('masked', compaction=False)['student']
    assert abs(masked['test_accuracy'] - compacted['test_accuracy']) < 0.03
    assert abs(masked['share_used'] - compacted['share_used']) < 0.05
    assert masked['samples_looked_at'] == masked['samples_presented']
    resting = run('resting', recheck=True)['student']
    assert resting['samples_looked_at'] < 0.9 * resting['samples_presented'] == 0.9 * masked['samples_presented']
    assert resting['test_accuracy'] > 0.9
    assert 'skipped the forward pass as well' in (tmp_path / 'resting' / 'report.md').read_text()


def test_several_devices_and_held_out_data(tmp_path):
    config = digits_config(**{'teacher.epochs': 1, 'student.epochs': 2, 'validation_fraction': 0.1})
    results = experiment.run(config, tmp_path / 'run', devices=jax.devices()[:2])
    assert results['student']['samples_presented'] == 2 * 1294
    assert results['device'].startswith('2 x')
    for row in read_rows(tmp_path / 'run' / 'student'):
        assert 0 <= row['validation_accuracy'] <= 1


def test_augmented_images_in_mixed_precision_with_a_live_teacher(trained, tmp_path, one_device, capsys):
    config = digits_config(
        **{
            'method': 'cckd_t',
            'precision': 'bfloat16',
            'augmentation.crop': 1,
            'student.epochs': 6,
            'teacher.checkpoint': str(trained / 'teacher'),
            'attack.checkpoint': str(trained / 'separate'),
        }
    )
    results = experiment.run(config, tmp_path / 'run', devices=one_device)
    assert 'images are augmented, so teacher outputs are not cached' in capsys.readouterr().err
    assert results['student']['test_accuracy'] > 0.9


def test_a_network_and_a_data_set_of_ones_own(tmp_path, one_device, digits, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    small = lambda images: images[:, ::2, ::2]
    np.savez(
        tmp_path / 'small.npz',
        x_train=small(digits.train.images),
        y_train=digits.train.labels,
        x_test=small(digits.test.images),
        y_test=digits.test.labels,
    )
    config = digits_config(**{'dataset.name': str(tmp_path / 'small.npz'), 'student.model': 'test_models:own_network'})
    config.student.options.hidden = 32
    results = experiment.run(config, tmp_path / 'run', devices=one_device)
    assert results['dataset'] == 'small'
    assert results['student']['parameters'] == (14 * 14 + 1) * 32 + (32 + 1) * 10
    assert results['student']['test_accuracy'] > 0.9

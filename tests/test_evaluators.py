"""Sections of results and report: added from outside, redrawn from files, and measured again after training."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import digits_config

from cckd_jax import cli, evaluation, evaluators, experiment
from cckd_jax.errors import InputError
from cckd_jax.evaluators import Evaluator, robustness, schema
from cckd_jax.evaluators.calibration import CALIBRATION
from cckd_jax.experiment.results import read

# Evaluators that cannot be used.
NOT_ONE = 3
accuracy = student = CALIBRATION
NUMPY = Evaluator(lambda run, predictions: {'spread': np.float32(0)}, str)


def small(**fields):
    """A run of a second or two: networks of one layer on some of the digits."""
    one_layer = {'teacher.model': 'helpers:Flat', 'student.model': 'helpers:Flat', 'dataset.examples': 128}
    few = {'teacher.epochs': 2, 'student.epochs': 2, 'attack.samples': 32, 'evaluate.calibration': True}
    config = digits_config(**{**one_layer, **few, **fields})
    for network in (config.teacher, config.student):
        network.options.width = 0.0
    return config


@pytest.fixture(scope='module')
def finished(tmp_path_factory, one_device):
    workdir = tmp_path_factory.mktemp('finished') / 'run'
    experiment.run(small(**{'evaluate.extra': ('own_evaluator:SPREAD',)}), workdir, devices=one_device)
    return workdir


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / 'copy'))


def figures(workdir):
    return {path.name: path.read_bytes() for path in (workdir / 'figures').iterdir()}


def test_an_evaluator_of_ones_own_is_one_short_file(finished):
    assert len((Path(__file__).parent / 'own_evaluator.py').read_text().splitlines()) < 30
    section = json.loads((finished / 'results.json').read_text())['SPREAD']
    assert section.keys() == {'teacher', 'student', 'separate'}
    report = (finished / 'report.md').read_text()
    assert f'| student | {section["student"]:.3f} |' in report
    assert 'figures/spread.png' in report
    assert (finished / 'figures' / 'spread.png').read_bytes().startswith(b'\x89PNG')


def test_an_evaluator_of_ones_own_from_the_command_line():
    config = cli.configured('configs/digits_lenet.py', ['--config.evaluate.extra=own_evaluator:SPREAD'])
    assert list(evaluators.with_extra(config.evaluate.extra))[-1] == 'SPREAD'


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('nowhere:SPREAD', "evaluator 'nowhere:SPREAD' cannot be imported: No module named 'nowhere'"),
        ('own_evaluator', "own_evaluator has no ''; give package.module:NAME"),
        ('own_evaluator:SPRED', r"has no 'SPRED' \(did you mean 'SPREAD'\?\)"),
        ('test_evaluators:NOT_ONE', 'test_evaluators:NOT_ONE is a .*, not a cckd_jax.evaluators.Evaluator'),
        ('test_evaluators:accuracy', 'has the name of another entry of results.json'),
        ('test_evaluators:student', 'has the name of another entry of results.json'),
    ],
)
def test_an_evaluator_that_cannot_be_used_is_rejected_before_training(spec, message, tmp_path, one_device):
    with pytest.raises(InputError, match=message) as raised:
        experiment.run(small(**{'evaluate.extra': (spec,)}), tmp_path / 'run', devices=one_device)
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / 'run').exists()


def test_report_and_figures_are_redrawn_from_the_run_directory_alone(finished, copy):
    drawn = figures(copy)
    assert drawn.keys() == {
        f'{name}.png' for name in ('curves', 'participation', 'adversarial', 'reliability', 'spread')
    }
    (copy / 'report.md').unlink()
    shutil.rmtree(copy / 'figures')
    for checkpoints in copy.glob('*/checkpoints'):
        shutil.rmtree(checkpoints)
    (copy / 'teacher_outputs.npz').unlink()
    assert experiment.write_report(copy) == copy / 'report.md'
    assert (copy / 'report.md').read_text() == (finished / 'report.md').read_text()
    assert figures(copy) == drawn
    for name in ('evaluation/transfer.npz', 'config.json', 'results.json'):
        (copy / name).unlink()
        with pytest.raises(InputError, match=Path(name).name):
            experiment.write_report(copy)


def test_a_finished_run_is_evaluated_again_without_training(copy, one_device, capsys):
    before = json.loads((copy / 'results.json').read_text())
    checkpoints = sorted((path, path.stat().st_mtime_ns) for path in copy.glob('*/checkpoints/*'))
    changes = {'attack.epsilon': 0.3, 'attack.samples': 16, 'evaluate.calibration': False}
    results = experiment.run(small(**changes), copy, devices=one_device)
    printed = capsys.readouterr().err
    assert 'evaluating' in printed
    assert 'with other attack.epsilon, attack.samples, evaluate.calibration, evaluate.extra' in printed
    assert 'student: all 2 epochs are done' in printed
    assert sorted((path, path.stat().st_mtime_ns) for path in copy.glob('*/checkpoints/*')) == checkpoints
    assert (results['attack']['epsilon'], results['attack']['samples']) == (0.3, 16)
    assert results['calibration'] is None
    assert 'SPREAD' not in results
    assert '## Calibration' not in (copy / 'report.md').read_text()
    assert results['student']['test_accuracy'] == before['student']['test_accuracy']
    experiment.run(small(**changes, **{'save_seconds': 3.0}), copy, devices=one_device)
    assert 'is complete' in capsys.readouterr().err
    with pytest.raises(InputError, match=r'holds a run with seed=0'):
        experiment.run(small(**changes, seed=1), copy, devices=one_device)


def test_a_run_whose_evaluation_failed_resumes_there(copy, one_device, capsys):
    fields = {'evaluate.extra': ('test_evaluators:NUMPY',)}
    with pytest.raises(InputError, match=r'the evaluator NUMPY returned a value that results\.json cannot hold'):
        experiment.run(small(**fields), copy, devices=one_device)
    # The results on disk are of other settings, so the run does not count as finished.
    with pytest.raises(InputError, match='NUMPY'):
        experiment.run(small(**fields), copy, devices=one_device)
    experiment.run(small(), copy, devices=one_device)
    assert 'student: all 2 epochs are done' in capsys.readouterr().err
    assert (copy / 'report.md').exists()


def test_damaged_results_are_made_again(finished, copy, one_device, capsys):
    for content in (b'', b'{"method":', b'[1]', b'{}', b'\xff\xfe', b'[' * 100_000):
        (copy / 'results.json').write_bytes(content)
        assert read(copy) is None
    config = small(**{'evaluate.extra': ('own_evaluator:SPREAD',)})
    (copy / 'config.json').unlink()
    results = experiment.run(config, copy, devices=one_device)
    assert 'student: all 2 epochs are done' in capsys.readouterr().err
    assert read(copy) == results
    assert results['student']['test_accuracy'] == read(finished)['student']['test_accuracy']


@pytest.mark.parametrize('name', ['results.json', 'report.md'])
def test_a_folder_in_place_of_results_or_report_is_rejected(name, tmp_path, one_device):
    (tmp_path / 'run' / name).mkdir(parents=True)
    with pytest.raises(InputError, match=rf'{name} is a folder; a run keeps a file there; remove it'):
        experiment.run(small(), tmp_path / 'run', devices=one_device)


def test_the_student_alone_and_the_attack_can_be_left_out(tmp_path, one_device):
    results = experiment.run(small(**{'separate.enabled': False}), tmp_path / 'run', devices=one_device)
    assert results['separate'] == {'test_accuracy': None, 'epochs': None}
    assert set(results['attack'].values()) == {None}
    assert results['student']['adversarial_accuracy'] is results['student']['adversarial_accuracy_exact'] is None
    assert not (tmp_path / 'run' / 'separate').exists()
    report = (tmp_path / 'run' / 'report.md').read_text()
    assert 'does not train the student alone' in report
    assert '| Student trained alone, test accuracy | left out |' in report
    assert 'Transfer attack' not in report
    results = experiment.run(small(**{'evaluate.transfer_attack': False}), tmp_path / 'other', devices=one_device)
    assert results['separate']['test_accuracy'] > 0
    assert set(results['attack'].values()) == {None}
    report = (tmp_path / 'other' / 'report.md').read_text()
    assert 'FGSM examples crafted on the student trained alone | left out |' in report


def test_results_have_the_entries_of_their_schema(finished):
    results = json.loads((finished / 'results.json').read_text())
    assert results.keys() == schema.Results.__annotations__.keys() | {'SPREAD'}
    for name in ('student', 'separate', 'attack', 'calibration'):
        of_name = {'student': schema.Student, 'separate': schema.Separate, 'attack': schema.Attack}
        assert results[name].keys() == of_name.get(name, schema.Calibration).__annotations__.keys(), name
    assert results['teacher'].keys() == schema.Teacher.__required_keys__


def test_the_exact_gradient_is_not_rounded_away():
    # The second class is nearly impossible: in float32 its probability does not change that of the label.
    logits = lambda images: jnp.stack([images[:, 0, 0, 0] * 30 + 30, -images[:, 0, 0, 1]], -1)
    images, labels = jnp.full((1, 1, 1, 2), 0.5), jnp.array([0])
    moved = {
        loss: evaluation.fgsm(logits, images, labels, epsilon=0.25, loss=loss).ravel().tolist()
        for loss in ('softmax_cross_entropy', 'cross_entropy')
    }
    assert moved == {'softmax_cross_entropy': [0.5, 0.25], 'cross_entropy': [0.25, 0.25]}


FAR = lambda network, images, labels, *, epsilon, key: images + 1.0
CROPPED = lambda network, images, labels, *, epsilon, key: images[:, :2]


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'evaluate.attacks': ('test_evaluators:CROPPED',)}, 'CROPPED must return images of the shape'),
        ({'evaluate.attacks': ('test_evaluators:NOT_ONE',)}, 'NOT_ONE cannot be computed: TypeError'),
        ({'evaluate.attacks': ('test_evaluators:nothing',)}, "test_evaluators has no 'nothing'"),
        ({'optimizer.name': 'test_evaluators:small'}, "'test_evaluators:small' cannot be created from a learning rate"),
    ],
)
def test_an_attack_or_optimizer_that_cannot_be_used_is_rejected_before_training(fields, message):
    with pytest.raises(InputError, match=message):
        experiment.check(small(**fields))


def test_an_attack_from_outside_is_kept_in_the_ball():
    evaluate = small(**{'evaluate.attacks': ('test_evaluators:FAR',)}).evaluate
    moved = robustness.attacks(evaluate)['FAR'](None, np.full((1, 2, 2, 1), 0.5), None, epsilon=0.1, key=None)
    np.testing.assert_allclose(moved, 0.6, rtol=1e-6)
    moved = robustness.attacks(evaluate)['FAR'](None, np.full((1, 2, 2, 1), 0.95), None, epsilon=0.1, key=None)
    np.testing.assert_allclose(moved, 1.0)

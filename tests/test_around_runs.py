"""Robust teachers, and students taught around the samples, through whole runs of one small network."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Flat, digits_config, softmax

from cckd_jax import data, evaluation, experiment, models
from cckd_jax.errors import InputError
from cckd_jax.evaluators.calibration import CALIBRATION
from cckd_jax.evaluators.faithfulness import FAITHFULNESS, summarize
from cckd_jax.evaluators.robustness import ROBUSTNESS
from cckd_jax.experiment import network_training, networks
from cckd_jax.experiment.teachers import resolve_method
from cckd_jax.training import load_network


def config_of(**fields):
    """Teacher and student of one layer, which compile in no time."""
    small = {'teacher.model': 'helpers:Flat', 'student.model': 'helpers:Flat', 'batch_size': 32}
    config = digits_config(**{**small, 'teacher.epochs': 6, 'student.epochs': 8, 'epsilon': 0.03, **fields})
    for part in (config.teacher, config.student):
        if part.model == 'helpers:Flat':
            part.options.width = 0.0
    return config


@pytest.fixture(scope='module')
def robust(tmp_path_factory, one_device):
    """A finished run of an adversarially trained teacher and a student taught by ard, with all that is measured."""
    workdir = tmp_path_factory.mktemp('robust') / 'run'
    fields = {
        'method': 'ard',
        'teacher.robust': 'adversarial',
        'teacher.epsilon': 0.05,
        'teacher.ramp': 2,
        'validation_fraction': 0.1,
        'evaluate.calibration': True,
        'evaluate.robustness': True,
        'evaluate.faithfulness': True,
        'evaluate.epsilons': (0.05, 0.0),
        'evaluate.samples': 150,
        'evaluate.steps': 3,
        'evaluate.queries': 5,
        'evaluate.temperatures': (1.0,),
    }
    experiment.run(config_of(**fields), workdir, devices=one_device)
    return workdir


def test_a_run_around_the_samples(robust):
    results = json.loads((robust / 'results.json').read_text())
    assert results['student']['test_accuracy'] > 0.85
    assert results['hyperparameters']['epsilon'] == 0.03
    (meta, _) = load_network(robust / 'student')
    assert (meta['method'], meta['epsilon']) == ('ard', 0.03)


def test_how_a_teacher_was_trained_is_kept_with_it(robust, tmp_path, one_device):
    (meta, _) = load_network(robust / 'teacher')
    assert (meta['method'], meta['epsilon']) == ('adversarial', 0.05)
    teacher = json.loads((robust / 'results.json').read_text())['teacher']
    assert (teacher['method'], teacher['epsilon']) == ('adversarial', 0.05)
    assert 'trained by adversarial, ε = 0.05) taught' in (robust / 'report.md').read_text()
    for fields, said in (
        ({'teacher.robust': 'ibp'}, "has method 'adversarial', this run needs 'ibp'"),
        ({'teacher.robust': 'adversarial', 'teacher.epsilon': 0.1}, 'has epsilon 0.05, this run needs 0.1'),
    ):
        config = config_of(**{'teacher.checkpoint': str(robust / 'teacher'), **fields})
        with pytest.raises(InputError, match=said):
            experiment.run(config, tmp_path / 'run', devices=one_device)


def test_no_temperature_is_fitted_on_what_a_network_learnt_from(robust, tmp_path, one_device, capsys):
    fields = {'seed': 5, 'validation_fraction': 0.1, 'evaluate.calibration': True, 'epsilon': None}
    config = config_of(**{'method': 'faithful_certified', 'teacher.checkpoint': str(robust / 'teacher'), **fields})
    found = experiment.run(config, tmp_path / 'run', devices=one_device)['calibration']['networks']
    assert found['teacher']['temperature'] is None
    assert found['student']['temperature'] > 0
    assert 'epsilon and rho reach full value in epoch 11, but training stops after epoch 8' in capsys.readouterr().err


def test_a_robust_teacher_may_have_a_gate():
    fields = {'teacher.robust': 'ibp', 'teacher.epsilon': 0.2, 'teacher.ramp': 3, 'teacher.self_regulate': True}
    method = resolve_method(config_of(**fields, **{'teacher.alpha': 0.5}).teacher)
    assert method.hyperparameters['alpha'] == 0.5
    assert {'epsilon': 0.2, 'ramp': 3, 'rho': 0.5}.items() <= method.hyperparameters.items()
    assert method.learning_rate == 1e-3


@pytest.fixture(scope='module')
def results(robust):
    return json.loads((robust / 'results.json').read_text())


def logits_of(robust, name, images):
    (_, variables) = load_network(robust / name)
    network = models.Network(Flat(width=0.0), variables)
    return np.asarray(network(data.to_unit(jnp.asarray(images))))


def test_calibration_is_of_the_networks_on_the_test_split(robust, results, digits):
    found = results['calibration']
    assert found['networks'].keys() == {'teacher', 'student', 'separate'}
    assert found['validation_examples'] == 143
    labels = jnp.asarray(digits.test.labels)
    logits = {name: jnp.asarray(logits_of(robust, name, digits.test.images)) for name in found['networks']}
    for name, errors in found['networks'].items():
        for key in ('expected_calibration_error', 'adaptive_calibration_error', 'brier_score'):
            expected = getattr(evaluation, key)(logits[name], labels)
            np.testing.assert_allclose(errors[key], expected, rtol=1e-4)
        # A temperature fitted on other data of the same kind is no worse by what it is fitted to.
        scaled = evaluation.negative_log_likelihood(logits[name] / errors['temperature'], labels)
        np.testing.assert_allclose(errors['at_temperature']['negative_log_likelihood'], scaled, rtol=1e-4)
        assert scaled < errors['negative_log_likelihood'] + 0.01
    expected = evaluation.imitation(logits['teacher'], logits['student'], labels)._asdict()
    for part, value in found['relative']['student'].items():
        np.testing.assert_allclose(value, expected[part], rtol=1e-3, err_msg=part)


def test_robustness_is_of_each_network_against_itself(robust, results, digits):
    found = results['robustness']
    assert (found['samples'], found['epsilons']) == (150, [0.05, 0.0])
    (images, labels) = (digits.test.images[:150], digits.test.labels[:150])
    for name, network in found['networks'].items():
        clean = np.mean(logits_of(robust, name, images).argmax(-1) == labels)
        np.testing.assert_allclose(network['clean'], clean)
        assert network['attacked'].keys() == {'fgsm', 'pgd, τ = 1', 'pgd, margin', 'square', 'worst'}
        for attack, (moved, still) in network['attacked'].items():
            assert moved <= still == network['clean'], attack
            assert network['attacked']['worst'][0] <= moved
        assert network['attacked']['pgd, margin'][0] < clean
    (_, variables) = load_network(robust / 'student')
    student = models.Network(Flat(width=0.0), variables)
    moved = evaluation.fgsm(student, data.to_unit(jnp.asarray(images)), jnp.asarray(labels), epsilon=0.05)
    expected = np.mean(np.asarray(student(moved)).argmax(-1) == labels)
    np.testing.assert_allclose(found['networks']['student']['attacked']['fgsm'][0], expected)


def test_faithfulness_is_found_and_certified_side_by_side(robust, results, digits):
    found = results['faithfulness']
    (images, labels) = (digits.test.images[:150], digits.test.labels[:150])
    right = logits_of(robust, 'teacher', images).argmax(-1) == labels
    assert (found['samples'], found['teacher_correct']) == (150, right.sum())
    assert found['students'].keys() == {'student', 'separate'}
    for radii in found['students'].values():
        (around, at_image) = radii
        assert (around['epsilon'], at_image['epsilon']) == (0.05, 0.0)
        for measure in ('disagreement', 'gap', 'over_confidence', 'under_confidence'):
            (clean, attacked, certified) = (around[measure][way] for way in ('clean', 'found', 'certified'))
            assert clean <= attacked <= certified + 1e-6, measure
            np.testing.assert_allclose(list(at_image[measure].values()), clean, atol=1e-5)
        assert around['gap']['clean'] < around['gap']['found'] < around['gap']['certified'] <= 1
        curve = around['faithful_fraction']
        assert (np.asarray(curve['certified']) <= curve['found']).all()
        assert curve['found'][-1] == curve['certified'][-1] == 1
    # By hand, of the student at the images themselves.
    (teacher, student) = (
        softmax(logits_of(robust, name, images))[np.arange(150), labels] for name in ('teacher', 'student')
    )
    gap = np.abs(student - teacher)[right].mean()
    np.testing.assert_allclose(found['students']['student'][0]['gap']['clean'], gap, rtol=1e-4)


def test_the_report_shows_what_was_measured(robust, results):
    text = (robust / 'report.md').read_text()
    for title, figure in (
        ('Calibration', 'reliability'),
        ('Robustness', 'robustness'),
        ('Faithfulness', 'faithfulness'),
    ):
        assert f'## {title}\n' in text
        assert f'figures/{figure}.png' in text
        assert (robust / 'figures' / f'{figure}.png').read_bytes().startswith(b'\x89PNG')
    student = results['robustness']['networks']['student']['attacked']['worst'][0]
    assert f'| worst | {student:.2%} |' in text
    gap = results['faithfulness']['students']['student'][0]['gap']
    assert f'| {gap["clean"]:.4f} | {gap["found"]:.4f} | {gap["certified"]:.4f} |' in text


def test_what_attacks_and_bounds_say_of_each_image_is_averaged():
    gaps = {'clean': [[0.1, -0.1], [-0.3, 0.3]], 'found': [[0.2, 0.0], [-0.1, 0.4]], 'certified': [[1, 0.5], [0, 0.6]]}
    each = {f'gap_{way}': np.array(values, float) for way, values in gaps.items()}
    each |= {f'agrees_{way}': np.array(agree) for way, agree in (('clean', [1, 1]), ('found', [1, 0]))}
    found = summarize(each | {'agrees_certified': np.array([False, False])})
    assert found['disagreement'] == {'clean': 0.0, 'found': 0.5, 'certified': 1.0}
    assert found['gap'] == pytest.approx({'clean': 0.2, 'found': 0.3, 'certified': 0.8})
    assert found['over_confidence'] == pytest.approx({'clean': -0.1, 'found': 0.05, 'certified': 0.5})
    assert found['under_confidence'] == pytest.approx({'clean': 0.1, 'found': 0.2, 'certified': 0.55})
    assert found['faithful_fraction']['found'][5:9] == [0.5, 0.5, 0.5, 1.0]  # kappa 0.25 to 0.4
    assert found['faithful_fraction']['certified'][13] == 0.5  # kappa 0.65


def test_sections_where_there_is_nothing_to_show(results):
    assert ROBUSTNESS.table({**results['robustness'], 'networks': {}}) == ''
    assert FAITHFULNESS.table({**results['faithfulness'], 'students': {}}) == ''
    text = FAITHFULNESS.table({**results['faithfulness'], 'teacher_correct': 0, 'students': {}})
    assert 'The teacher classifies none of them correctly' in text
    without = {**results['calibration'], 'relative': {}, 'validation_examples': 0}
    without['networks'] = {'student': {**without['networks']['student'], 'temperature': None}}
    text = CALIBRATION.table(without)
    assert 'No temperature was fitted' in text
    assert 'Compared with the teacher' not in text


def test_a_live_teacher_asked_around_augmented_images(robust, tmp_path, one_device, capsys):
    fields = {'method': 'faithful_certified', 'augmentation.crop': 1, 'ramp': 2}
    checkpoints = {'teacher.checkpoint': str(robust / 'teacher'), 'attack.checkpoint': str(robust / 'separate')}
    results = experiment.run(config_of(**fields, **checkpoints), tmp_path / 'run', devices=one_device)
    assert 'the teacher runs inside the step' in capsys.readouterr().err
    assert results['student']['test_accuracy'] > 0.75


def test_a_robust_teacher_resumes_bit_for_bit_in_its_ramp(tmp_path, one_device, digits):
    def trained(folder, epochs):
        fields = {'teacher.robust': 'ibp', 'teacher.ramp': 4, 'teacher.epochs': epochs, 'save_seconds': 0.0}
        config = config_of(**fields)
        folder.mkdir(exist_ok=True)
        this = networks.Run(config, folder, digits, one_device)
        method = resolve_method(config.teacher)
        return network_training.train_network(
            network_training.Plan(this, 'teacher', config.teacher, method, method_name='ibp')
        ).network.variables

    trained(tmp_path / 'cut', 2)
    jax.tree.map(np.testing.assert_array_equal, trained(tmp_path / 'cut', 4), trained(tmp_path / 'whole', 4))


@pytest.mark.parametrize(
    ('fields', 'said'),
    [
        ({'epsilon': -0.1}, r'epsilon=-0.1 must be in \[0, 1\] \(pixel range\); set --config.epsilon'),
        ({'epsilon': 1.5}, r'epsilon=1.5 must be in \[0, 1\]'),
        ({'rho': 1.5}, r'rho=1.5 must be in \[0, 1\]'),
        ({'attack_steps': 0}, 'attack_steps=0 must be a whole number from 1'),
        ({'ramp': -1}, 'ramp=-1 must be a whole number from 0'),
        ({'method': 'faithful_certified', 'bounds': 'ipb'}, r"unknown bounds 'ipb' .did you mean 'ibp'"),
        ({'teacher.robust': 'pgd'}, "unknown teacher.robust 'pgd'; there are: adversarial, ibp"),
        ({'teacher.epsilon': 0.1}, 'teacher.epsilon has no effect without teacher.robust'),
        ({'teacher.robust': 'ibp', 'teacher.epsilon': 2.0}, r'teacher.epsilon=2.0 must be in \[0, 1\]'),
        ({'teacher.robust': 'adversarial', 'teacher.ramp': -1}, 'ramp=-1 must be a whole number from 0'),
        ({'teacher.ramp': 3}, 'teacher.ramp has no effect without teacher.robust'),
        ({'teacher.robust': 'ibp', 'teacher.logits': 'a.npz'}, 'teacher.robust=ibp needs a teacher that is trained'),
        (
            {'evaluate.faithfulness': True, 'teacher.logits': 'a.npz'},
            'evaluate.faithfulness=true evaluates the teacher',
        ),
        (
            {'evaluate.faithfulness': True, 'num_teachers': 2, 'method': 'aver'},
            'evaluate.faithfulness=true compares a student with one teacher, and num_teachers=2',
        ),
        (
            {'evaluate.epsilons': (0.1, -0.1)},
            r'evaluate.epsilons=.0.1, -0.1. must be one or more numbers in .0, 1.',
        ),
        ({'evaluate.epsilons': (1.5,)}, 'evaluate.epsilons=.1.5,. must be one or more numbers in'),
        ({'evaluate.epsilons': ()}, 'must be one or more numbers in'),
        ({'evaluate.epsilons': ('a',)}, 'must be one or more numbers in'),
        ({'evaluate.temperatures': ('a',)}, 'must be one or more numbers in .0.001'),
        (
            {'evaluate.faithfulness': True, 'precision': 'bfloat16'},
            'evaluate.faithfulness=true certifies networks in float32, and precision=bfloat16',
        ),
        ({'evaluate.samples': 0}, 'evaluate.samples=0 must be a whole number from 1'),
        ({'evaluate.temperatures': (0.0,)}, 'evaluate.temperatures=.0.0,. must be one or more numbers in .0.001'),
        ({'evaluate.bounds': 'corwn'}, "unknown evaluate.bounds 'corwn' .did you mean 'crown'"),
        (
            {'evaluate.faithfulness': True, 'student.model': 'test_bounds_refused:Unknown'},
            "the student, test_bounds_refused:Unknown: certified bounds have no rule for the layer 'GroupNorm'",
        ),
        ({'method': 'iad', 'teacher.logits': 'a.npz'}, 'iad evaluates the teacher at points near the images'),
        (
            {'method': 'faithful_certified', 'student.model': 'test_bounds_refused:Unknown'},
            "Unknown: certified bounds have no rule for the layer 'GroupNorm'; there are rules for: Conv, Dense",
        ),
        (
            {'method': 'kd', 'teacher.robust': 'ibp', 'teacher.model': 'test_models:own_network'},
            'the teacher, test_models:own_network: certified bounds need a list of layers, which .* does not provide',
        ),
    ],
)
def test_settings_that_cannot_be(fields, said, tmp_path, one_device):
    with pytest.raises(InputError, match=said) as raised:
        experiment.run(config_of(**fields), tmp_path / 'run', devices=one_device)
    assert len(str(raised.value).splitlines()) == 1
    assert not Path(tmp_path / 'run' / 'config.json').exists()

"""Several teachers through whole runs: trained, restored or given, noisy or not, and what each one counted."""

import json
import shutil

import numpy as np
import pytest
from helpers import assert_trees_equal, check_report, digits_config
from test_loop import final_state, untimed

from cckd_jax import config as settings, experiment
from cckd_jax.errors import InputError
from cckd_jax.evaluators import Teachers, TrainedNetwork
from cckd_jax.evaluators.teachers import mean_weights
from cckd_jax.experiment import teachers
from cckd_jax.experiment.networks import Run
from cckd_jax.report.metrics import read_rows
from cckd_jax.training.teacher_outputs import TeacherOutputs


def of_two(trained, **fields):
    """Two good teachers, a LeNet-5 and a LeNet-5-Half, and the student alone, all from the fixture."""
    return digits_config(
        **{
            'num_teachers': 2,
            'teacher.checkpoint': str(trained / 'teacher'),
            'teachers.1.checkpoint': str(trained / 'separate'),
            'teachers.1.model': 'lenet5_half',
            'attack.checkpoint': str(trained / 'separate'),
            **fields,
        }
    )


def with_a_noisy_one(trained):
    fields = {
        'method': 'ca_mkd',
        'num_teachers': 3,
        'teachers.2.model': 'lenet5_half',
        'teachers.2.label_noise': 0.9,
        'teachers.2.epochs': 8,
        'teachers.2.seed': 5,
        'student.learning_rate': 3e-3,
        'student.epochs': 12,
        'save_seconds': 0.0,
        'evaluate.calibration': True,
    }
    return of_two(trained, **fields)


@pytest.fixture(scope='module')
def noisy(trained, tmp_path_factory, one_device):
    """A finished run by CA-MKD whose third teacher was trained here, on labels of which most are shuffled."""
    workdir = tmp_path_factory.mktemp('noisy') / 'run'
    experiment.run(with_a_noisy_one(trained), workdir, devices=one_device)
    return workdir


def test_a_run_of_several_teachers(noisy, trained, digits):
    results = json.loads((noisy / 'results.json').read_text())
    teacher = results['teacher']
    assert teacher['model'] == ['lenet5', 'lenet5_half', 'lenet5_half']
    assert teacher['label_noise'] == [0.0, 0.0, 0.9]
    assert min(teacher['test_accuracy'][:2]) > 0.95 > 0.8 > teacher['test_accuracy'][2]
    assert results['student']['test_accuracy'] > 0.95
    # The third alone was trained here.
    assert sorted(path.name for path in noisy.iterdir() if path.is_dir()) == [
        *('evaluation', 'figures', 'student', 'teacher_2')
    ]
    cached = np.load(noisy / 'teacher_outputs.npz')
    assert cached['logits'].shape == (1437, 3, 10)
    alone = np.load(trained / 'teacher_outputs.npz')
    np.testing.assert_allclose(cached['logits'][:, 0], alone['logits'][:, 0], rtol=1e-4, atol=1e-4)
    for place in range(3):
        right = cached['test_logits'][:, place].argmax(-1) == digits.test.labels
        assert teacher['test_accuracy'][place] == right.mean()
    together = np.exp(cached['logits'] - np.logaddexp.reduce(cached['logits'], -1, keepdims=True)).mean(1)
    assert teacher['ensemble_train_accuracy'] == np.mean(together.argmax(-1) == digits.train.labels)
    together = np.exp(cached['test_logits'] - np.logaddexp.reduce(cached['test_logits'], -1, keepdims=True)).mean(1)
    likelihood = -np.log(together[np.arange(360), digits.test.labels]).mean()
    found = results['calibration']['networks']['teacher']['negative_log_likelihood']
    np.testing.assert_allclose(found, likelihood, rtol=1e-4)
    assert json.loads((noisy / 'config.json').read_text())['teachers'].keys() == {'1', '2'}


def test_the_worst_teacher_counts_least_and_the_report_says_so(noisy, digits):
    found = json.loads((noisy / 'results.json').read_text())['teacher_weights']
    logits = np.load(noisy / 'teacher_outputs.npz')['logits'].astype(np.float64)
    error = (np.logaddexp.reduce(logits, -1) - logits[np.arange(1437), :, digits.train.labels]).T
    share = (1 - np.exp(error) / np.exp(error).sum(0)) / 2
    np.testing.assert_allclose(found['logits']['overall'], share.mean(1), atol=1e-4)
    for label, of_class in enumerate(found['logits']['by_class']):
        np.testing.assert_allclose(of_class, share[:, digits.train.labels == label].mean(1), atol=1e-4)
    for name in ('logits', 'maps'):
        overall = found[name]['overall']
        assert sum(overall) == pytest.approx(1, abs=1e-4)
        assert max(overall) <= 0.5 + 1e-4
    # Maps that have not joined count nothing.
    rows = read_rows(noisy / 'student')
    assert rows[0]['teacher_shares']['maps']['overall'] is None
    joined = [row['teacher_shares']['maps']['overall'] for row in rows[1:]]
    np.testing.assert_allclose(found['maps']['overall'], np.mean(joined, 0), atol=1e-6)
    # The maps have no such order: a teacher that is unsure of everything is never far from the label.
    assert found['logits']['overall'][2] < 0.3 < min(found['logits']['overall'][:2])
    report = (noisy / 'report.md').read_text()
    assert '| teacher 2 | lenet5_half | 8 | 90% |' in report
    assert f'| {found["logits"]["overall"][2]:.3f} |' in report
    assert f'| 7 | {found["logits"]["by_class"][7][0]:.3f} |' in report
    assert (noisy / 'figures' / 'teacher_weights.png').read_bytes().startswith(b'\x89PNG')
    assert 'figures/teacher_weights.png' in report
    check_report(noisy)


def test_an_interrupted_run_of_several_teachers_resumes(noisy, tmp_path, trained, one_device, capsys):
    workdir = tmp_path / 'run'
    shutil.copytree(noisy, workdir)
    for name in ('report.md', 'results.json'):
        (workdir / name).unlink()
    shutil.rmtree(workdir / 'student' / 'checkpoints' / '12')
    experiment.run(with_a_noisy_one(trained), workdir, devices=one_device)
    said = capsys.readouterr().err
    assert 'teacher_2: all 8 epochs are done' in said
    assert 'student: resuming after epoch 11 of 12' in said
    assert untimed(workdir / 'student') == untimed(noisy / 'student')
    assert_trees_equal(final_state(workdir / 'student'), final_state(noisy / 'student'))


def test_outputs_of_other_teachers_are_not_taken_for_these(noisy, tmp_path, trained, one_device):
    workdir = tmp_path / 'run'
    workdir.mkdir()
    for name in ('teacher_2', 'teacher_outputs.npz'):
        copy = shutil.copytree if (noisy / name).is_dir() else shutil.copy
        copy(noisy / name, workdir / name)
    config = with_a_noisy_one(trained)
    with config.unlocked():
        config.teachers[1].checkpoint = str(trained / 'student')
    with pytest.raises(InputError, match='was computed for other teacher weights, data or preprocessing'):
        experiment.run(config, workdir, devices=one_device)
    with config.unlocked():
        config.teachers[1].checkpoint = str(trained / 'teacher')
    with pytest.raises(InputError, match="has model 'lenet5', this run needs 'lenet5_half'"):
        experiment.run(config, tmp_path / 'other', devices=one_device)


@pytest.fixture
def make(digits, tmp_path, one_device):
    """A run that has not begun, and its method."""

    def make(config):
        (tmp_path / 'run').mkdir(exist_ok=True)
        run = Run(config, tmp_path / 'run', digits, one_device)
        return run, experiment.resolve_method(config)

    return make


def test_teachers_given_as_files_stand_beside_networks(make, trained, tmp_path):
    file = trained / 'teacher_outputs.npz'
    fields = {'teachers.1.checkpoint': None, 'teachers.1.logits': str(file)}
    (run, method) = make(of_two(trained, method='aver', **fields))
    loaded = teachers.load_pretrained(run)
    assert isinstance(loaded[0], TrainedNetwork)
    assert isinstance(loaded[1], TeacherOutputs)
    obtained = teachers.train_teachers(run, loaded)
    assert obtained.networks[1] is None
    np.testing.assert_allclose(obtained.outputs.train[:, 0], obtained.outputs.train[:, 1], rtol=1e-4, atol=1e-4)
    assert obtained.outputs.test.shape == (360, 2, 10)
    (aux, live) = teachers.student_aux(run, method, obtained)
    assert (aux.keys(), live) == ({'teacher_logits'}, [])
    # One file may hold all of them.
    both = obtained.outputs.train[:, ::-1]
    np.savez(tmp_path / 'both.npz', logits=both)
    alone = {'teacher.checkpoint': None, 'teacher.logits': str(tmp_path / 'both.npz')}
    (run, _) = make(digits_config(num_teachers=2, method='aver', **alone))
    for index, outputs in enumerate(teachers.load_pretrained(run)):
        np.testing.assert_array_equal(outputs.train[:, 0], both[:, index])
        assert outputs.test is None
    (run, _) = make(of_two(trained, method='aver', **alone))
    with pytest.raises(InputError, match=r'both.npz holds all 2 teachers, and teachers.1.checkpoint is given'):
        teachers.load_pretrained(run)
    (run, _) = make(digits_config(num_teachers=3, method='aver', **alone))
    with pytest.raises(InputError, match=r'both.npz holds 2 teachers; give one, or all 3 as teachers.0.logits'):
        teachers.load_pretrained(run)


def test_feature_maps_are_kept_where_they_take_little(make, trained, capsys):
    restored = lambda run: Teachers(tuple(teachers.load_pretrained(run)), TeacherOutputs(np.zeros((1437, 2, 10)), None))
    # 1437 x (5 x 5 x 16 + 5 x 5 x 8) x 4 bytes.
    size = r'student: the feature maps of 2 teachers take 0.00321 GiB on each device'
    (run, method) = make(of_two(trained, method='ca_mkd'))
    (aux, live) = teachers.student_aux(run, method, restored(run))
    assert [maps.shape for maps in aux['teacher_features']] == [(1437, 5, 5, 16), (1437, 5, 5, 8)]
    assert len(live) == 2  # their classifiers read the student's maps
    assert f'{size}; they are computed once' in capsys.readouterr().err
    (run, method) = make(of_two(trained, method='ca_mkd', feature_cache_gib=0.003))
    (aux, live) = teachers.student_aux(run, method, restored(run))
    assert (aux.keys(), len(live)) == ({'teacher_logits'}, 2)
    assert f'{size}, more than feature_cache_gib=0.003; the teachers run inside the step' in capsys.readouterr().err
    (run, method) = make(of_two(trained, method='fitnet_mkd', **{'augmentation.flip': True}))
    (aux, live) = teachers.student_aux(run, method, restored(run))
    assert (aux, len(live)) == ({}, 2)
    assert 'teacher outputs are not cached; the teachers run inside the step' in capsys.readouterr().err


def test_every_teacher_starts_from_a_seed_of_its_own():
    def seeds(**fields):
        config = digits_config(num_teachers=4, **fields)
        return teachers.seeds(config, settings.teachers(config))

    (first, second) = (seeds(seed=seed) for seed in (0, 1))
    assert (first[0], second[0]) == (0, 1)
    assert len({*first, *second}) == 8
    assert seeds(seed=0, **{'teacher.seed': 9, 'teachers.2.seed': 7}) == [9, first[1], 7, first[3]]


def test_shares_of_a_class_that_was_never_kept():
    epoch = lambda overall, by_class: {'teacher_shares': {'logits': {'overall': overall, 'by_class': by_class}}}
    rows = [epoch([0.2, 0.8], [[0.2, 0.8], None]), epoch(None, [None, None]), epoch([0.6, 0.4], [[0.6, 0.4], None])]
    rows.append({'loss': None})  # all rested
    found = mean_weights(rows)['logits']
    np.testing.assert_allclose(found['overall'], [0.4, 0.6])
    assert found['by_class'][1] is None
    assert mean_weights([{'loss': 1.0}]) == {}


def test_a_gate_that_all_share_can_be_taken_off_one():
    shared = {'teacher.self_regulate': True, 'teacher.alpha': 0.02, 'num_teachers': 2}
    config = digits_config(method='aver', **shared, **{'teachers.1.self_regulate': False})
    (first, second) = settings.teachers(config)
    assert (first.alpha, second.alpha) == (0.02, None)
    experiment.check(config)


# Bad input: one line, and nothing left behind.


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (
            {'method': 'ca_mkd', 'num_teachers': 1},
            'ca_mkd needs several teachers, and num_teachers=1; set --c',
        ),
        ({'method': 'kd'}, 'kd takes one teacher, and num_teachers=2; .* choose one of ca_mkd, aver'),
        ({'num_teachers': 9}, 'num_teachers=9 must be from 0 to 8, the length of teachers'),
        (
            {'teachers.2.model': 'lenet5'},
            'teachers.2.model is set, and num_teachers=2, counted from 0; set --config.num_teachers=3 or more',
        ),
        ({'teachers.1.model': 'lenet'}, r"unknown model 'lenet' \(did you mean 'lenet5'\?\)"),
        (
            {'teachers.1.epochs': 0},
            'teachers.1.epochs=0 must be a whole number from 1 to 2.31 - 1; set --config.teachers.1.epochs',
        ),
        ({'teachers.1.label_noise': 1.5}, r'teachers.1.label_noise=1.5 must be in \[0, 1\]'),
        (
            {'teachers.1.label_noise': 0.5, 'teachers.1.checkpoint': 'a'},
            'teachers.1.label_noise=0.5 needs a teacher that is trained, and teachers.1.checkpoint is set',
        ),
        (
            {'method': 'ca_mkd', 'teachers.1.logits': 'a.npz'},
            r"ca_mkd matches the teachers' feature maps, which teachers.1.logits does not give; .*feature_weight=0",
        ),
        (
            {'method': 'aekd', 'largest_weight': 0.4},
            'largest_weight=0.4 of 2 teachers cannot sum to 1; set --config.largest_weight to at least 0.5',
        ),
        (
            {'method': 'aekd', 'largest_weight': 0.1, 'num_teachers': 7},
            'set --config.largest_weight to at least 0.1429',
        ),
        ({'method': 'ca_mkd', 'reduction': 'mean'}, 'reduction=mean must be official or paper'),
        (
            {'method': 'ca_mkd', 'teachers.1.model': 'test_models:own_network'},
            r'ca_mkd matches feature maps \[H, W, C\] after the last stage, and .*own_network has no such map',
        ),
        (
            {'method': 'fitnet_mkd', 'student.model': 'helpers:Flat'},
            r'fitnet_mkd matches feature maps \[H, W, C\] after the 2. stage, and helpers:Flat has no such map',
        ),
        ({'teachers.1.checkpoint': '/nowhere'}, 'no readable checkpoint in /nowhere/checkpoints'),
    ],
)
def test_settings_that_cannot_be(tmp_path, one_device, fields, message):
    config = digits_config(**{'method': 'aver', 'num_teachers': 2, **fields})
    with pytest.raises(InputError, match=message) as raised:
        experiment.run(config, tmp_path / 'run', devices=one_device)
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / 'run' / 'config.json').exists()


def test_a_teacher_of_other_classes_or_images_is_refused(trained, tmp_path, one_device):
    random = np.random.default_rng(0)
    labels = np.arange(80) % 3
    images = random.integers(0, 256, (80, 28, 28, 1)).astype(np.uint8)
    path = tmp_path / 'digits_of_three.npz'
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(InputError, match="has dataset 'digits', this run needs 'digits_of_three'"):
        experiment.run(
            of_two(trained, method='aver', **{'dataset.name': str(path)}), tmp_path / 'run', devices=one_device
        )
    fields = {'dataset.image_shape': (32, 32, 3)}
    with pytest.raises(InputError, match=r'has image_shape \[28, 28, 1\], this run needs \[32, 32, 3\]'):
        experiment.run(of_two(trained, method='aver', **fields), tmp_path / 'run', devices=one_device)
    fields = {'teachers.1.checkpoint': None, 'teachers.1.logits': str(tmp_path / 'logits.npy')}
    np.save(tmp_path / 'logits.npy', np.zeros((1437, 9), np.float32))
    with pytest.raises(InputError, match=r'have shape \(1437, 9\); the data set needs \[1437, 10\]'):
        experiment.run(of_two(trained, method='aver', **fields), tmp_path / 'run', devices=one_device)

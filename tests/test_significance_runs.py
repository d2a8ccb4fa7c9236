"""Significance through whole runs: from the counts of a gated teacher to the student that they weigh."""

import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from helpers import digits_config

from cckd_jax import data, experiment, selection, training
from cckd_jax.errors import InputError
from cckd_jax.evaluators import Significance
from cckd_jax.experiment import significance as files
from cckd_jax.experiment.significance import weights
from cckd_jax.report.metrics import read_rows
from cckd_jax.training import choice


@pytest.fixture(scope='module')
def gated(tmp_path_factory, trained, one_device):
    """A finished run by kd, of a teacher that regulated itself."""
    workdir = tmp_path_factory.mktemp('gated') / 'run'
    fields = {
        'method': 'kd',
        'teacher.self_regulate': True,
        'teacher.alpha': 0.03,
        'student.epochs': 3,
        'attack.checkpoint': str(trained / 'separate'),
    }
    experiment.run(digits_config(**fields), workdir, devices=one_device)
    return workdir


def shared(gated, **fields):
    """A short run that takes the teacher of the fixture, and the student alone that the fixture took."""
    separate = json.loads((gated / 'config.json').read_text())['attack']['checkpoint']
    return digits_config(
        **{
            'teacher.checkpoint': str(gated / 'teacher'),
            'attack.checkpoint': separate,
            'student.epochs': 3,
            **fields,
        }
    )


def rewritten(gated, tmp_path, **changes):
    """The run's file with some arrays changed, or left out where the change is None."""
    arrays = {**np.load(gated / 'significance.npz'), **changes}
    path = tmp_path / 'changed.npz'
    np.savez(path, **{name: values for name, values in arrays.items() if values is not None})
    return path


def test_a_run_counts_alike_on_several_devices_and_what_is_held_out_is_not_counted(trained, tmp_path):
    fields = {
        'attack.checkpoint': str(trained / 'separate'),
        'method': 'significance',
        'teacher.self_regulate': True,
        'teacher.epochs': 3,
        'student.epochs': 1,
        'batch_size': 32,
        'dataset.examples': 320,
        'validation_fraction': 0.1,
    }
    counts = []
    for devices in (1, 4):
        workdir = tmp_path / str(devices)
        results = experiment.run(digits_config(**fields), workdir, devices=jax.devices()[:devices])
        with np.load(workdir / 'significance.npz') as found:
            counts.append(found['count'])
            index = found['index']
        assert counts[-1].sum() == sum(row['samples_used'] for row in read_rows(workdir / 'teacher')) < 3 * 288
        assert results['significance']['share_counted'] == pytest.approx(counts[-1].sum() / (3 * 288))
    np.testing.assert_array_equal(index, data.load('digits', examples=320, validation_fraction=0.1).rows)
    # Sums over devices round otherwise, and an example at the threshold may fall on the other side.
    assert np.mean(counts[0] != counts[1]) < 0.02


@pytest.fixture(scope='module')
def short(trained):
    """Of teacher and student a few epochs on some of the digits, by significance and with both gates."""
    return {
        'method': 'hybrid',
        'teacher.self_regulate': True,
        'teacher.epochs': 4,
        'student.epochs': 4,
        'batch_size': 32,
        'dataset.examples': 320,
        'attack.samples': 32,
        'attack.checkpoint': str(trained / 'separate'),
    }


@pytest.fixture(scope='module')
def masked(short, tmp_path_factory, one_device):
    """The run whose backward passes are over everyone, one step a call."""
    workdir = tmp_path_factory.mktemp('masked') / 'run'
    experiment.run(digits_config(**short, compaction=False), workdir, devices=one_device)
    return workdir


@pytest.mark.parametrize('way', ['packed', 'many steps at once', 'packed, many steps at once'])
def test_who_takes_part_does_not_depend_on_how_steps_are_taken(masked, short, way, tmp_path, one_device, monkeypatch):
    makers = []
    for name in ('make_step', 'make_compact_step', 'make_compact_step_on_device'):
        make = getattr(choice, name)
        seen = lambda method, *rest, name=name, make=make, **options: (
            makers.append((name, method.gate is not None)) or make(method, *rest, **options)
        )
        monkeypatch.setattr(choice, name, seen)
    monkeypatch.setattr(choice, '_on_cpu', lambda devices: way == 'packed')
    compaction = {'packed': None, 'many steps at once': None, 'packed, many steps at once': True}[way]
    fields = {**short, 'attack.checkpoint': None, 'compaction': compaction}
    experiment.run(digits_config(**fields), tmp_path / 'run', devices=one_device)
    # A teacher's gate is no different from a student's; the student alone has none.
    expected = {
        'packed': ['make_compact_step', 'make_compact_step', 'make_step'],
        'many steps at once': ['make_step'] * 3,
        'packed, many steps at once': ['make_compact_step_on_device'] * 3,
    }[way]
    assert makers == list(zip(expected, [True, True, False], strict=True))
    counts = [np.load(each / 'significance.npz')['count'] for each in (masked, tmp_path / 'run')]
    assert counts[1].sum() == sum(row['samples_used'] for row in read_rows(tmp_path / 'run' / 'teacher'))
    # Sums in another order round otherwise, and an example at the threshold may fall on the other side.
    assert np.mean(counts[0] != counts[1]) < 0.02
    taken = [training.load_participation(each / 'student', 4) for each in (masked, tmp_path / 'run')]
    assert taken[1].sum() == sum(row['samples_used'] for row in read_rows(tmp_path / 'run' / 'student')) > 0
    assert not taken[1][counts[1] == 0].any()
    assert np.mean(taken[0] != taken[1]) < 0.05


def test_samples_rest_unseen_in_the_student_and_never_in_the_teacher(short, tmp_path, one_device):
    config = digits_config(**short, recheck=True, margin_temperature=1.0)
    results = experiment.run(config, tmp_path / 'run', devices=one_device)
    counts = np.load(tmp_path / 'run' / 'significance.npz')['count']
    rows = {name: read_rows(tmp_path / 'run' / name) for name in ('teacher', 'student')}
    assert {row['samples_looked_at'] for row in rows['teacher']} == {320}
    assert {row['samples_presented'] for row in rows['student']} == {np.count_nonzero(counts)}
    looked = [row['samples_looked_at'] for row in rows['student']]
    assert looked[0] == np.count_nonzero(counts) > min(looked)
    assert results['student']['samples_presented'] == 4 * np.count_nonzero(counts) < 4 * 320
    taken = training.load_participation(tmp_path / 'run' / 'student', 4)
    assert taken.sum() == results['student']['samples_used']
    assert not taken[counts == 0].any()


def test_the_counts_are_kept_with_the_teacher_and_come_back(gated, tmp_path, one_device, digits):
    with np.load(gated / 'significance.npz') as found:
        assert found['epochs'] == 15
        assert found['key'] == digits.train.fingerprint()
        np.testing.assert_array_equal(found['index'], np.arange(1437))
        np.testing.assert_array_equal(found['label'], digits.train.labels)
        counts = found['count']
    assert counts.sum() == sum(row['samples_used'] for row in read_rows(gated / 'teacher'))
    assert 0 == counts.min() < counts.max() <= 15
    np.testing.assert_array_equal(training.load_participation(gated / 'teacher', 15), counts)
    results = experiment.run(shared(gated, method='significance'), tmp_path / 'run', devices=one_device)
    np.testing.assert_array_equal(np.load(tmp_path / 'run' / 'significance.npz')['count'], counts)
    student = results['student']
    above = np.count_nonzero(counts)
    assert results['significance']['above_zero'] == above
    assert student['samples_used'] == student['samples_presented'] == 3 * above
    assert student['samples_in_all'] == 3 * 1437
    assert student['share_used'] == above / 1437
    # Those of zero are never presented, and the others are in every epoch.
    np.testing.assert_array_equal(training.load_participation(tmp_path / 'run' / 'student', 3), 3 * (counts > 0))


def test_the_file_of_a_run_does_what_its_teacher_does(gated, tmp_path, one_device):
    own = experiment.run(shared(gated, method='hybrid'), tmp_path / 'teacher', devices=one_device)
    # Rows in another order still belong to the same examples; and a teacher of logits alone has no counts of its own.
    order = np.random.default_rng(0).permutation(1437)
    found = np.load(gated / 'significance.npz')
    path = rewritten(gated, tmp_path, **{name: found[name][order] for name in ('index', 'label', 'count')})
    fields = {'teacher.logits': str(gated / 'teacher_outputs.npz'), 'significance.file': str(path)}
    config = shared(gated, method='hybrid', **{'teacher.checkpoint': None, **fields})
    given = experiment.run(config, tmp_path / 'file', devices=one_device)
    for name in ('test_accuracy', 'samples_used', 'samples_presented'):
        assert own['student'][name] == given['student'][name]
    assert given['student']['samples_used'] < given['student']['samples_presented'] < 3 * 1437
    assert (own['significance']['counted_on'], given['significance']['counted_on']) == ('teacher', 'file')


@pytest.mark.parametrize('normalization', selection.NORMALIZATIONS)
def test_the_normalization_asked_for_is_taken(normalization):
    this = SimpleNamespace(config=digits_config(**{'significance.normalization': normalization}))
    counts = np.array([0, 1, 3])
    expected = selection.significance(counts, epochs=5, normalization=normalization)
    np.testing.assert_array_equal(weights(this, Significance(counts, 5)), expected)


def test_a_live_teacher_does_not_hinder_significance(gated, tmp_path, one_device):
    config = shared(gated, method='hybrid', **{'augmentation.crop': 1, 'student.epochs': 2})
    results = experiment.run(config, tmp_path / 'run', devices=one_device)
    assert 0 < results['student']['share_used'] < 1


def test_the_report_shows_significance(gated, trained):
    results = json.loads((gated / 'results.json').read_text())
    report = (gated / 'report.md').read_text()
    for name in ('significance', 'significance_images', 'significance_relations'):
        assert (gated / 'figures' / f'{name}.png').read_bytes().startswith(b'\x89PNG')
        assert f'figures/{name}.png' in report
    related = results['significance']['rank_correlation']
    assert related['student_participation'] is None  # by kd everyone takes part
    assert -1 <= related['teacher_margin'] < 0  # what the teacher is sure of has rested
    assert f'{related["teacher_margin"]:.3f}' in report
    assert 'only its abstract was available' in report
    assert json.loads((trained / 'results.json').read_text())['significance'] is None
    assert '## Significance' not in (trained / 'report.md').read_text()
    assert not (trained / 'significance.npz').exists()


# Bad input: one line, and nothing left behind.


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (
            {'method': 'significance'},
            'significance needs the significance of samples, and the teacher is not self-regulated; '
            'train a teacher with --config.teacher.self_regulate=true, or give --config.significance.file',
        ),
        ({'method': 'hybrid', 'teacher.logits': 'a.npz'}, 'teacher.logits does not give; train a teacher with'),
        ({'teacher.logits': 'a.npz', 'teacher.self_regulate': True}, 'needs a teacher that is trained'),
        ({'teacher.alpha': 0.1}, 'teacher.alpha has no effect without teacher.self_regulate; set --config.teacher'),
        ({'teacher.alpha': -0.1, 'teacher.self_regulate': True}, 'teacher.alpha=-0.1 must be in .0, 10000.'),
        (
            {'teacher.margin_temperature': 0.0, 'teacher.self_regulate': True},
            'teacher.margin_temperature=0.0 must be in .0.001, 10000.',
        ),
        ({'significance.normalization': 'mean'}, r"unknown significance.normalization 'mean' .did you mean 'mean_one'"),
        ({'significance.file': '/nowhere.npz'}, 'no file of significance at /nowhere.npz'),
    ],
)
def test_settings_that_cannot_be(tmp_path, one_device, fields, message):
    with pytest.raises(InputError, match=message) as raised:
        experiment.run(digits_config(**fields), tmp_path / 'run', devices=one_device)
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / 'run' / 'config.json').exists()


def test_a_teacher_without_the_gate_has_no_significance(trained, tmp_path, one_device):
    for fields in ({'method': 'significance'}, {'method': 'kd', 'teacher.self_regulate': True}):
        config = digits_config(**fields, **{'teacher.checkpoint': str(trained / 'teacher')})
        with pytest.raises(InputError, match=r'was trained without self-regulation.*teacher\.self_regulate=true'):
            experiment.run(config, tmp_path / 'run', devices=one_device)
        assert not (tmp_path / 'run' / 'config.json').exists()


def test_a_checkpoint_from_before_there_was_a_gate(gated, tmp_path, one_device):
    teacher = tmp_path / 'teacher'
    shutil.copytree(gated / 'teacher', teacher)
    for meta in teacher.glob('checkpoints/*/meta/metadata'):
        facts = json.loads(meta.read_text())
        assert facts.pop('gate')
        meta.write_text(json.dumps(facts))
    config = shared(gated, method='significance', **{'teacher.checkpoint': str(teacher)})
    with pytest.raises(InputError, match='was trained without self-regulation'):
        experiment.run(config, tmp_path / 'run', devices=one_device)


def test_a_teachers_counts_of_other_data(gated, tmp_path, one_device):
    fields = {'dataset.examples': 1000, 'student.epochs': 1}
    with pytest.raises(InputError, match=r'counted the significance of 1437 other training examples .* the 1000 of'):
        experiment.run(shared(gated, method='significance', **fields), tmp_path / 'run', devices=one_device)
    # It still teaches by its logits.
    results = experiment.run(shared(gated, method='regulated', **fields), tmp_path / 'run', devices=one_device)
    assert results['significance'] is None


def test_counts_that_cannot_be_read_back(gated, tmp_path):
    teacher = tmp_path / 'teacher'
    shutil.copytree(gated / 'teacher', teacher)
    shutil.rmtree(teacher / 'checkpoints' / '15' / 'training')
    with pytest.raises(InputError, match=r'the participation counts of checkpoint .*15 cannot be read'):
        training.load_participation(teacher, 15)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'key': np.array('0123')}, r'was counted on other training data \(its key is 0123, this run needs'),
        ({'key': None, 'epochs': None}, 'has no epochs, key; significance.npz of any run shows the form'),
        (
            {'count': np.ones(1436, int)},
            r'have shapes \[1437\], \[1437\] and \[1436\]; the training set needs \[1437\]',
        ),
        ({'label': np.zeros(1437, int)}, 'index and label of .* are not those of the training set'),
        ({'index': np.arange(1437) + 1}, 'index and label of .* are not those of the training set'),
        ({'epochs': np.array([15, 15])}, r'epochs of .* must be one int, not int64 \(2,\)'),
        ({'count': np.zeros(1437, int)}, 'all 1437 counts of significance are zero'),
        ({'epochs': np.array(1)}, 'must be from 0 to the 1 epochs that were counted'),
        ({'count': np.arange(1437) - 1430}, 'must be from 0 to the 15 epochs'),
        ({'count': np.ones(1437)}, 'must be ints'),
        (
            {'count': (np.arange(1437) < 63).astype(int)},
            'batch_size=64 is larger than the 63 training examples with a significance above zero; .* at most 63',
        ),
    ],
)
def test_a_file_that_does_not_fit(gated, tmp_path, one_device, changes, message):
    path = rewritten(gated, tmp_path, **changes)
    config = shared(gated, method='significance', **{'significance.file': str(path)})
    with pytest.raises(InputError, match=message) as raised:
        experiment.run(config, tmp_path / 'run', devices=one_device)
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / 'run' / 'config.json').exists()


def test_a_damaged_file(gated, tmp_path, one_device):
    path = tmp_path / 'damaged.npz'
    path.write_bytes((gated / 'significance.npz').read_bytes()[:100])
    with pytest.raises(InputError, match=r'cannot read significance from .*damaged\.npz'):
        files.load(path, data.load('digits'))


def test_other_counts_do_not_resume_a_run(gated, tmp_path, one_device):
    path = rewritten(gated, tmp_path)
    config = shared(gated, method='significance', **{'significance.file': str(path), 'student.epochs': 1})
    experiment.run(config, tmp_path / 'run', devices=one_device)
    (tmp_path / 'run' / 'report.md').unlink()
    rewritten(gated, tmp_path, count=np.ones(1437, int))
    with pytest.raises(InputError, match='holds other counts of significance'):
        experiment.run(config, tmp_path / 'run', devices=one_device)


def test_a_file_that_a_method_does_not_use_is_said(gated, tmp_path, one_device, capsys):
    fields = {'significance.file': str(gated / 'significance.npz'), 'student.epochs': 1}
    results = experiment.run(shared(gated, method='cckd_t', **fields), tmp_path / 'run', devices=one_device)
    assert 'cckd_t does not weigh by significance' in capsys.readouterr().err
    assert results['student']['share_used'] == 1


def test_a_file_comes_back_as_it_was_saved(tmp_path, digits):
    counts = np.random.default_rng(0).integers(0, 9, 1437)
    files.save(tmp_path / 'a.npz', Significance(counts, 8), digits)
    found = files.load(tmp_path / 'a.npz', digits)
    np.testing.assert_array_equal(found.counts, counts)
    assert found.epochs == 8
    assert [path.name for path in tmp_path.iterdir()] == ['a.npz']

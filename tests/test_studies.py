"""The study of significance: its controls, what it concludes, and that it resumes."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from conftest import digits_config
from scipy import stats

from cckd_jax.errors import InputError
from cckd_jax.reporting import study
from cckd_jax.statistics import Estimate, estimate, verdict
from cckd_jax.studies import significance


def test_an_interval_is_students():
    values = [0.98, 0.985, 0.971]
    found = estimate(values)
    (low, high) = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    np.testing.assert_allclose([found.mean - found.half_width, found.mean + found.half_width], [low, high])
    assert estimate([0.5]) == Estimate(0.5, None, 1)


def test_what_a_difference_allows_to_be_said():
    assert verdict(Estimate(-0.02, 0.01, 3)) == 'lower'
    assert verdict(Estimate(0.0, 0.0, 3)) == 'not told apart'
    assert verdict(Estimate(0.02, None, 1)) == 'one seed: nothing can be said'


def test_controls():
    counts = np.array([0] * 60 + [1, 2, 5, 9] * 10)
    random = np.random.default_rng
    subset = significance.random_subset(counts, random(0))
    assert np.bincount(subset).tolist() == [60, 40]
    assert not np.array_equal(subset > 0, counts > 0)
    assert not np.array_equal(subset, significance.random_subset(counts, random(1)))
    dealt = significance.shuffled(counts, random(0))
    np.testing.assert_array_equal(np.sort(dealt), np.sort(counts))
    assert not np.array_equal(dealt, counts)


def records(row, accuracies, used):
    return [
        {
            'dataset': 'digits',
            'row': row,
            'seed': seed,
            'test_accuracy': accuracy,
            'samples_used': used,
            'samples_presented': 2 * used,
            'samples_in_all': 1000,
            'share_used': used / 1000,
        }
        for seed, accuracy in enumerate(accuracies)
    ]


def test_differences_are_taken_within_a_seed(tmp_path):
    runs = records('significance', [0.90, 0.95, 0.85], 200) + records('random_subset', [0.88, 0.93, 0.83], 200)
    found = significance.summary(runs + records('shuffled', [0.9], 200) + records('teacher', [0.99, 0.98], 400))
    (random, shuffled) = found['differences']
    assert (random['row'], random['against'], random['verdict']) == ('significance', 'random_subset', 'higher')
    np.testing.assert_allclose(random['accuracy']['mean'], 0.02)
    assert shuffled['accuracy'] == {'mean': pytest.approx(0.0), 'half_width': None, 'count': 1}
    assert [row['row'] for row in found['rows']] == ['teacher', 'significance', 'random_subset', 'shuffled']
    assert found['rows'][1]['share_presented'] == pytest.approx(0.4)
    text = study.render(found)
    assert '| significance | 3 | 90.00 ± 12.42 % | 200 | 20.000% | 40.00% |' in text
    assert '| significance less random_subset | +2.00 ± 0.00 % | higher |' in text
    assert '| shuffled | 1 | 90.00 % |' in text
    study.accuracy_against_samples(tmp_path / 'study.png', found)
    assert (tmp_path / 'study.png').read_bytes().startswith(b'\x89PNG')


def test_a_study_shares_its_teacher_and_resumes(tmp_path, one_device, capsys):
    config = digits_config(
        **{
            'dataset.examples': 256,
            'batch_size': 32,
            'teacher.epochs': 2,
            'teacher.margin_temperature': 1.0,  # at 20 none is left out in so few epochs
            'student.epochs': 2,
            'attack.samples': 32,
        }
    )
    rows = ['significance', 'random_subset']
    study_of = lambda rows: significance.run({'digits': config}, tmp_path, seeds=1, rows=rows, devices=one_device)
    found = study_of(rows)
    assert config.method == 'cckd_t_reg'  # the caller's stays as it was
    assert [run['row'] for run in found['runs']] == ['teacher', 'separate', 'significance', 'random_subset']
    (teacher, separate, weighed, control) = found['runs']
    group = tmp_path / 'digits' / 'seed0'
    counts = np.load(group / 'separate' / 'significance.npz')['count']
    assert teacher['samples_used'] == counts.sum()
    assert separate['samples_used'] == separate['samples_in_all'] == 512
    assert weighed['samples_used'] == control['samples_used'] == 2 * np.count_nonzero(counts) < 512
    assert sorted(path.name for path in group.iterdir()) == [
        'random_subset',
        'random_subset.npz',
        'separate',
        'significance',
    ]
    assert not (group / 'significance' / 'teacher').exists()
    assert json.loads((tmp_path / 'study.json').read_text()) == found
    capsys.readouterr()
    assert study_of(rows) == found
    assert capsys.readouterr().err.count('is complete') == 3


def test_an_arm_for_each_temperature_of_the_margin(monkeypatch, tmp_path):
    launch = runpy.run_path(Path(__file__).parents[1] / 'launch' / 'study_significance.py')['main']
    asked = {}
    monkeypatch.setattr(significance, 'run', lambda configs, workdir, **rest: asked.update(configs))
    flags = ['study', '--datasets=digits,mnist', f'--workdir={tmp_path}', '--epochs=2', '--config.alpha=0.02']
    launch([*flags, '--margin_temperatures=20,1'])
    assert list(asked) == ['digits_margin20', 'digits_margin1', 'mnist_margin20', 'mnist_margin1']
    for name, config in asked.items():
        temperature = 1.0 if name.endswith('n1') else 20.0
        assert (config.margin_temperature, config.teacher.margin_temperature) == (temperature, temperature)
        assert (config.alpha, config.teacher.epochs, config.student.epochs) == (0.02, 2, 2)
    asked.clear()
    launch(flags)
    assert list(asked) == ['digits', 'mnist']
    assert asked['mnist'].margin_temperature is asked['mnist'].teacher.margin_temperature is None
    with pytest.raises(InputError, match=r'cold'):
        launch([*flags, '--margin_temperatures=cold'])


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'rows': ['hybird'], 'seeds': 1}, r"unknown row of the study 'hybird' .did you mean 'hybrid'"),
        ({'seeds': 0}, 'seeds=0 must be above 0; set --seeds'),
    ],
)
def test_a_study_that_cannot_be(tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        significance.run({'digits': digits_config()}, tmp_path / 'study', **fields)
    assert not (tmp_path / 'study').exists()

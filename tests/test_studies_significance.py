"""The study of significance: its controls, what it concludes, and that it resumes."""

import json

import numpy as np
import pytest
from helpers import digits_config

from cckd_jax.cli import configured
from cckd_jax.errors import InputError
from cckd_jax.studies import engine, significance, tables
from cckd_jax.studies.summary import summarize


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
            'study': 'significance',
            'dataset': 'digits',
            'row': row,
            'seed': seed,
            'test_accuracy': accuracy,
            'samples_used': used,
            'share_used': used / 1000,
            'share_presented': 2 * used / 1000,
        }
        for seed, accuracy in enumerate(accuracies)
    ]


def test_differences_are_taken_within_a_seed(tmp_path):
    runs = records('significance', [0.90, 0.95, 0.85], 200) + records('random_subset', [0.88, 0.93, 0.83], 200)
    runs += records('shuffled', [0.9], 200) + records('teacher', [0.99, 0.98], 400)
    content = {**summarize(significance.STUDY, runs), 'failures': []}
    (random, shuffled) = content['differences']
    assert (random['row'], random['against'], random['verdict']) == ('significance', 'random_subset', 'higher')
    np.testing.assert_allclose(random['mean'], 0.02)
    assert (shuffled['mean'], shuffled['half_width'], shuffled['count']) == (pytest.approx(0.0), None, 1)
    assert [row['row'] for row in content['rows']] == ['teacher', 'significance', 'random_subset', 'shuffled']
    assert content['rows'][1]['share_presented']['mean'] == pytest.approx(0.4)
    text = tables.render(significance.STUDY, content)
    assert '| significance | 3 | 90.00 ± 12.42 % | 200 | 20.000 % | 40.00 % |' in text
    assert '| significance minus random_subset | test accuracy | +2.00 ± 0.00 % | higher |' in text
    assert '| shuffled | 1 | 90.00 % |' in text
    significance.figure(tmp_path / 'study.png', content)
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
    study_of = lambda rows: engine.run(
        significance.STUDY, {'digits': config}, tmp_path, seeds=1, rows=rows, devices=one_device
    )
    content = study_of(rows)
    assert config.method == 'cckd_t_reg'  # the caller's stays as it was
    assert [run['row'] for run in content['runs']] == ['teacher', 'separate', 'significance', 'random_subset']
    (teacher, separate, weighed, control) = content['runs']
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
    assert json.loads((tmp_path / 'study.json').read_text()) == content
    capsys.readouterr()
    assert study_of(rows) == content
    assert capsys.readouterr().err == 'significance: 3 of 3 runs are finished\n'


def test_an_arm_for_each_temperature_of_the_margin(tmp_path):
    settings = ['--config.alpha=0.02', '--config.teacher.epochs=2']
    configs = {name: configured(f'{name}_lenet', settings) for name in ('digits', 'mnist')}
    jobs_with = lambda **values: list(
        significance.jobs(significance.STUDY.resolve(configs, tmp_path, seeds=1, rows=['kd'], **values))
    )
    arms = {job.dataset: job.config for job in jobs_with(margin_temperatures=['20', '1'])}
    assert list(arms) == ['digits_margin20', 'digits_margin1', 'mnist_margin20', 'mnist_margin1']
    for name, config in arms.items():
        temperature = 1.0 if name.endswith('n1') else 20.0
        assert (config.margin_temperature, config.teacher.margin_temperature) == (temperature, temperature)
        assert (config.alpha, config.teacher.epochs) == (0.02, 2)
    as_it_is = {job.dataset: job.config for job in jobs_with()}
    assert list(as_it_is) == ['digits', 'mnist']
    assert as_it_is['mnist'].margin_temperature is as_it_is['mnist'].teacher.margin_temperature is None
    with pytest.raises(InputError, match=r'--margin_temperatures=cold must be numbers'):
        jobs_with(margin_temperatures=['cold'])


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'rows': ['hybird'], 'seeds': 1}, r"unknown row of the study 'hybird' .did you mean 'hybrid'"),
        ({'seeds': 0}, 'seeds=0 must be above 0; set --seeds'),
        ({'seeds': 1, 'margins': ['1']}, "unknown option of the study significance 'margins'"),
    ],
)
def test_a_study_that_cannot_be(tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        engine.run(significance.STUDY, {'digits': digits_config()}, tmp_path / 'study', **fields)
    assert not (tmp_path / 'study').exists()

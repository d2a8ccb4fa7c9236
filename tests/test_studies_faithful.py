"""The study of faithfulness: what it concludes, that runs share a teacher, and that it resumes."""

import json

import pytest
from helpers import digits_config

from cckd_jax.cli import configured
from cckd_jax.errors import InputError
from cckd_jax.studies import engine, faithful, tables
from cckd_jax.studies.summary import summarize


def faithful_records(row, accuracies, gap):
    return [
        {
            'study': 'faithful',
            'dataset': 'digits',
            'row': row,
            'seed': seed,
            'epsilon': 0.03,
            'accuracy': accuracy,
            'transferred': None if row == 'teacher' else accuracy - 0.1,
            'robust_accuracy': accuracy - 0.2,
            'agreement': None if row == 'teacher' else 0.95,
            'gap_clean': None if row == 'teacher' else gap / 4,
            'gap_found': None if row == 'teacher' else gap / 2,
            'gap_certified': None if row == 'teacher' else gap,
        }
        for seed, accuracy in enumerate(accuracies)
    ]


def summarized(records):
    return {**summarize(faithful.STUDY, records), 'failures': []}


def test_faithfulness_is_compared_within_a_seed(tmp_path):
    runs = faithful_records('teacher', [0.96, 0.97], 0.0) + faithful_records('kd', [0.95, 0.93], 0.8)
    content = summarized(runs + faithful_records('faithful_certified', [0.93, 0.91], 0.4))
    assert [row['row'] for row in content['rows']] == ['teacher', 'kd', 'faithful_certified']
    assert {row['row'] for row in content['differences']} == {'faithful_certified'}
    verdicts = {row['measure']: row['verdict'] for row in content['differences']}
    assert verdicts['accuracy'] == verdicts['gap_certified'] == 'lower'
    assert verdicts['agreement'] == 'not significant'
    text = tables.render(faithful.STUDY, content)
    assert (
        '| kd | 2 | 0.0300 | 94.00 ± 12.71 % | 84.00 ± 12.71 % | 74.00 ± 12.71 % | 95.00 ± 0.00 % | 0.200 ± 0.000 |'
    ) in text
    assert '| faithful_certified minus kd | gap certified | -0.400 ± 0.000 | lower |' in text
    assert '| teacher | 2 | 0.0300 | 96.50 ± 6.35 % |  | 76.50 ± 6.35 % |  |  |  |  |' in text
    # A teacher that classifies no image correctly leaves no gap to compare.
    nothing = [{**record, 'gap_found': None} for record in runs]
    less = summarized(nothing + faithful_records('faithful_certified', [0.93, 0.91], 0.4))
    assert 'gap_found' not in {row['measure'] for row in less['differences']}
    assert '| kd | 2 |' in tables.render(faithful.STUDY, less)
    for number, summary in enumerate((content, less)):
        faithful.figure(tmp_path / f'{number}.png', summary)
        assert (tmp_path / f'{number}.png').read_bytes().startswith(b'\x89PNG')


def test_a_study_of_faithfulness_shares_its_teacher_and_resumes(tmp_path, one_device, capsys):
    config = digits_config(
        **{
            'dataset.examples': 256,
            'batch_size': 32,
            'teacher.model': 'helpers:Flat',
            'student.model': 'helpers:Flat',
            'teacher.robust': 'ibp',
            'teacher.epsilon': 0.02,
            'teacher.epochs': 2,
            'student.epochs': 2,
            'epsilon': 0.02,
            'attack.samples': 32,
            'evaluate.samples': 20,
            'evaluate.steps': 1,
            'evaluate.queries': 1,
            'evaluate.temperatures': (1.0,),
            'evaluate.bounds': 'ibp',
        }
    )
    study_of = lambda: engine.run(
        faithful.STUDY, {'digits': config}, tmp_path, seeds=1, rows=['kd'], devices=one_device
    )
    content = study_of()
    assert [run['row'] for run in content['runs']] == ['teacher', 'separate', 'kd']
    (teacher, separate, student) = content['runs']
    assert teacher['gap_found'] is None
    for run in (separate, student):
        assert run['epsilon'] == 0.02
        assert 0 <= run['gap_clean'] <= run['gap_found'] <= run['gap_certified'] <= 1
        assert run['robust_accuracy'] <= 1
        assert 0 < run['transferred'] <= 1
    group = tmp_path / 'digits' / 'seed0'
    results = json.loads((group / 'kd' / 'results.json').read_text())
    assert results['robustness']['networks'].keys() == results['faithfulness']['students'].keys() == {'student'}
    assert not (group / 'kd' / 'teacher').exists()
    assert student['gap_certified'] == results['faithfulness']['students']['student'][0]['gap']['certified']
    capsys.readouterr()
    assert study_of() == content
    assert capsys.readouterr().err == 'faithful: 2 of 2 runs are finished\n'


def test_an_arm_for_each_teacher(tmp_path):
    config = configured('digits_faithful', [])
    jobs_with = lambda teachers: list(
        faithful.jobs(faithful.STUDY.resolve({'digits': config}, tmp_path, seeds=2, teachers=teachers))
    )
    jobs = jobs_with(['ibp', 'adversarial', 'plain'])
    arms = {job.dataset: job.config.teacher for job in jobs}
    settings = [(arms[f'digits_{name}'].robust, arms[f'digits_{name}'].epsilon) for name in list(faithful.TEACHERS)]
    assert settings == [(None, None), ('adversarial', 0.03), ('ibp', 0.03)]
    assert len(jobs) == 2 * 3 * len(faithful.ROWS)
    with pytest.raises(InputError, match=r"unknown way to train a teacher 'idp' .did you mean 'ibp'"):
        jobs_with(['idp'])


def test_iad_trusts_its_teacher_for_three_tenths_of_the_epochs(tmp_path):
    config = configured('digits_faithful', ['--config.student.epochs=10'])
    options = faithful.STUDY.resolve({'digits': config}, tmp_path, seeds=1, rows=['kd', 'iad'])
    by_row = {job.row: job.config for job in faithful.jobs(options)}
    assert (by_row['iad'].warm_up, by_row['iad'].ramp, by_row['kd'].warm_up) == (3, 0, None)


def test_a_study_of_faithfulness_needs_a_radius(tmp_path):
    with pytest.raises(InputError, match='digits has no epsilon, and the study measures at that radius'):
        engine.run(faithful.STUDY, {'digits': digits_config()}, tmp_path / 'study', seeds=1)
    assert not (tmp_path / 'study').exists()

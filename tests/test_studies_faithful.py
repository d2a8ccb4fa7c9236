"""The study of faithfulness: what it concludes, that runs share a teacher, and that it resumes."""

import json
import runpy
from pathlib import Path

import pytest
from conftest import digits_config

from cckd_jax.errors import InputError
from cckd_jax.reporting import study_faithful
from cckd_jax.studies import faithful


def faithful_records(row, accuracies, gap):
    return [
        {
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


def test_faithfulness_is_compared_within_a_seed(tmp_path):
    runs = faithful_records('teacher', [0.96, 0.97], 0.0) + faithful_records('kd', [0.95, 0.93], 0.8)
    found = faithful.summary(runs + faithful_records('faithful_certified', [0.93, 0.91], 0.4))
    assert [row['row'] for row in found['rows']] == ['teacher', 'kd', 'faithful_certified']
    assert {each['row'] for each in found['differences']} == {'faithful_certified'}
    verdicts = {each['measure']: each['verdict'] for each in found['differences']}
    assert verdicts['accuracy'] == verdicts['gap_certified'] == 'lower'
    assert verdicts['agreement'] == 'not told apart'
    text = study_faithful.render(found)
    assert '## digits, ε = 0.03' in text
    assert '| kd | 2 | 94.00 ± 12.71 % | 84.00 ± 12.71 % | 74.00 ± 12.71 % | 95.00 ± 0.00 % | 0.200 ± 0.000 |' in text
    assert '| faithful_certified less kd | gap certified | -0.400 ± 0.000 | lower |' in text
    assert '| teacher | 2 | 96.50 ± 6.35 % |  | 76.50 ± 6.35 % |  |  |  |  |' in text
    # A teacher that gets none of the images right leaves no gap to compare.
    nothing = [{**record, 'gap_found': None} for record in runs]
    found_less = faithful.summary(nothing + faithful_records('faithful_certified', [0.93, 0.91], 0.4))
    assert 'gap_found' not in {each['measure'] for each in found_less['differences']}
    assert '| kd | 2 |' in study_faithful.render(found_less)
    study_faithful.methods(tmp_path / 'study.png', found)
    assert (tmp_path / 'study.png').read_bytes().startswith(b'\x89PNG')


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
    study_of = lambda: faithful.run({'digits': config}, tmp_path, seeds=1, rows=['kd'], devices=one_device)
    found = study_of()
    assert [run['row'] for run in found['runs']] == ['teacher', 'separate', 'kd']
    (teacher, separate, taught) = found['runs']
    assert teacher['gap_found'] is None
    for run in (separate, taught):
        assert run['epsilon'] == 0.02
        assert 0 <= run['gap_clean'] <= run['gap_found'] <= run['gap_certified'] <= 1
        assert run['robust_accuracy'] <= 1
        assert 0 < run['transferred'] <= 1
    group = tmp_path / 'digits' / 'seed0'
    results = json.loads((group / 'kd' / 'results.json').read_text())
    assert results['robustness']['networks'].keys() == results['faithfulness']['students'].keys() == {'student'}
    assert not (group / 'kd' / 'teacher').exists()
    assert taught['gap_certified'] == results['faithfulness']['students']['student'][0]['gap']['certified']
    capsys.readouterr()
    assert study_of() == found
    assert capsys.readouterr().err.count('is complete') == 2


def test_an_arm_for_each_teacher(monkeypatch, tmp_path):
    launch = runpy.run_path(Path(__file__).parents[1] / 'launch' / 'study_faithful.py')['main']
    asked = {}
    monkeypatch.setattr(faithful, 'run', lambda configs, workdir, **rest: asked.update(configs, **rest))
    launch(['study', '--datasets=digits', f'--workdir={tmp_path}', '--teachers=ibp,adversarial,plain', '--seeds=2'])
    found = [asked[f'digits_{name}'].teacher for name in ('ibp', 'adversarial', 'plain')]
    assert [(each.robust, each.epsilon) for each in found] == [('ibp', 0.03), ('adversarial', 0.03), (None, None)]
    assert (asked['seeds'], asked['rows']) == (2, list(faithful.ROWS))
    with pytest.raises(InputError, match='--workdir is missing'):
        launch(['study', '--datasets=digits'])
    with pytest.raises(InputError, match=r"unknown way to train a teacher 'idp' .did you mean 'ibp'"):
        launch(['study', '--datasets=digits', f'--workdir={tmp_path}', '--teachers=idp'])


def test_a_study_of_faithfulness_needs_a_radius(tmp_path):
    with pytest.raises(InputError, match='measures digits at its epsilon, and there is none'):
        faithful.run({'digits': digits_config()}, tmp_path / 'study', seeds=1)

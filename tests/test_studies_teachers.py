"""The study of teachers: who shares what, what it concludes, and that it resumes."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from conftest import digits_config

from cckd_jax.errors import InputError
from cckd_jax.reporting import study_teachers as study
from cckd_jax.studies import teachers


def records(row, level, accuracies, share=0.5):
    of_worse = {} if level is None else {'worse_accuracy': 1 - level, 'worse_share': share, 'teachers': 2}
    return [
        {'dataset': 'digits', 'row': row, 'level': level, 'seed': seed, 'test_accuracy': accuracy, **of_worse}
        for seed, accuracy in enumerate(accuracies)
    ]


def test_differences_are_taken_within_a_seed_and_a_level(tmp_path):
    runs = (
        records('separate', None, [0.8, 0.7])
        + records('aver', 0.0, [0.95, 0.93, 0.91])
        + records('aver', 0.75, [0.90, 0.88, 0.84])
        + records('ca_mkd', 0.75, [0.92, 0.90, 0.86], share=0.125)
    )
    found = teachers.summary(runs, 'label_noise')
    (difference,) = found['differences']
    assert (difference['row'], difference['against'], difference['level']) == ('ca_mkd', 'aver', 0.75)
    assert difference['accuracy']['mean'] == pytest.approx(0.02)
    assert difference['verdict'] == 'higher'
    assert [(row['row'], row['level']) for row in found['rows']] == [
        ('separate', None),
        ('aver', 0.0),
        ('aver', 0.75),
        ('ca_mkd', 0.75),
    ]
    text = study.render(found)
    assert '| label_noise of teacher 0 | its accuracy |' in text
    assert '| none |  | separate | 2 | 75.00 ± 63.53 % |  |' in text
    assert '| 0.75 | 25.00% | ca_mkd | 3 | 89.33 ± 7.59 % | 0.125 |' in text
    assert '| ca_mkd less aver | 0.75 | +2.00 ± 0.00 % | higher |' in text
    study.accuracy(tmp_path / 'study.png', found)
    assert (tmp_path / 'study.png').read_bytes().startswith(b'\x89PNG')


def small(**fields):
    return digits_config(
        **{
            'num_teachers': 2,
            'teacher.model': 'helpers:Flat',
            'student.model': 'helpers:Flat',
            'dataset.examples': 128,
            'batch_size': 32,
            'teacher.epochs': 1,
            'student.epochs': 1,
            'attack.samples': 16,
            **fields,
        }
    )


def test_a_study_shares_its_teachers_and_resumes(tmp_path, one_device, capsys):
    config = small()
    run = lambda: teachers.run(
        {'digits': config}, tmp_path, seeds=1, levels=['0', '1'], rows=['ebkd'], devices=one_device
    )
    found = run()
    assert config.method == 'cckd_t_reg'  # the caller's stays as it was
    assert [(each['row'], each['level']) for each in found['runs']] == [
        ('separate', None),
        ('aver', 0.0),
        ('ebkd', 0.0),
        ('aver', 1.0),
        ('ebkd', 1.0),
    ]
    group = tmp_path / 'digits' / 'seed0'
    trained = sorted(str(each.parent.relative_to(group)) for each in group.rglob('checkpoints'))
    assert trained == sorted(
        [
            'separate/teacher_0',
            'separate/teacher_1',
            'separate/student',
            'label_noise_1.0/aver/teacher_0',
            *(f'label_noise_{level}/{row}/student' for level in ('0.0', '1.0') for row in ('aver', 'ebkd')),
        ]
    )
    logits = lambda name: np.load(group / name / 'teacher_outputs.npz')['logits']
    np.testing.assert_array_equal(logits('label_noise_0.0/ebkd'), logits('separate'))
    np.testing.assert_array_equal(logits('label_noise_1.0/ebkd'), logits('label_noise_1.0/aver'))
    np.testing.assert_array_equal(logits('label_noise_1.0/ebkd')[:, 1], logits('separate')[:, 1])
    assert np.abs(logits('label_noise_1.0/ebkd')[:, 0] - logits('separate')[:, 0]).max() > 1e-3
    assert json.loads((tmp_path / 'study.json').read_text()) == found
    capsys.readouterr()
    assert run() == found
    assert capsys.readouterr().err.count('is complete') == 5


def test_the_command_line(monkeypatch, tmp_path):
    launch = runpy.run_path(Path(__file__).parents[1] / 'launch' / 'study_teachers.py')['main']
    asked = {}
    monkeypatch.setattr(teachers, 'run', lambda configs, workdir, **rest: asked.update(configs=configs, **rest))
    flags = ['study', '--configs=digits_teachers,mnist_lenet', f'--workdir={tmp_path}', '--epochs=2']
    launch([*flags, '--config.num_teachers=3', '--worse=epochs', '--levels=9,3', '--seeds=5', '--methods=ca_mkd'])
    assert list(asked['configs']) == ['digits_teachers', 'mnist_lenet']
    for config in asked['configs'].values():
        assert (config.num_teachers, config.teacher.epochs, config.student.epochs) == (3, 2, 2)
    assert {name: asked[name] for name in ('worse', 'levels', 'seeds', 'rows')} == {
        'worse': 'epochs',
        'levels': ['9', '3'],
        'seeds': 5,
        'rows': ['ca_mkd'],
    }
    with pytest.raises(InputError, match='--workdir is missing'):
        launch(['study'])


@pytest.mark.parametrize(
    ('config', 'fields', 'message'),
    [
        ({}, {'rows': ['ca_mdk']}, r"unknown row of the study 'ca_mdk' .did you mean 'ca_mkd'"),
        ({}, {'seeds': 0}, 'seeds=0 must be above 0; set --seeds'),
        ({'num_teachers': 1}, {}, 'digits has one teacher, and the study takes several; set --config.num_teachers=3'),
        ({}, {'worse': 'label_nois'}, r"unknown way to make a teacher worse 'label_nois' .did you mean 'label_noise'"),
        ({}, {'worse': 'self_regulate'}, "unknown way to make a teacher worse 'self_regulate'"),
        ({}, {'levels': [0.5, 2]}, r'teachers.0.label_noise=2.0 must be in \[0, 1\]'),
        ({'largest_weight': 0.1}, {}, 'largest_weight=0.1 of . teachers cannot sum to 1'),
        ({'teachers.0.checkpoint': 'a'}, {}, 'digits gives its first teacher, which the study trains; leave out'),
        ({}, {'worse': 'epochs', 'levels': ['few']}, 'levels of epochs must be int; found few'),
    ],
)
def test_a_study_that_cannot_be(tmp_path, config, fields, message):
    settings = {'seeds': 1, 'levels': [0.5], **fields}
    with pytest.raises(InputError, match=message):
        teachers.run({'digits': small(**config)}, tmp_path / 'study', **settings)
    assert not (tmp_path / 'study').exists()


def test_the_weights_alone_are_ca_mkd_without_feature_maps(monkeypatch, tmp_path):
    asked = {}

    def run(config, settings, workdir, devices):
        asked[workdir.name] = settings
        student = {'test_accuracy': 0.5}
        return {
            'student': student,
            'teacher': {'model': ['a', 'b'], 'test_accuracy': [0.5, 0.5]},
            'teacher_weights': {},
        }

    monkeypatch.setattr(teachers.common, 'run', run)
    teachers.run({'digits': digits_config(num_teachers=2)}, tmp_path, seeds=1, levels=[0.5], rows=['ca_mkd_logits'])
    assert asked.keys() == {'separate', 'aver', 'ca_mkd_logits'}
    assert (asked['ca_mkd_logits']['method'], asked['ca_mkd_logits']['feature_weight']) == ('ca_mkd', 0.0)
    assert 'feature_weight' not in asked['aver']

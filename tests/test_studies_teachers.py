"""The study of teachers: who shares what, what it concludes, and that it resumes."""

import json

import numpy as np
import pytest
from helpers import digits_config, tiny_config

from cckd_jax.errors import InputError
from cckd_jax.studies import command, engine, tables, teachers
from cckd_jax.studies.summary import summarize


def records(row, level, accuracies, share=0.5):
    of_worse = {} if level is None else {'worse_accuracy': 1 - level, 'worse_share': share, 'teachers': 2}
    return [
        {
            'study': 'teachers',
            'dataset': 'digits',
            'row': row,
            'level': level,
            'seed': seed,
            'test_accuracy': accuracy,
            **of_worse,
        }
        for seed, accuracy in enumerate(accuracies)
    ]


def test_differences_are_taken_within_a_seed_and_a_level(tmp_path):
    runs = (
        records('separate', None, [0.8, 0.7])
        + records('aver', 0.0, [0.95, 0.93, 0.91])
        + records('aver', 0.75, [0.90, 0.88, 0.84])
        + records('ca_mkd', 0.75, [0.92, 0.90, 0.86], share=0.125)
    )
    content = {**summarize(teachers.STUDY, runs), 'options': {'worse': 'label_noise'}, 'failures': []}
    (difference,) = content['differences']
    assert (difference['row'], difference['against'], difference['level']) == ('ca_mkd', 'aver', 0.75)
    assert difference['mean'] == pytest.approx(0.02)
    assert difference['verdict'] == 'higher'
    assert [(row['row'], row['level']) for row in content['rows']] == [
        ('separate', None),
        ('aver', 0.0),
        ('aver', 0.75),
        ('ca_mkd', 0.75),
    ]
    text = tables.render(teachers.STUDY, content)
    assert '| label_noise of teacher 0 |  | seeds | accuracy of teacher 0 |' in text
    assert '|  | separate | 2 |  | 75.00 ± 63.53 % |  |' in text
    assert '| 0.75 | ca_mkd | 3 | 25.00 % | 89.33 ± 7.59 % | 0.125 |' in text
    assert "| 0.75 | ca_mkd minus aver | student's test accuracy | +2.00 ± 0.00 % | higher |" in text
    teachers.figure(tmp_path / 'study.png', content)
    assert (tmp_path / 'study.png').read_bytes().startswith(b'\x89PNG')


def test_a_study_shares_its_teachers_and_resumes(tmp_path, one_device, capsys):
    config = tiny_config(num_teachers=2)
    run = lambda: engine.run(
        teachers.STUDY,
        {'digits': config},
        tmp_path,
        seeds=1,
        levels=['0', '1'],
        rows=['ebkd'],
        devices=one_device,
    )
    content = run()
    assert config.method == 'cckd_t_reg'  # the caller's stays as it was
    assert [(run['row'], run['level']) for run in content['runs']] == [
        ('separate', None),
        ('aver', 0.0),
        ('ebkd', 0.0),
        ('aver', 1.0),
        ('ebkd', 1.0),
    ]
    group = tmp_path / 'digits' / 'seed0'
    trained = sorted(str(path.parent.relative_to(group)) for path in group.rglob('checkpoints'))
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
    assert json.loads((tmp_path / 'study.json').read_text()) == content
    capsys.readouterr()
    assert run() == content
    assert capsys.readouterr().err == 'teachers: 5 of 5 runs are finished\n'


def test_the_command_line(monkeypatch, tmp_path):
    asked = {}

    def run(study, configs, workdir, **rest):
        asked.update(study=study, configs=configs, **rest)
        (tmp_path / 'study.md').touch()
        return {'failures': []}

    monkeypatch.setattr(command.engine, 'run', run)
    flags = '--study=teachers --configs=digits_teachers,mnist_lenet --epochs=2 --config.num_teachers=3 --worse=epochs'
    flags += f' --levels=9,3 --seeds=5 --methods=ca_mkd --shard=2/4 --workdir={tmp_path}'
    assert command.main(['study', *flags.split()]) == 0
    assert list(asked['configs']) == ['digits_teachers', 'mnist_lenet']
    for config in asked['configs'].values():
        assert (config.num_teachers, config.teacher.epochs, config.student.epochs) == (3, 2, 2)
    del asked['configs']
    assert asked == {
        'study': teachers.STUDY,
        'worse': 'epochs',
        'levels': ['9', '3'],
        'seeds': 5,
        'rows': ['ca_mkd'],
        'processes': None,
        'seeds_together': 1,
        'shard': (2, 4),
    }


@pytest.mark.parametrize(
    ('config', 'fields', 'message'),
    [
        ({}, {'rows': ['ca_mdk']}, r"unknown row of the study 'ca_mdk' .did you mean 'ca_mkd'"),
        ({}, {'seeds': 0}, 'seeds=0 must be above 0; set --seeds'),
        ({'num_teachers': 1}, {}, 'digits has one teacher, and the study needs several; set --config.num_teachers=3'),
        ({}, {'worse': 'label_nois'}, r"unknown way to make a teacher worse 'label_nois' .did you mean 'label_noise'"),
        ({}, {'worse': 'self_regulate'}, "unknown way to make a teacher worse 'self_regulate'"),
        ({}, {'levels': [0.5, 2]}, r'teachers.0.label_noise=2.0 must be in \[0, 1\]'),
        ({'largest_weight': 0.1}, {}, 'largest_weight=0.1 of . teachers cannot sum to 1'),
        ({'teachers.0.checkpoint': 'a'}, {}, 'digits reads teacher 0 from a file, but the study trains it; leave out'),
        ({}, {'worse': 'epochs', 'levels': ['few']}, 'levels of epochs must be int; got few'),
    ],
)
def test_a_study_that_cannot_be(tmp_path, config, fields, message):
    settings = {'seeds': 1, 'levels': [0.5], **fields}
    with pytest.raises(InputError, match=message):
        engine.run(
            teachers.STUDY, {'digits': tiny_config(**{'num_teachers': 2, **config})}, tmp_path / 'study', **settings
        )
    assert not (tmp_path / 'study').exists()


def test_the_weights_alone_are_ca_mkd_without_feature_maps(tmp_path):
    config = digits_config(num_teachers=2)
    options = teachers.STUDY.resolve({'digits': config}, tmp_path, seeds=1, levels=[0.5], rows=['ca_mkd_logits'])
    by_row = {job.row: job.config for job in teachers.jobs(options)}
    assert by_row.keys() == {'separate', 'aver', 'ca_mkd_logits'}
    assert (by_row['ca_mkd_logits'].method, by_row['ca_mkd_logits'].feature_weight) == ('ca_mkd', 0.0)
    assert by_row['aver'].feature_weight is None


def test_a_level_that_the_config_has_restores_the_teachers_of_the_baseline(tmp_path):
    options = teachers.STUDY.resolve(
        {'digits': tiny_config(num_teachers=2)}, tmp_path, seeds=1, levels=[0, 0.5], rows=['ebkd']
    )
    needs = {job.name.removeprefix('digits/seed0/'): job.needs for job in teachers.jobs(options)}
    base, trained = 'digits/seed0/separate', 'digits/seed0/label_noise_0.5/aver'
    assert needs == {
        'separate': (),
        'label_noise_0.0/aver': (base,),
        'label_noise_0.0/ebkd': (base,),
        'label_noise_0.5/aver': (base,),
        'label_noise_0.5/ebkd': (base, trained),
    }

"""The study of seeds: the estimates of several seeds, one method or several that share their teachers."""

import json

import numpy as np
import pytest
from helpers import digits_config, tiny_config

from cckd_jax.studies import engine, seeds, tables
from cckd_jax.studies.jobs import Job
from cckd_jax.studies.summary import make_records, summarize

RESULTS = {
    'teacher': {'test_accuracy': 0.9},
    'student': {'share_used': 1.0, 'success_rate': None, 'failure_rate': 0.0, 'adversarial_accuracy': 0.5},
    'separate': {'test_accuracy': 0.8},
}


def content_of(student_accuracies, teacher_accuracies=None, row='kd'):
    records = []
    for seed, accuracy in enumerate(student_accuracies):
        results = {**RESULTS, 'student': {**RESULTS['student'], 'test_accuracy': accuracy}}
        if teacher_accuracies:
            results['teacher'] = {'test_accuracy': teacher_accuracies[seed]}
        records += make_records(seeds.STUDY, Job(f'{seed}', None, 'digits', row, seed), results)
    return {**summarize(seeds.STUDY, records), 'failures': []}


def test_the_interval_is_students_t(tmp_path):
    content = content_of([0.90, 0.92, 0.97])
    seeds.export(tmp_path, content)
    exported = json.loads((tmp_path / 'seeds.json').read_text())
    assert (exported['method'], exported['dataset'], exported['seeds']) == ('kd', 'digits', [0, 1, 2])
    accuracy = exported['student.test_accuracy']
    assert accuracy['mean'] == pytest.approx(0.93)
    # t of two degrees of freedom at 97.5 % is 4.3027; the standard deviation is sqrt(0.0013).
    assert accuracy['half_width'] == accuracy['interval'] == pytest.approx(4.3027 * np.sqrt(0.0013 / 3), rel=1e-4)
    nothing = exported['student.success_rate']
    assert (nothing['values'], nothing['mean'], nothing['interval']) == ([None] * 3, None, None)
    assert '| kd | 3 | 93.00 ± 8.96 % | 90.00 ± 0.00 % | 80.00 ± 0.00 % | 100.00 ± 0.00 % |  |' in tables.render(
        seeds.STUDY, content
    )


def test_several_teachers_have_a_column_each(tmp_path):
    content = content_of([0.9, 0.9], [[0.9, 0.5], [0.8, 0.7]])
    (row,) = content['rows']
    assert row['teacher.test_accuracy[0]']['mean'] == pytest.approx(0.85)
    text = tables.render(seeds.STUDY, content)
    assert '| student | teacher 0 | teacher 1 | student alone |' in text
    assert '| 85.00 ± 63.53 % | 60.00 ± 127.06 % |' in text
    seeds.figure(tmp_path / 'study.png', content)
    assert (tmp_path / 'study.png').read_bytes().startswith(b'\x89PNG')


def test_methods_of_a_seed_share_their_teacher(tmp_path, one_device):
    config = tiny_config()
    run = lambda rows: engine.run(seeds.STUDY, {'tiny': config}, tmp_path, seeds=1, rows=rows, devices=one_device)
    content = run(['cckd_t', 'kd'])
    assert [record['row'] for record in content['runs']] == ['cckd_t', 'kd']
    (first, second) = content['runs']
    for name in ('teacher.test_accuracy', 'separate.test_accuracy'):
        assert first[name] == second[name]
    group = tmp_path / 'tiny' / 'seed0'
    assert {path.parent.name for path in group.rglob('checkpoints')} == {'teacher', 'student', 'separate'}
    assert not (group / 'kd' / 'teacher').exists()
    assert [row['method'] for row in json.loads((tmp_path / 'seeds.json').read_text())] == ['cckd_t', 'kd']
    (comparison, _) = content['differences']
    assert (comparison['row'], comparison['against']) == ('kd', 'cckd_t')


def test_without_methods_that_of_each_config_runs(tmp_path):
    configs = {'a': digits_config(), 'b': digits_config(method='kd')}
    jobs = list(seeds.jobs(seeds.STUDY.resolve(configs, tmp_path, seeds=2)))
    assert [job.name for job in jobs] == ['a/seed0/cckd_t_reg', 'b/seed0/kd', 'a/seed1/cckd_t_reg', 'b/seed1/kd']
    assert [job.config.seed for job in jobs] == [0, 0, 1, 1]
    assert all(job.config.teacher.checkpoint is None for job in jobs)

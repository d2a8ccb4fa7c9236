"""The study of distillation without the data: runs that share teacher and samples, and its figures."""

import dataclasses

import numpy as np
import pytest
from helpers import tiny_config

from cckd_jax.errors import InputError
from cckd_jax.studies import data_free, engine


def test_runs_of_one_system_share_its_samples_and_all_share_the_teacher(tmp_path):
    options = data_free.STUDY.resolve({'digits': tiny_config()}, tmp_path, seeds=1, rows=['kd', 'cckd_t'])
    jobs = {job.name.removeprefix('digits/seed0/'): job for job in data_free.STUDY.jobs(options)}
    assert len({name.split('/')[0] for name in jobs}) == 11
    assert sorted(name.split('/')[1] for name in jobs) == ['cckd_t'] * 11 + ['kd'] * 9
    base = 'digits/seed0/real/kd'
    assert jobs['noise/kd'].needs == (base,)
    assert jobs['zskd_soft/cckd_t'].needs == (base, 'digits/seed0/zskd/kd')
    assert jobs['zskd_soft/cckd_t'].config.teacher.checkpoint == str(tmp_path / base / 'teacher')
    assert jobs['zskd_soft/cckd_t'].config.transfer.label == 'soft'
    assert jobs['real/cckd_t'].config.transfer.name is None
    makers = [name for name, job in jobs.items() if job.config.transfer.name and job.needs == (base,)]
    systems = ('noise', 'zskd', 'zskd_features', 'kegnet', 'dafl', 'metadata', 'fskd', 'samples')
    assert makers == [f'{system}/kd' for system in systems]
    assert [name for name, job in jobs.items() if job.config.separate.enabled] == ['real/kd']


def test_each_system_has_its_own_steps_and_each_kind_of_samples_its_own_epochs(tmp_path):
    config = tiny_config(**{'transfer.images': 96, 'student.epochs': 5, 'alpha': 0.1})
    options = data_free.STUDY.resolve(
        {'digits': config},
        tmp_path,
        seeds=1,
        rows=['separate', 'cckd_t_reg'],
        steps=['zskd:7', 'dafl:9'],
        student_epochs=['real:2', 'samples:41'],
    )
    configs = {job.name.removeprefix('digits/seed0/'): job.config for job in data_free.STUDY.jobs(options)}
    assert [name for name in configs if name.endswith('separate')] == ['samples/separate']
    names = ('zskd/cckd_t_reg', 'zskd_soft/cckd_t_reg', 'dafl/cckd_t_reg', 'kegnet/cckd_t_reg')
    assert [configs[name].transfer.steps for name in names] == [7, 7, 9, None]
    assert configs['samples/cckd_t_reg'].transfer.images is None
    assert configs['fskd/cckd_t_reg'].temperature == 1
    lengths = {name: configs[f'{name}/cckd_t_reg'] for name in ('noise', 'real', 'samples')}
    assert {name: (own.student.epochs, round(own.alpha, 6)) for name, own in lengths.items()} == {
        'noise': (5, 0.1),
        'real': (2, 0.4),
        'samples': (41, 0.01),
    }
    with pytest.raises(InputError, match='zskd:x must be a name and a number'):
        list(data_free.STUDY.jobs(dataclasses.replace(options, values={**options.values, 'steps': ['zskd:x']})))


def test_a_study_on_a_few_digits(tmp_path, one_device, capfd):
    sizes = {'transfer.images': 96, 'transfer.steps': 10, 'transfer.batch_size': 16, 'transfer.scale': 0.5}
    config = tiny_config(**sizes, **{'student.epochs': 4, 'batch_size': 16})
    content = engine.run(
        data_free.STUDY,
        {'digits': config},
        tmp_path,
        seeds=1,
        rows=['cckd_t'],
        processes=1,
        devices=one_device,
        samples=['real', 'zskd', 'zskd_soft', 'dafl'],
    )
    assert content['failures'] == []
    runs = {run['level']: run for run in content['runs']}
    assert list(runs) == ['real', 'zskd', 'zskd_soft', 'dafl']
    assert runs['real']['images'] is None
    assert [runs[name]['images'] for name in ('zskd', 'zskd_soft', 'dafl')] == [48, 48, 48]
    assert runs['zskd_soft']['agreement'] >= runs['zskd']['agreement']
    assert runs['dafl']['agreement'] == 1
    assert len({run['teacher'] for run in runs.values()}) == 1
    assert [name for name, run in runs.items() if run['alone'] is not None] == ['real']
    stored = [np.load(tmp_path / runs[name]['run'] / 'transfer_set.npz')['images'] for name in ('zskd', 'zskd_soft')]
    np.testing.assert_array_equal(*stored)
    for name in ('study.png', 'samples.png', 'study.md', 'summary.md'):
        assert (tmp_path / name).exists()

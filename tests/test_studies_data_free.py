"""The study of distillation without the data: runs that share teacher and samples, and its figures."""

import numpy as np
from helpers import tiny_config

from cckd_jax.studies import data_free, engine


def test_runs_of_one_system_share_its_samples_and_all_share_the_teacher(tmp_path):
    options = data_free.STUDY.resolve({'digits': tiny_config()}, tmp_path, seeds=1, rows=['kd', 'cckd_t'])
    jobs = {job.name.removeprefix('digits/seed0/'): job for job in data_free.STUDY.jobs(options)}
    assert [len({name.split('/')[0] for name in jobs}), len(jobs)] == [10, 20]
    base = 'digits/seed0/real/kd'
    assert jobs['noise/kd'].needs == (base,)
    assert jobs['zskd_soft/cckd_t'].needs == (base, 'digits/seed0/zskd/kd')
    assert jobs['zskd_soft/kd'].config.teacher.checkpoint == str(tmp_path / base / 'teacher')
    assert jobs['zskd_soft/kd'].config.transfer.label == 'soft'
    assert jobs['real/cckd_t'].config.transfer.name is None
    makers = [name for name, job in jobs.items() if job.config.transfer.name and job.prepare is None]
    assert makers == ['noise/kd', 'zskd/kd', 'kegnet/kd', 'dafl/kd', 'metadata/kd', 'fskd/kd', 'samples/kd']


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
    assert len({run['teacher'] for run in runs.values()}) == len({run['alone'] for run in runs.values()}) == 1
    stored = [np.load(tmp_path / runs[name]['run'] / 'transfer_set.npz')['images'] for name in ('zskd', 'zskd_soft')]
    np.testing.assert_array_equal(*stored)
    for name in ('study.png', 'samples.png', 'study.md'):
        assert (tmp_path / name).exists()

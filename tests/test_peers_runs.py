"""Runs of several students: their folders, results and report, and how such a run resumes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import assert_trees_equal, check_report, tiny_config
from test_loop import final_state, untimed
from test_resume import ROOT, said, wait_for_rows

from cckd_jax import config as settings, data, experiment, export, methods, training
from cckd_jax.errors import InputError
from cckd_jax.evaluators import FinishedRun, TrainedNetwork
from cckd_jax.evaluators.peers import PEERS
from cckd_jax.experiment import networks
from cckd_jax.experiment.run import Pretrained, train_baseline
from cckd_jax.export import exporting, latency
from cckd_jax.export.formats import FORMATS
from cckd_jax.report.metrics import read_rows
from cckd_jax.studies import peers as study_of_peers
from cckd_jax.studies.summary import make_records, summarize


def peers_config(**fields):
    """Three students, one of another architecture, with a teacher; a second each."""
    group = {
        'method': 'cckd_online_t_reg',
        'num_students': 3,
        'students.2.model': 'helpers:Blocks',
        'students.1.learning_rate': 3e-3,
        'student.epochs': 4,
        'validation_fraction': 0.25,
        'save_seconds': 0.0,
        'separate.enabled': False,
        'evaluate.calibration': True,
    }
    return tiny_config(**{**group, **fields})


@pytest.fixture(scope='module')
def peers(tmp_path_factory, one_device):
    workdir = tmp_path_factory.mktemp('peers') / 'run'
    experiment.run(peers_config(), workdir, devices=one_device)
    return workdir


def read(workdir):
    return json.loads((workdir / 'results.json').read_text())


def test_the_best_student_on_validation_data_is_loaded(peers):
    results = read(peers)
    best = results['peers']['best_on_validation']['index']
    assert export.load(peers).description.model == results['student']['model'][best]
    assert export.load(peers, student=2).description.model == 'helpers:Blocks'
    with pytest.raises(InputError, match='has no trained student_3'):
        export.load(peers, student=3)


def test_the_best_student_is_exported(peers, tmp_path, monkeypatch):
    latencies = {name: {'1': 1.0, '64': 1.0} for name in (latency.STUDENT, 'student.safetensors')}
    monkeypatch.setattr(latency, 'measure', lambda run, files: latencies)
    (path, _) = exporting.export(peers, tmp_path / 'files', [FORMATS['safetensors']])
    assert export.load(path).description.model == export.load(peers).description.model


def test_every_student_has_a_folder_and_an_entry(peers):
    results = read(peers)
    student = results['student']
    assert student['model'] == ['helpers:Flat', 'helpers:Flat', 'helpers:Blocks']
    assert {len(values) for values in student.values()} == {3}
    names = [f'student_{index}' for index in range(3)]
    for index, name in enumerate(names):
        (meta, _) = training.load_network(peers / name)
        assert (meta['model'], meta['epochs']) == (student['model'][index], 4)
        rows = read_rows(peers / name)
        assert len(rows) == 4
        assert sum(row['samples_used'] for row in rows) == student['samples_used'][index]
        counts = training.load_participation(peers / name, 4)
        assert counts.sum() == student['samples_used'][index]
        assert {'agreement', 'logit_gap', 'trust', 'soft_mass', 'validation_accuracy'} <= rows[0].keys()
        # The teacher, then the students; a student is none of its own sources.
        shares = rows[-1]['teacher_shares']['logits']['overall']
        assert len(shares) == 4
        assert shares[1 + index] == 0
    assert student['samples_used'][0] != student['samples_used'][1]
    section = results['peers']
    assert section['mean_test_accuracy'] == pytest.approx(np.mean(student['test_accuracy']))
    best = section['best_on_validation']
    assert best['validation_accuracy'] == max(section['validation_accuracy'])
    assert best['test_accuracy'] == student['test_accuracy'][best['index']]
    assert section['sources'] == ['teacher', *names]
    agreement = np.array(section['agreement'])
    assert (np.diag(agreement) == 1).all()
    np.testing.assert_array_equal(agreement, agreement.T)
    check_report(peers)
    report = (peers / 'report.md').read_text()
    assert '## Students that trained together' in report
    assert f'| best on validation: student {best["index"]} |' in report
    for figure in ('peers', 'peer_trust', 'curves', 'reliability'):
        assert (peers / 'figures' / f'{figure}.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('name', ['cckd_online_t', 'ca_mkd'])
def test_without_weights_of_other_students_there_is_no_trust(tmp_path, name):
    # Of the peers, the second student trusted nobody; the weights of the other method are those of teachers.
    weights = [[0.0, 1.0], None] if name == 'cckd_online_t' else [[1.0], [1.0]]
    labels = np.array([0, 1])
    split = data.Split(np.zeros((2, 8, 8, 1), np.uint8), labels)
    students = [
        TrainedNetwork(
            None,
            {},
            [{'epoch': 0, 'kept_share': 1.0, 'agreement': 1.0, 'teacher_shares': {'logits': shares}}],
            None,
        )
        for shares in ({'overall': overall, 'by_class': [overall] * 2} for overall in weights)
    ]
    run = FinishedRun(
        *(None, SimpleNamespace(test=split, validation=()), tmp_path, [], methods.METHODS[name], None),
        *(tuple(students), None, None),
    )
    logits = {student: np.eye(2)[labels] for student in run.student_names}
    measured = PEERS.measure(run, SimpleNamespace(logits=logits))
    assert measured['peers']['trust'] is None
    assert measured['peers']['ensemble_test_accuracy'] == 1.0
    student = {'model': ['a', 'b'], 'test_accuracy': [1.0, 1.0], 'samples_used': [2, 2], 'share_used': [1.0, 1.0]}
    for index, trained in enumerate(students):
        (tmp_path / f'student_{index}').mkdir()
        (tmp_path / f'student_{index}' / 'metrics.jsonl').write_text(json.dumps(trained.rows[0]) + '\n')
    PEERS.figure(tmp_path, {'student': student, **measured})
    assert [path.name for path in (tmp_path / 'figures').iterdir()] == ['peers.png']
    assert 'trusted' not in PEERS.table({'student': student, **measured})


def test_a_first_student_with_a_rate_of_its_own_is_not_the_baseline():
    def baseline(**fields):
        config = tiny_config(**{'method': 'separate', 'num_students': 2, 'separate.enabled': False, **fields})
        run = SimpleNamespace(config=config, students=settings.students(config))
        return train_baseline(run, Pretrained([], None, None), 'the first student')

    assert baseline() == baseline(**{'students.0.learning_rate': 1e-3}) == 'the first student'
    assert baseline(**{'students.0.learning_rate': 1e-2}) is None


def test_students_resume_from_the_newest_checkpoint_that_all_have(peers, tmp_path, one_device, capsys):
    workdir = tmp_path / 'run'
    shutil.copytree(peers, workdir)
    for name in ('report.md', 'results.json'):
        (workdir / name).unlink()
    shutil.rmtree(workdir / 'student_1' / 'checkpoints' / '4')
    experiment.run(peers_config(), workdir, devices=one_device)
    assert '3 students: resuming after epoch 3 of 4' in capsys.readouterr().err
    for index in range(3):
        assert untimed(workdir / f'student_{index}') == untimed(peers / f'student_{index}')
        assert_trees_equal(final_state(workdir / f'student_{index}'), final_state(peers / f'student_{index}'))


def test_the_study_reads_and_draws_a_run(peers, tmp_path):
    study = study_of_peers.STUDY
    options = study.resolve({'run': tiny_config()}, tmp_path, seeds=1, rows=['dml', 'online_t_c1_g4_teacher'])
    (alone, dml, online) = study.jobs(options)
    assert [job.row for job in (alone, dml, online)] == ['alone', 'dml', 'online_t_c1_g4_teacher']
    assert dml.config.attack.checkpoint is None
    assert dml.needs == online.needs == (alone.name,)
    assert online.config.teacher.checkpoint == str(tmp_path / alone.name / 'teacher')
    assert (online.config.gamma, online.config.teacher_prior, online.config.num_students) == (4, 1.0, 2)
    for job in (alone, dml, online):
        experiment.check(job.config)
    results = read(peers)
    records = make_records(study, dml, results)
    assert records[0]['mean_accuracy'] == results['peers']['mean_test_accuracy']
    assert records[0]['soft_mass'] == np.mean([read_rows(peers / f'student_{i}')[-1]['soft_mass'] for i in range(3)])
    shutil.copytree(peers, tmp_path / dml.name)
    content = {**summarize(study, records), 'options': {}, 'failures': []}
    study.figure(tmp_path / 'study.png', content)
    study.export(tmp_path, content)
    for name in ('study', 'curves'):
        assert (tmp_path / f'{name}.png').read_bytes().startswith(b'\x89PNG')
    twice = study.resolve({'run': tiny_config()}, tmp_path, seeds=1, students=['half2'] * 2, examples=['600', '0600'])
    assert len({job.name for job in study.jobs(twice)}) == len(list(study.jobs(twice)))
    with pytest.raises(InputError, match='--examples=none must be numbers of images, or all'):
        list(study.jobs(study.resolve({'run': tiny_config()}, tmp_path, seeds=1, examples=['none'])))


def start(workdir):
    command = [sys.executable, 'launch/main.py', '--config=configs/digits_peers.py:smoke', f'--workdir={workdir}']
    fields = (
        'save_seconds=0',
        'student.epochs=20',
        'separate.enabled=false',
        'evaluate.calibration=false',
        'method=cckd_online_t_reg',
        'student.model=helpers:Flat',
    )
    path = f'{ROOT}{os.pathsep}{ROOT / "tests"}'
    environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': '1', 'PYTHONPATH': path}
    with said(workdir).open('w') as file:
        command += [f'--config.{field}' for field in fields]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=file)


@pytest.mark.timeout(300)
def test_killed_and_started_again_ends_bit_identical(tmp_path):
    quiet, killed = tmp_path / 'quiet', tmp_path / 'killed'
    process = start(quiet)
    assert process.wait() == 0, said(quiet).read_text()
    process = start(killed)
    wait_for_rows(process, killed, 'student_1', 9)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process = start(killed)
    assert process.wait() == 0, said(killed).read_text()
    assert '2 students: resuming after epoch' in said(killed).read_text()
    for name in ('student_0', 'student_1'):
        assert untimed(killed / name) == untimed(quiet / name)
        assert_trees_equal(final_state(killed / name), final_state(quiet / name))
    results = [read(workdir) for workdir in (quiet, killed)]
    for result in results:
        del result['seconds'], result['student']['seconds']
    assert results[0] == results[1]
    # Neither a teacher nor what is relative to one.
    assert results[0]['teacher']['test_accuracy'] is None
    assert results[0]['student']['success_rate'] == [None, None]
    assert 'were trained together without a teacher' in (quiet / 'report.md').read_text()


def test_students_of_separate_are_independent_and_the_first_is_the_baseline(tmp_path, one_device):
    fields = {'method': 'separate', 'num_teachers': 0, 'evaluate.transfer_attack': False}
    experiment.run(tiny_config(**fields), tmp_path / 'one', devices=one_device)
    experiment.run(tiny_config(num_students=2, **fields), tmp_path / 'two', devices=one_device)
    (alone, together) = (read(tmp_path / name) for name in ('one', 'two'))
    assert together['student']['test_accuracy'][0] == alone['student']['test_accuracy']
    assert together['separate']['test_accuracy'] == alone['student']['test_accuracy']
    (one, first, second) = (
        final_state(tmp_path / name)['variables'] for name in ('one/student', 'two/student_0', 'two/student_1')
    )
    np.testing.assert_allclose(first['params']['output']['kernel'], one['params']['output']['kernel'], rtol=1e-4)
    assert not np.allclose(first['params']['output']['kernel'], second['params']['output']['kernel'], atol=1e-3)
    assert 'was trained without a teacher' in (tmp_path / 'one' / 'report.md').read_text()
    assert together['peers']['trust'] is None


def test_every_student_starts_from_a_seed_of_its_own():
    def seeds(**fields):
        config = peers_config(**fields)
        return networks.seeds(config, settings.students(config))

    (first, second) = (seeds(seed=seed) for seed in (0, 1))
    assert (first[0], second[0]) == (0, 1)
    assert len({*first, *second}) == 6
    assert seeds(**{'student.seed': 9, 'students.1.seed': 7}) == [9, 7, first[2]]


# Bad input: one line, and nothing left behind.


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'num_students': 1}, 'dml trains students that teach each other, and num_students=1; set --config.num_st'),
        ({'num_students': 9}, 'num_students=9 must be from 1 to 8, the length of students'),
        (
            {'students.2.model': 'lenet5'},
            'students.2.model is set, and num_students=2, counted from 0; set --config.num_students=3 or more',
        ),
        ({'students.1.model': 'lenet'}, r"unknown model 'lenet' \(did you mean 'lenet5'\?\)"),
        ({'students.1.learning_rate': 0.0}, 'students.1.learning_rate=0.0 must be above 0'),
        ({'students.1.model': 'test_peers_runs:three_classes'}, r'three_classes returns shape .2, 3. for 2 images; 10'),
        ({'method': 'cckd_online_t', 'gamma': -1.0}, r'gamma=-1.0 must be in \[0, 10000\]; set --config.gamma'),
        ({'method': 'kd', 'num_teachers': 0}, 'kd needs a teacher, and num_teachers=0; set --config.num_teachers=1'),
        ({'method': 'cckd_online_t', 'num_teachers': 2}, 'cckd_online_t takes one teacher, and num_teachers=2'),
        ({'method': 'ca_mkd', 'num_teachers': 2}, 'ca_mkd weighs several teachers for one student, and num_students=2'),
        ({'method': 'cckd_online_t_reg', 'recheck': True}, 'recheck skips forward passes of a student, whose logits'),
        ({'compaction': True}, 'compaction=true packs the kept samples of one student, and num_students=2'),
        ({'num_teachers': 0, 'evaluate.faithfulness': True}, 'compares a student with one teacher, and num_teachers=0'),
        (
            {'student.model': 'lenet5', 'student.options': {'width': 1000.0}},
            r'num_students=2 students need at least [\d.,e+]+ GiB on each device for weights, gradients and optimizer '
            r'states, and a device has [\d.,]+ GiB; lower --config.num_students or the width',
        ),
    ],
)
def test_settings_that_cannot_be(tmp_path, one_device, fields, message):
    config = tiny_config(**{'method': 'dml', 'num_students': 2, **fields})
    with pytest.raises(InputError, match=message) as raised:
        experiment.run(config, tmp_path / 'run', devices=one_device)
    assert len(str(raised.value).splitlines()) == 1
    assert not (Path(tmp_path) / 'run' / 'config.json').exists()


def three_classes(num_classes):
    from helpers import Flat

    return Flat(num_classes=3)

"""The engine of all studies: dependencies, failures, resuming, shards, records and tables."""

import csv
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from helpers import tiny_config

from cckd_jax import cli, config as settings
from cckd_jax.errors import InputError
from cckd_jax.io import write_json
from cckd_jax.studies import command, engine, execution, summary, tables
from cckd_jax.studies.execution import Schedule
from cckd_jax.studies.jobs import Job, parse_shard, select_shard
from cckd_jax.studies.statistics import Estimate, estimate, paired_difference, verdict
from cckd_jax.studies.study import Column, Option, Study
from cckd_jax.studies.worker import decode_config

ROOT = Path(__file__).parents[1]


def job(name, *needs, row='kd', seed=0, config=None, **fields):
    return Job(name, config or tiny_config(seed=seed), 'digits', row, seed, needs=needs, **fields)


def pairs_of_runs(options):
    """For each seed a base and two rows that depend on it."""
    for seed, dataset, _ in options.groups():
        base = f'{dataset}/seed{seed}/base'
        yield job(base, row='base', seed=seed)
        for row in options.rows:
            yield job(f'{dataset}/seed{seed}/{row}', base, row=row, seed=seed)


STUDY = Study(
    name='fake',
    description='Runs that take no time.',
    jobs=pairs_of_runs,
    measures=lambda job, results: {job.row: {'accuracy': results['accuracy'], 'rate': results['rate']}},
    columns={
        'accuracy': Column('accuracy', percent=True, digits=1, compared=True),
        'rate': Column('rate', interval=False),
    },
    figure=lambda path, content: path.write_bytes(b'figure'),
    configs=('digits_lenet',),
    rows=('kd', 'iad'),
    compare=(('kd', 'base'), ('iad', 'base')),
    options={'strength': Option('weak', 'an option')},
)


class FakeRuns:
    """Takes the place of `experiment`: notes what runs, and fails where it is told to."""

    def __init__(self, fails=()):
        self.fails, self.ran = fails, []
        self.check = lambda config: None

    def run(self, config, workdir, *, devices=None):
        name = '/'.join(Path(workdir).parts[-2:])
        self.ran.append(name)
        if name in self.fails:
            raise self.fails[name]
        Path(workdir).mkdir(parents=True, exist_ok=True)
        write_json(workdir / 'config.json', settings.as_dict(config))
        accuracy = {'base': 0.9, 'kd': 0.92, 'iad': 0.8}[workdir.name] + 0.01 * config.seed
        write_json(workdir / 'results.json', {'accuracy': accuracy, 'rate': None if config.seed else 0.5})
        (workdir / 'report.md').touch()


@pytest.fixture
def runs(monkeypatch):
    def install(**fails):
        fake = FakeRuns({name.replace('_', '/'): error for name, error in fails.items()})
        monkeypatch.setattr(execution, 'experiment', fake)
        monkeypatch.setattr(engine, 'experiment', fake)
        return fake

    return install


def run(tmp_path, **arguments):
    return engine.run(STUDY, {'digits': None}, tmp_path, **{'seeds': 2, 'processes': 1, **arguments})


def test_dependencies_run_first_and_finished_runs_are_skipped(runs, tmp_path, capsys):
    first = runs()
    content = run(tmp_path)
    assert first.ran == [f'seed{seed}/{row}' for seed in (0, 1) for row in ('base', 'kd', 'iad')]
    assert '[6/6] digits/seed1/iad finished in 0:00:00\n' in capsys.readouterr().err
    again = runs()
    assert run(tmp_path) == content
    assert again.ran == []
    # More seeds run only what is missing, and an interrupted run again.
    (tmp_path / 'digits' / 'seed1' / 'kd' / 'report.md').unlink()
    (tmp_path / 'digits' / 'seed1' / 'kd' / 'results.json').unlink()
    (tmp_path / 'digits' / 'seed1' / 'kd' / 'config.json').unlink()
    (tmp_path / 'digits' / 'seed1' / 'kd').rmdir()
    run(tmp_path, seeds=3)
    assert again.ran == ['seed1/kd', 'seed2/base', 'seed2/kd', 'seed2/iad']


@pytest.mark.parametrize('error', [InputError('it diverges'), RuntimeError('it diverges\nmore lines')])
def test_seeds_of_a_row_train_together(runs, tmp_path, capsys, error):
    fake = runs()
    fake.together = []

    def train_seeds(configs, folders, *, devices):
        assert [config.seed for config in configs] == [int(folder.parent.name[-1]) for folder in folders]
        fake.together.append([folder.relative_to(tmp_path / 'digits').as_posix() for folder in folders])
        if folders[0].name == 'iad':
            raise error

    fake.train_seeds = train_seeds
    content = run(tmp_path, seeds=3, seeds_together=2, processes=None)
    assert fake.together == [[f'seed0/{row}', f'seed1/{row}'] for row in ('base', 'kd', 'iad')]
    assert content == run(tmp_path, seeds=3)
    assert len(fake.ran) == len(content['runs']) == 9
    assert 'iad: 2 seeds cannot train together (it diverges); they train one by one' in capsys.readouterr().err


@pytest.mark.parametrize('error', [InputError('no such thing'), RuntimeError('no such thing')])
def test_a_failed_run_stops_its_dependents_alone(runs, tmp_path, capsys, error):
    fake = runs(seed0_base=error, seed1_kd=error)
    content = run(tmp_path)
    assert fake.ran == ['seed0/base', 'seed1/base', 'seed1/kd', 'seed1/iad']
    assert {failure['run']: failure['skipped'] for failure in content['failures']} == {
        'digits/seed0/base': ['digits/seed0/kd', 'digits/seed0/iad'],
        'digits/seed1/kd': [],
    }
    assert all('no such thing' in failure['error'] for failure in content['failures'])
    assert 'digits/seed0/base failed' in capsys.readouterr().err
    assert [row['row'] for row in content['rows']] == ['base', 'iad']
    assert (
        'Skipped, because they depend on it: digits/seed0/kd, digits/seed0/iad.' in (tmp_path / 'study.md').read_text()
    )
    # The same call resumes.
    assert run(tmp_path)['failures']
    runs()
    assert run(tmp_path)['failures'] == []


def test_runs_at_a_time_start_when_their_dependencies_end(monkeypatch, tmp_path):
    both = threading.Barrier(2, timeout=10)
    ended = []

    def run_worker(job, folder, cores, workers):
        if job.row == 'base':
            both.wait()  # passes only if the bases of two seeds run at the same time
        else:
            assert f'digits/seed{job.seed}/base' in ended
        ended.append(job.name)
        if job.name == 'digits/seed1/kd':
            raise execution.WorkerError('broken')

    monkeypatch.setattr(execution, '_run_worker', run_worker)
    options = STUDY.resolve({'digits': None}, tmp_path, seeds=2)
    schedule = Schedule(list(STUDY.jobs(options)), processes=2)
    execution.execute(schedule, tmp_path, processes=2, on_finish=lambda: None)
    assert len(ended) == 6
    assert schedule.failures == {'digits/seed1/kd': 'broken'}
    assert schedule.done == 5


def test_a_worker_has_its_cores_and_leaves_a_log(monkeypatch, tmp_path):
    code = 'import os, sys; print(len(os.sched_getaffinity(0)), len(sys.stdin.read())); sys.exit(3)'
    monkeypatch.setattr(execution, 'worker_command', lambda folder: [sys.executable, '-c', code])
    monkeypatch.setattr(execution.cpu, 'cores', lambda: sorted(os.sched_getaffinity(0))[:1])
    schedule = Schedule([job('a'), job('b')], processes=2)
    execution.execute(schedule, tmp_path, processes=2, on_finish=lambda: None)
    line = f'1 {len(tiny_config().to_json())}'
    assert (tmp_path / 'a' / execution.LOG).read_text() == f'{line}\n'
    assert schedule.failures['b'] == f'{line}\nexit status 3, output in {tmp_path / "b" / execution.LOG}'


SIGNALLED = """
import sys
from pathlib import Path
from helpers import tiny_config
from cckd_jax import cli
from cckd_jax.studies import execution
from cckd_jax.studies.jobs import Job

code = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'
execution.worker_command = lambda folder: [sys.executable, '-c', code]
jobs = [Job(name, tiny_config(), 'digits', 'kd', 0, needs=()) for name in 'ab']
schedule = execution.Schedule(jobs)
run = lambda: execution.execute(schedule, Path(sys.argv[1]), processes=2, on_finish=lambda: None)
sys.exit(cli.guarded(run))
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_workers(tmp_path, number):
    # In a process of its own: a handler that an earlier test left behind would end the process of the tests.
    study = subprocess.Popen([sys.executable, '-c', SIGNALLED, str(tmp_path)], cwd=ROOT / 'tests')
    logs = [tmp_path / name / execution.LOG for name in 'ab']
    while not all(log.exists() and log.read_text() for log in logs):
        assert study.poll() is None
        time.sleep(0.05)
    study.send_signal(number)
    assert study.wait(timeout=30) == 128 + number
    for log in logs:
        with pytest.raises(ProcessLookupError):
            os.kill(int(log.read_text()), 0)


def test_a_file_is_prepared_after_the_run_that_it_is_made_from(runs, tmp_path):
    fake = runs()
    prepare = lambda: fake.ran.append('prepared')
    jobs = [job('digits/seed0/base'), job('digits/seed0/kd', 'digits/seed0/base', prepare=prepare)]
    execution.execute(Schedule(jobs), tmp_path, processes=1, on_finish=lambda: None)
    assert fake.ran == ['seed0/base', 'prepared', 'seed0/kd']


def test_the_time_left_is_that_of_earlier_runs_of_the_row():
    jobs = [job('a', row='base'), job('b', row='kd'), job('c', row='base'), job('d', row='kd'), job('e', row='iad')]
    schedule = Schedule(jobs, processes=2)
    assert schedule.seconds_left() is None
    for seconds in (10.0, 2.0):
        schedule.finish(schedule.next(), None, seconds)
    # c takes 10 s as a, d 2 s as b, and e the mean of both, 6 s; two at a time.
    assert schedule.seconds_left() == 9.0
    running = schedule.next()
    assert schedule.seconds_left() == 9.0
    schedule.finish(running, 'failed', 1.0)
    assert schedule.seconds_left() == 4.0


def test_shards_are_a_partition_and_keep_dependents_together():
    jobs = [job(f'base{i}') for i in range(5)]
    jobs += [job('both', 'base0', 'base3'), job('next', 'both'), job('last', 'base4')]
    shards = [[job.name for job in select_shard(jobs, (index, 3))] for index in (1, 2, 3)]
    assert shards == [['base0', 'base3', 'base4', 'both', 'next', 'last'], ['base1'], ['base2']]


@pytest.mark.parametrize('text', ['3/2', '0/2', '1', 'a/b', '1/2/3'])
def test_a_shard_that_cannot_be(text):
    with pytest.raises(InputError, match='must be i/n with i from 1 to n'):
        parse_shard(text)


def test_shards_are_merged_even_from_another_folder(runs, tmp_path):
    fake = runs()
    halves = [run(tmp_path / 'there', shard=(index, 2)) for index in (1, 2)]
    assert fake.ran == [f'seed{seed}/{row}' for seed in (0, 1) for row in ('base', 'kd', 'iad')]
    assert [len(half['runs']) for half in halves] == [3, 6]
    (tmp_path / 'there').rename(tmp_path / 'here')
    assert run(tmp_path / 'here') == halves[1]
    assert len(fake.ran) == 6


def test_a_finished_run_of_other_settings_is_rejected(runs, tmp_path):
    fake = runs()
    base = lambda **fields: [job('digits/seed0/base', config=tiny_config(**fields))]
    study = lambda **fields: types.SimpleNamespace(
        **{**vars(STUDY), 'jobs': lambda options: base(**fields)}, resolve=STUDY.resolve
    )
    checkpoint = str(tmp_path / 'there' / 'teacher')
    engine.run(study(**{'teacher.checkpoint': checkpoint}), {}, tmp_path / 'there', seeds=1, processes=1)
    (tmp_path / 'there').rename(tmp_path / 'here')
    moved = {'teacher.checkpoint': str(tmp_path / 'here' / 'teacher')}
    engine.run(study(**moved), {}, tmp_path / 'here', seeds=1, processes=1)
    with pytest.raises(InputError, match=r'holds a run with batch_size=32, this study has 16; give another --workdir'):
        engine.run(study(**moved, batch_size=16), {}, tmp_path / 'here', seeds=1, processes=1)
    with pytest.raises(InputError, match=r'holds a run with teacher.checkpoint=.*there/teacher, this study has'):
        engine.run(study(**{'teacher.checkpoint': '/elsewhere'}), {}, tmp_path / 'here', seeds=1, processes=1)
    assert len(fake.ran) == 1


def test_a_finished_run_that_is_older_than_a_setting_had_its_default(runs, tmp_path):
    fake = runs()
    study = dataclasses.replace(STUDY, jobs=lambda options: [job('digits/seed0/base', row='base')])
    engine.run(study, {}, tmp_path, seeds=1, processes=1)
    path = tmp_path / 'digits/seed0/base/config.json'
    stored = json.loads(path.read_text())
    del stored['transfer']
    path.write_text(json.dumps(stored))
    engine.run(study, {}, tmp_path, seeds=1, processes=1)
    assert len(fake.ran) == 1


def test_a_study_of_one_student_refuses_several(runs, tmp_path):
    fake = runs()
    jobs = lambda options: [job('digits/seed0/base', row='base', config=tiny_config(num_students=2))]
    study = dataclasses.replace(STUDY, jobs=jobs)
    message = 'digits/seed0/base: the study fake measures one student, and num_students=2; set --config.num_students=1'
    with pytest.raises(InputError, match=message):
        engine.run(study, {}, tmp_path, seeds=1, processes=1)
    assert fake.ran == []
    engine.run(dataclasses.replace(study, several_students=True), {}, tmp_path, seeds=1, processes=1)
    assert fake.ran == ['seed0/base']
    assert {name for name, study in command.STUDIES.items() if study.several_students} == {'peers', 'seeds'}


def test_other_settings_of_the_evaluation_run_a_finished_job_again(runs, tmp_path):
    study = lambda value: types.SimpleNamespace(
        **{
            **vars(STUDY),
            'jobs': lambda options: [
                job('digits/seed0/base', row='base', config=tiny_config(**{'evaluate.calibration': value}))
            ],
        },
        resolve=STUDY.resolve,
    )
    ran = runs().ran
    for value in (True, True, False, False):
        content = engine.run(study(value), {}, tmp_path, seeds=1, processes=1)
        assert len(content['runs']) == 1
    assert ran == ['seed0/base', 'seed0/base']


def test_a_workdir_that_cannot_be_made(runs, tmp_path):
    runs()
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=r'cannot use workdir .*; give another --workdir'):
        run(tmp_path / 'file' / 'study')


def test_files_of_a_study(runs, tmp_path):
    runs()
    content = run(tmp_path, rows=['kd'], strength='strong')
    assert json.loads((tmp_path / 'study.json').read_text()) == content
    assert content['options'] == {'configs': ['digits'], 'seeds': 2, 'methods': ['kd'], 'strength': 'strong'}
    assert content['runs'][3] == {
        'study': 'fake',
        'dataset': 'digits',
        'row': 'kd',
        'seed': 1,
        'run': 'digits/seed1/kd',
        'accuracy': pytest.approx(0.93),
        'rate': None,
    }
    (base, kd) = content['rows']
    # t at 97.5 % with one degree of freedom is 12.706; the standard error of two values 0.01 apart is 0.005.
    assert kd['accuracy'] == {'mean': pytest.approx(0.925), 'half_width': pytest.approx(0.06353, rel=1e-3), 'count': 2}
    assert kd['rate'] is None
    assert base['count'] == 2
    (difference,) = content['differences']
    names = ('row', 'against', 'measure', 'count', 'verdict')
    assert [difference[name] for name in names] == ['kd', 'base', 'accuracy', 2, 'higher']
    text = (tmp_path / 'study.md').read_text()
    assert '| kd | 2 | 92.5 ± 6.4 % |  |' in text
    assert '| kd minus base | accuracy | +2.0 ± 0.0 % | higher |' in text
    lines = list(csv.DictReader((tmp_path / 'study.csv').read_text().splitlines()))
    assert [(line['row'], line['rate']) for line in lines] == [('base', '0.5'), ('kd', '0.5'), ('base', ''), ('kd', '')]
    assert (tmp_path / 'study.png').read_bytes() == b'figure'


def test_without_pairs_every_row_is_compared_with_the_first():
    study = types.SimpleNamespace(**{**vars(STUDY), 'compare': (), 'rows': ()})
    records = [
        {'study': 'fake', 'dataset': 'digits', 'row': row, 'seed': 0, 'accuracy': 0.5} for row in ('a', 'b', 'c')
    ]
    content = summary.summarize(study, records)
    assert [(row['row'], row['against']) for row in content['differences']] == [('b', 'a'), ('c', 'a')]
    assert {row['verdict'] for row in content['differences']} == {'one seed: undecided'}


def test_an_estimate_agrees_with_hand_computed_values():
    # The standard deviation of 0.90, 0.92, 0.97 is sqrt(0.0013); t at 97.5 % with two degrees of freedom is 4.3027.
    (mean, half_width, count) = dataclasses.astuple(estimate([0.90, 0.92, 0.97]))
    assert (mean, count) == (pytest.approx(0.93), 3)
    assert half_width == pytest.approx(4.3027 * (0.0013 / 3) ** 0.5, rel=1e-4)
    assert estimate([0.5]) == Estimate(0.5, None, 1)


def test_a_difference_is_taken_between_equal_seeds():
    assert paired_difference({0: 0.5, 1: 0.75, 2: 0.5}, {1: 0.5, 2: 0.25, 3: 0.0}) == Estimate(0.25, 0.0, 2)
    assert paired_difference({0: 0.5, 1: None}, {1: 0.5}) is None


def test_verdicts():
    assert verdict(Estimate(-0.02, 0.01, 3)) == 'lower'
    assert verdict(Estimate(0.0, 0.0, 3)) == 'not significant'
    assert verdict(Estimate(0.02, None, 1)) == 'one seed: undecided'


def test_a_large_number_and_an_absent_one_in_a_table():
    column = Column('samples', digits=0, interval=False)
    assert tables.format_estimate({'mean': 12345.6, 'half_width': 9.0, 'count': 2}, column) == '12,346'
    assert tables.format_estimate(None, column) == ''


@pytest.mark.parametrize('name', sorted(path.stem for path in (ROOT / 'configs').glob('*.py')))
def test_a_worker_gets_the_config_that_it_is_sent(name):
    config = cli.configured(f'{name}:smoke', [])
    decoded = decode_config(config.to_json())
    assert settings.as_dict(decoded) == settings.as_dict(config)
    assert hash(decoded.dataset.image_shape) == hash(config.dataset.image_shape)


def test_the_documented_study_runs_in_processes_beside_a_run_that_fails(tmp_path):
    (documented,) = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'studies.md').read_text(), re.DOTALL)
    (tmp_path / 'temperatures.py').write_text(documented + FAILING_RUNS)
    settings = {'teacher.model': 'helpers:Flat', 'student.model': 'helpers:Flat', 'dataset.examples': 128}
    settings |= {'attack.samples': 16, 'evaluate.calibration': False}
    command_line = [sys.executable, ROOT / 'launch' / 'study.py', '--study=temperatures:STUDY', '--workdir=runs']
    command_line += ['--configs=digits_lenet:smoke', '--temperatures=4', '--seeds=1', '--processes=2', '--epochs=1']
    command_line += [f'--config.{name}={value}' for name, value in settings.items()]
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': '1', 'PYTHONPATH': path}
    finished = subprocess.run(command_line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 2, finished.stderr
    assert finished.stderr.endswith('error: failed runs: broken; the same command resumes the study\n')
    assert 'no readable checkpoint' in finished.stderr
    assert finished.stdout.endswith('the tables are in runs/study.md\n')
    content = json.loads((tmp_path / 'runs' / 'study.json').read_text())
    assert [(run['row'], run['level']) for run in content['runs']] == [('separate', None), ('kd', 4.0)]
    assert content['failures'][0]['skipped'] == ['dependent']
    group = tmp_path / 'runs' / 'digits_lenet' / 'seed0'
    assert not (group / 'kd_4' / 'teacher').exists()
    assert 'the report is in' in (group / 'kd_4' / execution.LOG).read_text()
    assert json.loads((group / 'kd_4' / 'results.json').read_text())['hyperparameters']['temperature'] == 4.0


FAILING_RUNS = """
import dataclasses


def jobs_that_fail(options):
    yield from jobs(options)
    (config,) = options.configs.values()
    broken = override(config, {'method': 'kd', 'teacher.checkpoint': 'absent'})
    yield Job('broken', broken, 'digits', 'kd', 0)
    yield Job('dependent', config, 'digits', 'kd', 0, needs=('broken',))


STUDY = dataclasses.replace(STUDY, jobs=jobs_that_fail)
"""


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], '--study is missing; there are: significance, teachers, faithful, peers, convergence, data_free, seeds'),
        (['--study=significanse', '--workdir=a'], "unknown study 'significanse' .did you mean 'significance'"),
        (['--study=absent:STUDY', '--workdir=a'], "study 'absent:STUDY' cannot be imported"),
        (['--study=json:loads', '--workdir=a'], 'json:loads is function, not a cckd_jax.studies.study.Study'),
        (['--study=seeds'], '--workdir is missing; for example --workdir=runs/study'),
        (['--study=seeds', '--workdir=a', '--config.seed=3'], '--config.seed is set by --seeds'),
        (
            ['--study=seeds', '--workdir=a', '--configs=digit_lenet'],
            "unknown config 'digit_lenet' .did you mean 'digits_lenet'",
        ),
        (['--study=seeds', '--workdir=a', '--configs=digits_lenet,digits_lenet:smoke'], 'names a config twice'),
        (['--study=seeds', '--workdir=a', '--seeds=0'], 'seeds=0 must be above 0; set --seeds'),
        (['--study=seeds', '--workdir=a', '--processes=0'], 'processes=0 must be above 0; set --processes'),
        (['--study=seeds', '--workdir=a', '--seeds_together=0'], 'seeds_together=0 must be above 0'),
        (['--study=seeds', '--workdir=a', '--seeds_together=2', '--processes=2'], 'seeds_together=2 trains in one pro'),
        (['--study=seeds', '--workdir=a', '--methods=kdd'], "unknown method 'kdd' .did you mean 'kd'"),
        (['--study=seeds', '--workdir=a', '--worse=epochs'], "unexpected flag '--worse=epochs'"),
    ],
)
def test_a_command_line_that_cannot_be(monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert command.main(['study', *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', command.STUDIES)
def test_help_lists_the_options_of_a_study(name, capsys):
    assert command.main(['study', f'--study={name}', '--help']) == 0
    text = capsys.readouterr().out
    assert all(f'--{option} ' in text for option in command.STUDIES[name].options)

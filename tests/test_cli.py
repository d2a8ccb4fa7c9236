"""Bad input gives one clear line, a non-zero exit status and no traceback, and leaves no files behind."""

import errno
import os
import stat
import subprocess
import sys
import types
from pathlib import Path

import jax
import pytest

from cckd_jax import cache, cli, config as settings, experiment, interrupt
from cckd_jax.training import load_network

ROOT = Path(__file__).parents[1]


def main(*arguments, config=None):
    config = config or f'{ROOT}/configs/digits_lenet.py:smoke'
    run = lambda config, workdir: experiment.run(config, workdir, devices=jax.devices()[:1])
    return cli.main(run, 'the usage', ['main.py', f'--config={config}', *map(str, arguments)])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--config.temprature=3'], "unknown config key 'temprature' (did you mean 'temperature'?)"),
        (['--config.dataset.nam=3'], "unknown config key 'dataset.nam' (did you mean 'name'?)"),
        (['--config.seed.high=3'], "unknown config key 'seed.high'; there are: none below"),
        (['--config.temperature=0'], 'temperature=0.0 must be in [0.001, 10000]; set --config.temperature'),
        (['--config.temperature=warm'], "could not convert string to float: 'warm'"),
        (['--config.margin_temperature=-1'], 'margin_temperature=-1.0 must be in [0.001, 10000]'),
        (['--config.alpha=-0.5'], 'alpha=-0.5 must be in [0, 10000]'),
        (['--config.alpha=nan'], 'alpha=nan must be in [0, 10000]'),
        (['--config.hard_weight=-1'], 'hard_weight=-1.0 must be in [0, 10000]'),
        (['--config.validation_fraction=1'], 'validation_fraction=1.0 must be in [0, 1)'),
        (['--config.attack.epsilon=1.5'], 'attack.epsilon=1.5 must be in [0, 1]'),
        (['--config.batch_size=0'], 'batch_size=0 must be a whole number from 1 to 2^31 - 1'),
        (['--config.student.epochs=0'], 'student.epochs=0 must be a whole number from 1 to 2^31 - 1'),
        (['--config.method=cckd'], "unknown method 'cckd' (did you mean 'cckd_t'?)"),
        (['--config.teacher.model=lenet'], "unknown model 'lenet' (did you mean 'lenet5'?)"),
        (['--config.student.model=lenet5half'], "unknown model 'lenet5half' (did you mean 'lenet5_half'?)"),
        (['--config.dataset.name=digit'], "unknown data set 'digit' (did you mean 'digits'?)"),
        (['--config.optimizer.name=adan'], "unknown optimizer 'adan' (did you mean 'adam'?)"),
        (['--config.batch_size=257'], 'batch_size=257 is larger than the 256 training examples'),
        (['--config.teacher.checkpoint=/nowhere'], 'no readable checkpoint in /nowhere/checkpoints'),
        (['--config.attack.checkpoint=/nowhere'], 'no readable checkpoint in /nowhere/checkpoints'),
        (['--config.teacher.logits=/nowhere.npz'], 'no file of teacher logits at /nowhere.npz'),
        (['--config.teacher.logits=a', '--config.teacher.checkpoint=b'], 'are both set'),
        (['--config.teacher.onnx=/nowhere.onnx'], 'no ONNX file at /nowhere.onnx'),
        (
            ['--config.teacher.onnx=a', '--config.teacher.input_std=(0.5,0)'],
            'teacher.input_std=(0.5, 0) must be one or',
        ),
        (['--config.teacher.checkpoint=/nowhere.safetensors'], 'no file of weights at /nowhere.safetensors'),
        ([f'--config.dataset.name={ROOT}/configs'], '; a data set is a folder with train/CLASS/*'),
        (['--config.dataset.image_shape=(28,28)'], 'dataset.image_shape=(28, 28) must be (height, width, channels)'),
        (['--config.dataset.test_fraction=1'], 'dataset.test_fraction=1.0 must be in (0, 1)'),
        (['--config.precision=float16'], 'precision=float16 must be float32 or bfloat16'),
        (['--config.augmentation.crop=-1'], 'augmentation.crop=-1 must be a whole number from 0 to 2^31 - 1'),
        (
            ['--config.augmentation.flip=true', '--config.teacher.logits=a.npz'],
            'teacher.logits belong to the original images',
        ),
        (['--config.student.model=nowhere:net'], "model 'nowhere:net' cannot be imported"),
        (['--config.dataset.name=/nowhere.npz'], 'no data set at /nowhere.npz'),
        (['--config.temperature=inf'], 'temperature=inf must be in [0.001, 10000]'),
        (['--config.longest_rest=2147483648'], 'longest_rest=2147483648 must be a whole number from 0 to 2^31 - 1'),
        (['--config.warm_up=2147483648'], 'warm_up=2147483648 must be a whole number'),
        (['--config.teacher.ramp=2147483648'], 'teacher.ramp=2147483648 must be a whole number'),
        (['--config.attack_steps=2147483648'], 'attack_steps=2147483648 must be a whole number from 1'),
        (['--config.evaluate.queries=1000000000000'], 'evaluate.queries=1000000000000 must be a whole number'),
        (['--config.seed=4294967296'], 'seed=4294967296 must be in [0, 2^32)'),
        (['--config.dataset.name=mnist/nothing'], "data set 'mnist/nothing' cannot be used"),
        (['--config.dataset.name=My Data'], "data set 'My Data' cannot be used"),
        (['--config.method=kd', '--config.recheck=true'], 'recheck=true needs a gate, and kd has no gate'),
        (['--config.teachers=3'], "'teachers' is a group of settings; there are: 0, 1, 2"),
        (['--config.optimizer=sgd'], "'optimizer' is a group of settings; there are: name, schedule, weight_decay"),
        (['--config.teachers.1.modle=a'], "unknown config key 'teachers.1.modle' (did you mean 'model'?)"),
        (['--config.teachers.8.model=a'], "unknown config key 'teachers.8.model'; there are: 0, 1, 2, 3, 4, 5, 6, 7"),
        (['--config.teachers[1].epochs=few'], "invalid literal for int() with base 10: 'few'"),
        (['--config.teachers.1.seed=1'], 'teachers.1.seed is set, and num_teachers=1, counted from 0'),
        (['--verbosely'], "unexpected flag '--verbosely'"),
        (['--wrkdir=x'], "unexpected flag '--wrkdir=x' (did you mean '--workdir'?)"),
        (['--workdir='], '--workdir is empty'),
        (['--workdir=elsewhere'], '--workdir is given 2 times: elsewhere, '),
        (['--config=digits_lenet'], '--config is given 2 times: '),
        (['--config.dataset.name=~nosuchuser/a.npz'], 'dataset.name=~nosuchuser/a.npz: ~nosuchuser is not the home'),
        (['--config.teacher.logits=~nosuchuser/a.npz'], 'teacher.logits=~nosuchuser/a.npz: ~nosuchuser is not'),
        (['runs'], "unexpected argument 'runs'"),
    ],
)
def test_a_bad_argument_is_one_line(arguments, message, tmp_path, capsys):
    assert main(*arguments, f'--workdir={tmp_path / "run"}') == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert message in line
    assert not (tmp_path / 'run' / 'config.json').exists()


def test_a_bad_config_file_is_one_line(tmp_path, capsys):
    broken = tmp_path / 'broken.py'
    broken.write_text('def get_config(variant):\n    return 1 / 0\n')
    empty = tmp_path / 'empty.py'
    empty.write_text('def get_config(variant):\n    pass\n')
    missing = tmp_path / 'missing.py'
    missing.write_text(
        'import cckd_jax.config\ndef get_config(variant):\n    config = cckd_jax.config.default()\n'
        '    del config.attack\n    return config\n'
    )
    foreign = tmp_path / 'foreign.py'
    foreign.write_text(
        'import ml_collections\ndef get_config(variant):\n    return ml_collections.ConfigDict({"a": 1})\n'
    )
    exits = tmp_path / 'exits.py'
    exits.write_text('import sys\nsys.exit(0)\n')
    for config, message in (
        (f'{ROOT}/configs/digit_lenet.py', "(did you mean '"),
        ('digit_lenet', "unknown config 'digit_lenet' (did you mean 'digits_lenet'?)"),
        ('~nosuchuser/a.py', '~nosuchuser is not the home folder of any user'),
        (missing, 'missing.py cannot be used: its config has no attack.'),
        (foreign, 'foreign.py cannot be used: its config has no '),
        (exits, 'exits.py cannot be used: SystemExit: 0'),
        (tmp_path / 'absent.py', 'no config file at'),
        (ROOT / 'README.md', 'no config file at'),
        (f'{ROOT}/configs/digits_lenet.py:smoky', "unknown config variant 'smoky' (did you mean 'smoke'?)"),
        (empty, 'get_config() returned NoneType, not a ConfigDict'),
        (broken, 'broken.py cannot be used: ZeroDivisionError: division by zero'),
    ):
        assert main(f'--workdir={tmp_path / "run"}', config=config) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert main() == 2
    assert '--workdir is missing' in capsys.readouterr().err


def test_an_unusable_workdir_is_one_line(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert main('--workdir=~nosuchuser/run') == 2
    assert '~nosuchuser is not the home folder' in capsys.readouterr().err
    assert main(f'--workdir={tmp_path / "file" / "run"}') == 2
    assert 'cannot use workdir' in capsys.readouterr().err
    (tmp_path / 'config.json').write_text('{"method": ')
    assert main(f'--workdir={tmp_path}') == 2
    assert 'cannot use workdir' in capsys.readouterr().err


def test_a_workdir_of_another_config_is_unchanged(trained, capsys):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob('*') if path.is_file()}
    assert main(f'--workdir={trained}') == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'holds a run with alpha=0.05, this one has 0.03; give another --workdir' in line
    assert {path: path.stat().st_mtime_ns for path in trained.rglob('*') if path.is_file()} == before


def test_a_teacher_of_another_architecture_is_refused(trained, tmp_path, capsys):
    arguments = [f'--config.teacher.checkpoint={trained / "student"}', f'--workdir={tmp_path / "run"}']
    assert main(*arguments) == 2
    assert "has model 'lenet5_half', this run needs 'lenet5'" in capsys.readouterr().err


def test_a_stale_teacher_cache_is_refused(trained, tmp_path, capsys):
    workdir = tmp_path / 'run'
    fields = [
        f'--config.teacher.checkpoint={trained / "teacher"}',
        f'--config.attack.checkpoint={trained / "separate"}',
        f'--workdir={workdir}',
    ]
    assert main(*fields) == 0
    (workdir / 'report.md').unlink()
    cache = workdir / 'teacher_outputs.npz'
    import numpy as np

    np.savez(cache, **{**np.load(cache), 'key': np.array('of another teacher')})
    capsys.readouterr()
    assert main(*fields) == 2
    assert 'was computed for other teacher weights' in capsys.readouterr().err
    cache.unlink()
    assert main(*fields) == 0


def test_a_student_can_teach(trained, tmp_path):
    """A student's folder is a teacher's checkpoint, and holds the student alone."""
    arguments = [
        f'--config.teacher.checkpoint={trained / "student"}',
        '--config.teacher.model=lenet5_half',
        f'--workdir={tmp_path / "run"}',
    ]
    assert main(*arguments) == 0
    (_, variables) = load_network(trained / 'student')
    assert variables.keys() == {'params'}


def test_only_a_student_trained_alone_is_attacked(trained, tmp_path, capsys):
    arguments = [f'--config.attack.checkpoint={trained / "student"}', f'--workdir={tmp_path / "run"}']
    assert main(*arguments) == 2
    assert "has method 'cckd_t_reg', this run needs 'separate'" in capsys.readouterr().err


def test_a_setting_that_the_method_does_not_use_is_reported(trained, tmp_path, capsys):
    arguments = [
        '--config.method=kd',
        '--config.alpha=0.5',
        f'--config.teacher.checkpoint={trained / "teacher"}',
        f'--config.attack.checkpoint={trained / "separate"}',
    ]
    assert main(*arguments, f'--workdir={tmp_path / "run"}') == 0
    assert 'ignoring alpha=0.5: method kd has no such hyper-parameter' in capsys.readouterr().err


def test_teachers_are_set_by_index_in_either_form():
    arguments = ['--config.num_teachers=3', '--config.teachers.1.model=lenet5_half']
    arguments += ['--config.teachers[2].label_noise=0.5']
    config = cli.configured(f'{ROOT}/configs/digits_lenet.py', [*arguments, '--config.teacher.epochs=7'])
    teachers = settings.teachers(config)
    assert [teacher.model for teacher in teachers] == ['lenet5', 'lenet5_half', 'lenet5']
    assert [teacher.label_noise for teacher in teachers] == [0.0, 0.0, 0.5]
    assert [teacher.epochs for teacher in teachers] == [7, 7, 7]
    assert settings.as_dict(config)['teachers'] == {'1': {'model': 'lenet5_half'}, '2': {'label_noise': 0.5}}


def test_other_teachers_do_not_inherit_checkpoint_and_seed():
    arguments = ['--config.num_teachers=2', '--config.teacher.checkpoint=a', '--config.teacher.seed=3']
    (first, second) = settings.teachers(cli.configured(f'{ROOT}/configs/digits_alexnet.py:smoke', arguments))
    assert (first.checkpoint, first.seed, second.checkpoint, second.seed) == ('a', 3, None, None)
    assert first.options.width == second.options.width == 0.125
    other_model = [*arguments, '--config.teachers.1.model=lenet5']
    (_, second) = settings.teachers(cli.configured(f'{ROOT}/configs/digits_alexnet.py:smoke', other_model))
    assert second.options.to_dict() == {}


def test_help_prints_the_usage(capsys):
    assert main('--help') == 0
    assert 'the usage' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 'disk full'),
        (ValueError('RESOURCE_EXHAUSTED: Failed to write 94363 bytes to file 5: No space left on device'), 'disk full'),
        (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9600 bytes.'), 'batch_size'),
        (MemoryError(), 'out of memory: lower --config.batch_size, or choose narrower networks'),
    ],
)
def test_exhausted_memory_or_disk_is_one_line(error, message, capsys):
    def fail():
        try:
            raise error
        finally:
            raise RuntimeError('Event loop is closed')

    assert cli.one_line_errors(fail) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert line.startswith('error: ')
    assert 'the same command resumes' in line


def test_a_write_that_fails_after_the_command_prints_nothing(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'unraisablehook', sys.__unraisablehook__)
    cli.one_line_errors(lambda: None)
    for message in ('Event loop is closed', 'a mistake'):
        error = RuntimeError(message)
        unraisable = types.SimpleNamespace(
            exc_type=RuntimeError, exc_value=error, exc_traceback=None, err_msg=None, object=None
        )
        if message == 'a mistake':
            monkeypatch.setattr(sys, '__unraisablehook__', lambda reported: print(reported.exc_value, file=sys.stderr))
        sys.unraisablehook(unraisable)
    assert capsys.readouterr().err == 'a mistake\n'


def test_a_programming_error_is_raised():
    with pytest.raises(RuntimeError, match='a mistake'):
        cli.one_line_errors(lambda: (_ for _ in ()).throw(RuntimeError('a mistake')))


def test_a_platform_that_is_absent_is_one_line(monkeypatch, capsys):
    def fail():
        raise AssertionError

    monkeypatch.setattr(jax, 'local_devices', fail)
    assert main('--workdir=run') == 2
    assert 'JAX cannot start with JAX_PLATFORMS=cpu: AssertionError' in capsys.readouterr().err


def test_the_current_folder_is_last_on_the_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    cli.one_line_errors(lambda: None)
    assert sys.path[-1] == str(tmp_path)


def test_a_deleted_current_folder_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / 'gone').mkdir()
    monkeypatch.chdir(tmp_path / 'gone')
    (tmp_path / 'gone').rmdir()
    assert cli.one_line_errors(lambda: None) == 2
    assert 'the current folder was deleted' in capsys.readouterr().err


def test_the_cache_folder_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    (tmp_path / 'cckd_jax').mkdir()
    (tmp_path / 'cckd_jax').chmod(0o777)
    assert stat.S_IMODE(cache.folder().stat().st_mode) == 0o700


INTERRUPTED = """
import gc, signal, sys, time
from cckd_jax import cli, interrupt

def in_callback(phase, info):
    signal.raise_signal(signal.SIGINT)

def swallowed():
    gc.callbacks.append(in_callback)
    gc.collect()
    print('continued', flush=True)
    time.sleep(60)

def converted():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ImportError('an extension module') from None

def hidden():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        time.sleep(60)

def terminated():
    signal.raise_signal(signal.SIGTERM)

def run(function):
    with interrupt.raised(grace_seconds=0.1):
        function()

sys.exit(cli.one_line_errors(lambda: run(globals()[sys.argv[1]])))
"""


@pytest.mark.parametrize(
    ('case', 'status'), [('swallowed', 130), ('converted', 130), ('hidden', 130), ('terminated', 143)]
)
def test_a_signal_ends_the_process_with_one_line(case, status):
    command = [sys.executable, '-c', INTERRUPTED, case]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=50)
    assert (process.returncode, process.stdout, process.stderr) == (status, '', f'{interrupt.MESSAGE}\n')


def test_from_the_shell(tmp_path):
    def launch(*arguments):
        command = [sys.executable, 'launch/main.py', *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    process = launch('--config=configs/nope.py', f'--workdir={tmp_path}')
    assert (process.returncode, process.stdout) == (2, '')
    assert len(process.stderr.splitlines()) == 1
    (tmp_path / 'network_of_mine.py').write_text('net = 3\n')
    command = [sys.executable, f'{ROOT}/launch/main.py', f'--config={ROOT}/configs/digits_lenet.py', '--workdir=run']
    process = subprocess.run(
        [*command, '--config.student.model=network_of_mine:absent'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "network_of_mine has no 'absent'" in process.stderr  # the current folder is searched
    process = launch('--help')
    assert process.returncode == 0
    assert '--config=configs/digits_lenet.py' in process.stdout

import pytest
from helpers import digits_config

from cckd_jax import config as settings
from cckd_jax.errors import InputError
from cckd_jax.experiment.workdir import lock_workdir
from cckd_jax.io import write_json


def refused(workdir, **fields):
    """The message with which a workdir is refused."""
    with pytest.raises(InputError) as raised, lock_workdir(workdir, digits_config(**fields)):
        pass
    (line,) = str(raised.value).splitlines()
    return line


@pytest.mark.parametrize(
    'content',
    [b'[1]', b'null', b'3', b'{"method": ', b'\xff\xfe', b'[' * 100_000, b'{"a":' * 100_000],
    ids=['list', 'null', 'number', 'torn', 'not UTF-8', 'deep list', 'deep object'],
)
def test_a_damaged_config_is_refused(tmp_path, content):
    (tmp_path / 'config.json').write_bytes(content)
    line = refused(tmp_path)
    assert line.startswith(f'cannot use workdir {tmp_path} (config.json: ')
    assert (tmp_path / 'config.json').read_bytes() == content


@pytest.mark.parametrize(
    'name',
    [
        *('teacher', 'teacher_2', 'student', 'separate', 'figures', 'student/checkpoints', 'config.json/'),
        *(
            'results.json/',
            'report.md/',
            'report.html/',
            'teacher_outputs.npz/',
            'significance.npz/',
            'teacher/metrics.jsonl/',
        ),
    ],
)
def test_an_entry_of_the_wrong_kind_is_refused(tmp_path, name):
    entry = tmp_path / name
    entry.parent.mkdir(exist_ok=True)
    entry.mkdir() if name.endswith('/') else entry.write_text('')
    (kind, needed) = ('folder', 'file') if name.endswith('/') else ('file', 'folder')
    assert f'{entry} is a {kind}; a run keeps a {needed} there; remove it' in refused(tmp_path)
    assert entry.exists()


def test_files_of_other_names_are_left_alone(tmp_path):
    (tmp_path / 'notes').write_text('')
    with lock_workdir(tmp_path, digits_config()) as changed:
        assert changed == frozenset()
    assert (tmp_path / 'notes').exists()


def test_settings_that_may_differ_are_named(tmp_path):
    write_json(tmp_path / 'config.json', settings.as_dict(digits_config()))
    config = digits_config(**{'evaluate.robustness': True, 'dataset.data_dir': '/elsewhere'})
    with lock_workdir(tmp_path, config, may_differ=('dataset.data_dir', 'evaluate')) as changed:
        assert changed == {'dataset.data_dir', 'evaluate.robustness'}
    fields = {'evaluate.robustness': True}
    assert 'holds a run with evaluate.robustness=False, this one has True' in refused(tmp_path, **fields)
    # A prefix is a whole group, not the beginning of a name.
    with (
        pytest.raises(InputError, match=r'evaluate\.robustness'),
        lock_workdir(tmp_path, config, may_differ=('dataset.data_dir', 'eval')),
    ):
        pass


def test_temporary_files_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / 'student').mkdir()
    for name in ('.results.json.123.tmp', 'student/.metrics.jsonl.7.tmp', 'student/kept.tmp'):
        (tmp_path / name).write_text('')
    with lock_workdir(tmp_path, digits_config()):
        pass
    assert {path.name for path in tmp_path.rglob('*') if path.is_file()} == {'.lock', 'kept.tmp'}


def test_a_new_directory_in_which_nothing_was_written_is_removed(tmp_path):
    workdir = tmp_path / 'run'
    with pytest.raises(InputError, match='no such data'), lock_workdir(workdir, digits_config()):
        raise InputError('no such data')
    assert not workdir.exists()

    with lock_workdir(workdir, digits_config()):
        (workdir / 'config.json').write_text('{}')
    assert (workdir / 'config.json').exists()


def test_an_empty_directory_of_the_user_stays(tmp_path):
    with lock_workdir(tmp_path, digits_config()):
        pass
    assert tmp_path.exists()

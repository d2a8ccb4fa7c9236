"""Checkpoints of a state that is small enough to write in no time."""

import errno
import os
import shutil

import flax.linen as nn
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers import assert_trees_equal
from tensorboardX.event_file_writer import EventsWriter

from cckd_jax import training
from cckd_jax.errors import InputError
from cckd_jax.report.metrics import MetricsWriter, read_rows

META = {'model': 'dense'}


def state(value, width=2):
    kernel = np.full((width, 3), value, np.float32)
    return training.TrainState(
        step=np.int32(value),
        epoch=np.int32(value),
        params={'student': {'Dense_0': {'kernel': kernel, 'bias': np.zeros(3, np.float32)}}, 'extra': {}},
        batch_stats={'student': {}, 'extra': {}},
        opt_state=(kernel,),
        records={'participation': np.full(4, value, np.int32)},
    )


def rows(count):
    return [{'epoch': epoch, 'loss': 0.1 * epoch, 'samples_used': 7 + epoch} for epoch in range(count)]


@pytest.fixture
def folder(tmp_path):
    """Checkpoints after one and after two epochs."""
    with training.Checkpoints(tmp_path, META) as checkpoints:
        for epochs in (1, 2):
            checkpoints.save(state(epochs), rows(epochs))
    return tmp_path


def restored(folder, like=None):
    with training.Checkpoints(folder, META) as checkpoints:
        return checkpoints.restore(state(0) if like is None else like)


def metadata(folder, item, epochs=2):
    (path,) = (folder / 'checkpoints' / str(epochs) / item).glob('metadata')
    return path


def test_rows_come_back_with_the_weights(folder, tmp_path):
    (loaded, loaded_rows) = restored(folder)
    assert_trees_equal(loaded, state(2))
    assert loaded_rows == rows(2)
    (loaded, loaded_rows) = restored(tmp_path / 'empty')
    assert_trees_equal(loaded, state(0))
    assert loaded_rows == []


@pytest.mark.parametrize('content', [None, b'garbage', b'123', b'{"a":1}', b'\xff\xfe\n', b'{"epoch": 0}\n'])
def test_what_is_in_the_metrics_file_does_not_matter(folder, content):
    if content is not None:
        (folder / 'metrics.jsonl').write_bytes(content)
        read_rows(folder)
    writer = MetricsWriter(folder)
    writer.start(restored(folder)[1])
    writer.close()
    assert read_rows(folder) == rows(2)


@pytest.mark.parametrize(
    'content', ['[1, 2]', 'null', '{}', '{"model": "dense"}', '{', '{"epochs": 1, "model": "dense"}']
)
def test_damaged_metadata_go_back_to_the_checkpoint_before(folder, content, capsys):
    metadata(folder, 'meta').write_text(content)
    (meta, _) = training.load_network(folder)
    assert meta == {**META, 'epochs': 1}
    assert '2 cannot be read' in capsys.readouterr().err
    (loaded, loaded_rows) = restored(folder)
    assert_trees_equal(loaded, state(1))
    assert loaded_rows == rows(1)
    assert '2 cannot be read' in capsys.readouterr().err
    assert len(list(folder.glob('damaged_checkpoint_2_*'))) == 1


@pytest.mark.parametrize('content', ['[]', 'null', '[1, 2]', '[{"epoch": 0}]', '[{"epoch": 1}, {"epoch": 0}]', '{'])
def test_rows_that_are_lost_go_back_to_the_checkpoint_before(folder, content):
    metadata(folder, 'rows').write_text(content)
    assert restored(folder)[1] == rows(1)


def test_without_a_readable_checkpoint_a_network_is_refused(folder):
    for epochs in (1, 2):
        metadata(folder, 'meta', epochs).write_text('[1, 2]')
    with pytest.raises(InputError, match='no readable checkpoint in'):
        training.load_network(folder)


def test_a_checkpoint_without_rows_is_kept_and_refused(folder):
    shutil.rmtree(folder / 'checkpoints' / '2' / 'rows')
    with pytest.raises(InputError, match='has no rows: an earlier version wrote it'):
        restored(folder)
    assert (folder / 'checkpoints' / '2').is_dir()
    training.load_network(folder)


def test_weights_of_another_shape_are_not_resumed(folder):
    with training.Checkpoints(folder, META) as checkpoints:
        checkpoints.save(state(3, width=5), rows(3))
    (loaded, loaded_rows) = restored(folder)
    assert_trees_equal(loaded, state(2))
    assert loaded_rows == rows(2)


def test_weights_that_do_not_fit_the_module_are_refused(folder):
    (_, variables) = training.load_network(folder)
    training.check_variables(variables, Dense(), (1, 2, 1), folder)
    with pytest.raises(InputError, match=r"\['kernel'\] has shape \(2, 3\), its network needs \(4, 3\); name another"):
        training.check_variables(variables, Dense(), (2, 2, 1), folder)
    del variables['params']['Dense_0']['bias']
    with pytest.raises(InputError, match=r"\['bias'\] has shape None, its network needs \(3,\)"):
        training.check_variables(variables, Dense(), (1, 2, 1), folder)


class Dense(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.reshape(len(images), -1))


def test_a_file_in_place_of_the_checkpoints_is_refused(tmp_path):
    (tmp_path / 'checkpoints').write_text('')
    with pytest.raises(InputError, match=r'cannot write .*checkpoints \(File exists\)'):
        training.Checkpoints(tmp_path, META)


@pytest.mark.parametrize(
    'error',
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        ValueError('RESOURCE_EXHAUSTED: Error writing local file'),
        RuntimeError('No space left on device'),
    ],
)
@pytest.mark.parametrize('call', ['save', 'close', 'wait_until_finished'])
def test_a_full_disk_is_one_line_and_the_checkpoint_before_is_kept(folder, monkeypatch, error, call):
    works = getattr(ocp.CheckpointManager, call)

    def fail(manager, *arguments, **options):
        monkeypatch.undo()
        if call != 'save':
            works(manager)
        raise error

    def save_and_describe():
        with training.Checkpoints(folder, META) as checkpoints:
            monkeypatch.setattr(ocp.CheckpointManager, call, fail)
            checkpoints.save(state(3), rows(3))
            checkpoints.describe()

    with pytest.raises(InputError, match='no space left on the disk while writing') as raised:
        save_and_describe()
    assert len(str(raised.value).splitlines()) == 1
    assert restored(folder)[1] == rows(3 if call == 'close' else 2)


def test_a_checkpoint_larger_than_the_free_space_is_not_begun(folder, monkeypatch):
    def save(free):
        monkeypatch.setattr(shutil, 'disk_usage', lambda path: (2**40, 2**40 - free, free))
        with training.Checkpoints(folder, META) as checkpoints:
            checkpoints.save(state(3), rows(3))

    with pytest.raises(InputError, match='no space left on the disk while writing'):
        save(2**20 + 83)
    assert restored(folder)[1] == rows(2)
    save(2**20 + 84)
    assert restored(folder)[1] == rows(3)


def test_a_full_disk_under_the_metrics_is_one_line(tmp_path, monkeypatch):
    def fail(events):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(EventsWriter, 'flush', fail)
    writer = MetricsWriter(tmp_path)
    with pytest.raises(InputError, match='no space left on the disk'):
        writer.start(rows(2))
    monkeypatch.undo()
    writer.close()


def test_counts_that_a_checkpoint_lacks_are_one_line(tmp_path):
    # As those of an earlier version, which kept them under another name.
    with training.Checkpoints(tmp_path, META) as checkpoints:
        checkpoints.save(state(1).replace(records={'other': np.zeros(4)}), rows(1))
    with pytest.raises(InputError, match=r'participation counts of checkpoint .* cannot be read'):
        training.load_participation(tmp_path, 1)

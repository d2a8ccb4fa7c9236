import json
import shutil

import jax
import numpy as np
import pytest
from helpers import assert_trees_equal, digits_config

from cckd_jax import experiment, training
from cckd_jax.errors import InputError
from cckd_jax.experiment.workdir import lock_workdir
from cckd_jax.methods import METHODS, SELF_REGULATED_RECHECK
from cckd_jax.report.metrics import MetricsWriter, read_rows
from cckd_jax.training import choice, optimizers

SHORT = {'teacher.epochs': 3, 'student.epochs': 4, 'dataset.examples': 256, 'save_seconds': 0.0}


def untimed(folder):
    return [{k: v for k, v in row.items() if k != 'epoch_seconds'} for row in read_rows(folder)]


def run_short(workdir, devices, **fields):
    return experiment.run(digits_config(**{**SHORT, **fields}), workdir, devices=devices)


def final_state(folder):
    """Variables, participation and optimizer state as the last checkpoint holds them."""
    import orbax.checkpoint as ocp

    (last,) = sorted((int(p.name) for p in (folder / 'checkpoints').iterdir()), reverse=True)[:1]
    with ocp.CheckpointManager((folder / 'checkpoints').absolute(), item_names=('variables', 'training')) as manager:
        args = ocp.args.Composite(variables=ocp.args.StandardRestore(), training=ocp.args.StandardRestore())
        found = manager.restore(last, args=args)
    return jax.tree.map(np.asarray, {'variables': found.variables, 'training': found.training})


@pytest.fixture(scope='module')
def whole(tmp_path_factory, one_device):
    workdir = tmp_path_factory.mktemp('whole') / 'run'
    run_short(workdir, one_device)
    return workdir


def copy_interrupted(whole, tmp_path, *, epochs):
    """The run as it lay when the student had just finished `epochs` epochs... and some of the next."""
    workdir = tmp_path / 'run'
    shutil.copytree(whole, workdir)
    for name in ('report.md', 'results.json'):
        (workdir / name).unlink()
    shutil.rmtree(workdir / 'separate')
    for step in (workdir / 'student' / 'checkpoints').iterdir():
        if int(step.name) > epochs:
            shutil.rmtree(step)
    return workdir


@pytest.mark.parametrize('torn', [False, True])
def test_a_resumed_run_ends_the_same(whole, tmp_path, one_device, torn, capsys):
    workdir = copy_interrupted(whole, tmp_path, epochs=3)
    if torn:
        with (workdir / 'student' / 'metrics.jsonl').open('a') as file:
            file.write('{"epoch": 9, "lo')
    run_short(workdir, one_device)
    said = capsys.readouterr().err
    assert '[1/6] teacher: all 3 epochs are done' in said
    assert '[2/6] teacher outputs: done before' in said
    assert '[3/6] student: resuming after epoch 3 of 4' in said
    for name in ('student', 'separate'):
        assert untimed(workdir / name) == untimed(whole / name)
        assert_trees_equal(final_state(workdir / name), final_state(whole / name))


@pytest.mark.parametrize('damage', ['truncated', 'empty', 'no metadata'])
def test_a_damaged_checkpoint_is_passed_over_with_one_line(whole, tmp_path, one_device, damage, capsys):
    workdir = copy_interrupted(whole, tmp_path, epochs=4)
    newest = workdir / 'student' / 'checkpoints' / '4'
    if damage == 'empty':
        shutil.rmtree(newest)
        newest.mkdir()
    elif damage == 'no metadata':
        shutil.rmtree(newest / 'training')
    else:
        for file in newest.rglob('*'):
            if file.is_file() and file.stat().st_size > 20:
                file.write_bytes(file.read_bytes()[:10])
    run_short(workdir, one_device)
    said = capsys.readouterr().err
    assert said.count('cannot be read') == 1
    assert f'checkpoint {newest} cannot be read' in said
    assert 'student: resuming after epoch 3 of 4' in said
    assert len(list((workdir / 'student').glob('damaged_checkpoint_4_*'))) == 1  # put aside, not deleted
    assert untimed(workdir / 'student') == untimed(whole / 'student')
    assert_trees_equal(final_state(workdir / 'student'), final_state(whole / 'student'))


def test_a_checkpoint_of_other_data_is_not_resumed(whole, tmp_path, one_device):
    workdir = copy_interrupted(whole, tmp_path, epochs=3)
    config = json.loads((workdir / 'config.json').read_text())
    config['dataset']['examples'] = 255  # as if the data had changed behind the same name
    (workdir / 'config.json').write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"has train_data '.*', this run needs '.*'; name another"):
        run_short(workdir, one_device, **{'dataset.examples': 255})


def test_a_workdir_in_use_is_refused(tmp_path, one_device):
    config = digits_config(**SHORT)
    with (
        lock_workdir(tmp_path / 'run', config),
        pytest.raises(InputError, match='is in use by another process'),
    ):
        experiment.run(config, tmp_path / 'run', devices=one_device)


def test_a_run_without_its_results_evaluates_again(whole, tmp_path, one_device, capsys):
    workdir = tmp_path / 'run'
    shutil.copytree(whole, workdir)
    (workdir / 'results.json').unlink()
    # No number of the report depends on the files of metrics, which a crash can part from the weights.
    (workdir / 'teacher' / 'metrics.jsonl').unlink()
    (workdir / 'student' / 'metrics.jsonl').write_bytes(b'{"a": 1}\xff')
    student = run_short(workdir, one_device)['student']
    assert student == json.loads((whole / 'results.json').read_text())['student']
    assert 'student: all' in capsys.readouterr().err
    for name in ('teacher', 'student'):
        assert read_rows(workdir / name) == read_rows(whole / name)


def test_a_finished_run_does_nothing(whole, one_device, capsys):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob('*') if path.is_file()}
    results = run_short(whole, one_device)
    assert results == json.loads((whole / 'results.json').read_text())
    assert {path: path.stat().st_mtime_ns for path in whole.rglob('*') if path.is_file()} == before
    assert 'is complete' in capsys.readouterr().err


def test_the_loss_becoming_nan_stops_the_run_and_keeps_the_checkpoint(tmp_path, one_device):
    workdir = tmp_path / 'run'
    with pytest.raises(training.NonFiniteLoss, match=r'became NaN or infinite in epoch \d+, step \d+'):
        run_short(workdir, one_device, **{'student.learning_rate': 1e30})
    assert (workdir / 'teacher' / 'checkpoints' / '3').is_dir()
    for row in read_rows(workdir / 'student'):
        assert np.isfinite(row['loss'])


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'batch_size': 300}, r'batch_size=300 is larger than the 256 training examples; .* at most 256'),
        ({'batch_size': 63}, r'batch_size=63 does not divide over 2 devices'),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        run_short(tmp_path / 'run', jax.devices()[:2], **fields)


def test_rows_and_events_are_cut_back_on_resume(tmp_path):
    row = lambda epoch: {'epoch': epoch, 'loss': 1.0 / (epoch + 1), 'kept_share': 1.0, 'epoch_seconds': 0.1}
    for start, stop in ((0, 5), (3, 6)):
        writer = MetricsWriter(tmp_path)
        writer.start([row(epoch) for epoch in range(start)])
        for epoch in range(start, stop):
            writer.epoch(row(epoch))
        writer.close()
    assert read_rows(tmp_path) == [row(epoch) for epoch in range(6)]
    assert len(list(tmp_path.glob('events.out.tfevents.*'))) == 1


def test_optimizers_and_schedules_by_name():
    with pytest.raises(InputError, match=r"unknown optimizer 'adm'"):
        optimizers.create('adm', 0.1, steps=1)
    with pytest.raises(InputError, match=r"unknown schedule 'cosin' .did you mean 'cosine'"):
        optimizers.create('adam', 0.1, schedule='cosin', steps=1)
    optimizer = optimizers.create('sgd', 1.0, schedule='cosine', steps=2, weight_decay=0.5)
    state = optimizer.init(np.float32(2.0))
    (first, state) = optimizer.update(np.float32(0.0), state, np.float32(2.0))
    np.testing.assert_allclose(first, -1.9)  # the decay alone, through Nesterov momentum
    (second, _) = optimizer.update(np.float32(0.0), state, np.float32(0.0))
    np.testing.assert_allclose(second, -0.5 * 0.9**2, rtol=1e-6)  # half way down the cosine


def test_the_step_schedule_is_that_of_240_epochs():
    steps = 782  # an epoch of CIFAR-100 in batches of 64
    rate = optimizers.SCHEDULES['step'](0.05, 240 * steps)
    for epochs, before, after in ((150, 0.05, 0.005), (180, 0.005, 5e-4), (210, 5e-4, 5e-5)):
        np.testing.assert_allclose([rate(epochs * steps - 1), rate(epochs * steps)], [before, after], rtol=1e-5)
    assert (rate(0), rate(240 * steps)) == (pytest.approx(0.05), pytest.approx(5e-5))


def test_accelerators_take_many_steps_per_call_unless_samples_are_skipped(monkeypatch):
    rechecked = METHODS['cckd_t_reg'].with_gate(SELF_REGULATED_RECHECK)
    assert training.steps_per_call(METHODS['cckd_t_reg'], jax.devices()) == 1
    monkeypatch.setattr(choice, '_on_cpu', lambda devices: False)
    assert training.steps_per_call(METHODS['cckd_t_reg'], jax.devices()) == 100
    assert training.steps_per_call(rechecked, jax.devices()) == 1

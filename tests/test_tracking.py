"""Trackers receive what TensorBoard shows, resume without gaps, and never stop a run."""

import contextlib
import io
import json
import struct
import sys
from types import ModuleType

import pytest
from helpers import tiny_config
from tensorboardX.proto.event_pb2 import Event

from cckd_jax import experiment
from cckd_jax.errors import InputError
from cckd_jax.report import tracking

NETWORKS = ('teacher', 'student', 'separate')
ROWS = [{'epoch': epoch, 'loss': 1.0 / (epoch + 1)} for epoch in range(4)]


class FakeWandb(ModuleType):
    """Keeps what a run of Weights & Biases receives: `points` by name and epoch."""

    def __init__(self):
        super().__init__('wandb')
        self.__spec__ = object()  # an installed package has one
        self.begun, self.points, self.steps, self.axes, self.ended = [], {}, [], {}, 0
        self.fails_at = None

    def init(self, **options):
        self.begun.append(options)
        return self

    def define_metric(self, pattern, step_metric):
        self.axes[pattern] = step_metric

    def log(self, values, step):
        if len(self.steps) == self.fails_at:
            raise ConnectionError('the network\nis down')
        self.steps.append(step)
        (axis,) = (name for name in values if name.endswith('/epoch'))
        assert self.axes[axis.replace('/epoch', '/*')] == axis
        for name in values.keys() - {axis}:
            self.points.setdefault((name, values[axis]), []).append(values[name])

    def finish(self):
        self.ended += 1


class FakeTrackio(FakeWandb):
    """Keeps what a run of trackio receives."""

    def log(self, values, step):
        for name, value in values.items():
            self.points.setdefault((name, step), []).append(value)


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    return fake


@pytest.fixture(scope='module')
def tracked(tmp_path_factory, one_device):
    """A tiny run with a tracker: its directory, what the tracker received, and what the terminal showed."""
    workdir, fake, shown = tmp_path_factory.mktemp('tracked') / 'run', FakeWandb(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(shown):
        patch.setitem(sys.modules, 'wandb', fake)
        experiment.run(tiny_config(tracker='wandb'), workdir, devices=one_device)
    return workdir, fake, shown.getvalue()


def tensorboard(folder):
    """The points of the event files of a network."""
    points = {}
    for path in folder.glob('events.out.tfevents.*'):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack_from('<Q', content)
            event = Event.FromString(content[12 : 12 + size])
            for value in event.summary.value:
                points[f'{folder.name}/{value.tag}', event.step] = [pytest.approx(value.simple_value, rel=1e-6)]
            content = content[16 + size :]
    return points


def test_a_tracker_receives_the_names_steps_and_values_of_tensorboard(tracked):
    (workdir, fake, _) = tracked
    shown = {}
    for name in NETWORKS:
        shown |= tensorboard(workdir / name)
    assert {'teacher/loss', 'student/kept_share', 'separate/train_accuracy'} <= {name for name, _ in shown}
    assert fake.points == shown
    assert fake.ended == 1
    (begun,) = fake.begun
    assert begun['name'] == str(workdir)
    assert begun['config']['student']['epochs'] == 1


def test_the_terminal_shows_the_stages_and_a_summary(tracked):
    (workdir, _, shown) = tracked
    lines = shown.splitlines()
    assert lines[0] == 'cckd_t_reg on digits: 128 training images, 360 test images'
    assert lines[1] == (
        'stages: 1 teacher (1 epoch), 2 teacher outputs, 3 student (1 epoch), 4 separate (1 epoch), 5 evaluation, '
        '6 report'
    )
    assert [line[:5] for line in lines[2:8]] == [f'[{number}/6]' for number in range(1, 7)]
    results = json.loads((workdir / 'results.json').read_text())
    (header, teacher, student, separate, report, export) = lines[8:]
    assert header.split() == ['test', 'accuracy', 'samples', 'used', 'training']
    assert teacher.split()[:2] == ['teacher', f'{results["teacher"]["test_accuracy"]:.2%}']
    assert student.split()[1:3] == [f'{results["student"][key]:.2%}' for key in ('test_accuracy', 'share_used')]
    assert separate.split()[1:3] == [f'{results["separate"]["test_accuracy"]:.2%}', '100.00%']
    assert len({line.index('%') for line in (teacher, student, separate)}) == 1
    assert report == f'the report is in {workdir}/report.html, and as text in {workdir}/report.md'
    assert export == f'export the student: cckd-jax export --run={workdir} --output=DIR'


def test_another_tracker_is_another_setting_of_the_same_run(tracked, one_device, capsys):
    workdir = tracked[0]
    experiment.run(tiny_config(tracker=None), workdir, devices=one_device)
    assert 'is complete' in capsys.readouterr().err


def test_a_resumed_run_sends_each_row_once(tmp_path, wandb):
    # The second process restores a checkpoint that is older than the last row that the first one sent.
    for done, end in ((0, 3), (2, 4)):
        with tracking.opened('wandb', tmp_path, {}) as tracker:
            writer = tracker.writer('student')
            writer.start(ROWS[:done])
            for row in ROWS[done:end]:
                writer.epoch(row)
            writer.close()
    assert wandb.points == {('student/loss', epoch): [1.0 / (epoch + 1)] for epoch in range(4)}
    assert wandb.steps == [0, 1, 2, 3]
    assert wandb.begun[0]['id'] == wandb.begun[1]['id']


def test_a_tracker_that_is_added_later_receives_the_earlier_rows(tmp_path, monkeypatch):
    fake = FakeTrackio()
    monkeypatch.setitem(sys.modules, 'trackio', fake)
    (tmp_path / 'tracker.json').write_text('{"tracker": "wandb", "id": "a", "epochs": {"student": 4}}')
    with tracking.opened('trackio', tmp_path, {}) as tracker:
        tracker.writer('student').start(ROWS)
    assert fake.points == {('student/loss', epoch): [1.0 / (epoch + 1)] for epoch in range(4)}
    assert fake.begun[0]['resume'] == 'never'
    with tracking.opened('trackio', tmp_path, {}) as tracker:
        tracker.writer('student').start(ROWS)
    assert fake.begun[1]['resume'] == 'allow'
    assert all(len(values) == 1 for values in fake.points.values())


def test_a_tracker_that_fails_is_reported_once_and_the_run_continues(tmp_path, wandb, capsys):
    wandb.fails_at = 2
    with tracking.opened('wandb', tmp_path, {}) as tracker:
        tracker.writer('student').start(ROWS)
    warning = 'warning: the tracker wandb failed: the network is down; the run continues without it\n'
    assert capsys.readouterr().err == warning
    # What it did not receive is sent when the run resumes.
    wandb.fails_at = None
    with tracking.opened('wandb', tmp_path, {}) as tracker:
        tracker.writer('student').start(ROWS)
    assert wandb.points == {('student/loss', epoch): [1.0 / (epoch + 1)] for epoch in range(4)}


def test_a_tracker_that_cannot_begin_does_not_stop_the_run(tmp_path, wandb, capsys):
    wandb.init = lambda **options: 1 / 0
    with tracking.opened('wandb', tmp_path, {}) as tracker:
        tracker.writer('student').start(ROWS)
    assert 'wandb failed: division by zero; the run continues without it' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('wandb', r"wandb is not installed; pip install '\.\[wandb\]'"),
        ('wandbb', r"unknown tracker 'wandbb' \(did you mean 'wandb'\?\); there are: wandb, trackio"),
    ],
)
def test_a_tracker_that_cannot_be_used_is_rejected_before_training(name, message, tmp_path, monkeypatch, one_device):
    monkeypatch.delitem(sys.modules, 'wandb', raising=False)
    monkeypatch.setattr('importlib.util.find_spec', lambda package: None)
    with pytest.raises(InputError, match=message):
        experiment.run(tiny_config(tracker=name), tmp_path / 'run', devices=one_device)
    assert not (tmp_path / 'run').exists()


def test_without_a_tracker_nothing_is_written(tmp_path):
    with tracking.opened(None, tmp_path, {}) as tracker:
        assert tracker is None
    assert list(tmp_path.iterdir()) == []

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cckd_jax.evaluators import accuracy, participation, significance, teachers, transfer
from cckd_jax.io import write_json
from cckd_jax.report import paper, progress, style
from cckd_jax.report.stages import Stage, Stages


def rows(count, kept=0.5):
    return [
        {
            'epoch': epoch,
            'loss': None if kept == 0 else 1.0 / (epoch + 1),
            'train_accuracy': 0.5 + epoch / (2 * count),
            'kept_share': kept,
            'samples_used': int(100 * kept),
            'samples_looked_at': 100,
            'samples_presented': 100,
            'epoch_seconds': 0.1,
        }
        for epoch in range(count)
    ]


def size(path):
    with Image.open(path) as image:
        return image.size


def test_figures_are_drawn_for_whatever_a_run_measured(tmp_path):
    path = tmp_path / 'figures' / 'figure.png'
    validated = [{**row, 'validation_accuracy': 0.7} for row in rows(5)]
    accuracy.curves(path, {'teacher': validated, 'student': rows(1, kept=0)}, {'teacher': 0.7, 'student': None})
    assert min(size(path)) > 300
    participation.participation(path, rows(3), None, examples=100)
    participation.participation(path, rows(3, kept=0), np.linspace(0, 0.1, 3), examples=200)
    for channels, count in ((1, 30), (3, 5), (2, 1), (4, 9)):
        images = np.random.default_rng(0).uniform(size=(count, 8, 8, channels))
        labels = np.arange(count) % 10
        transfer.adversarial(path, images, labels, labels[::-1], epsilon=0.1)
    assert [each.name for each in path.parent.iterdir()] == ['figure.png']


@pytest.fixture
def drawn(monkeypatch):
    figures = []
    monkeypatch.setattr(style, 'save', lambda figure, path: figures.append(figure))
    return figures


@pytest.mark.parametrize('value', [0.0, 0.5, 1.0])
def test_the_axis_of_a_share_ends_at_one(value, drawn):
    equal = (np.arange(20), np.full(20, value), None)
    different = (np.arange(20), np.linspace(0.2, 1, 20), 0.5)
    significance.relations(None, np.arange(20), 20, {'equal': equal, 'different': different})
    for axes, (_, values, _) in zip(drawn[0].axes[:2], (equal, different), strict=True):
        (low, high) = axes.get_ylim()
        assert 0 <= low <= values.min() <= values.max() <= high <= 1
        assert low < high


def test_weights_of_zero_and_one_are_inside_the_frame(drawn):
    weights = {'logits': {'overall': [0.0, 1.0], 'by_class': [[0.0, 1.0], None]}}
    rows = [{'epoch': epoch, 'teacher_shares': weights} for epoch in range(2)]
    teachers.draw_weights(None, rows, weights)
    for axes in drawn[0].axes:
        (low, high) = axes.get_ylim()
        assert low <= -0.03
        assert high >= 1.03


def test_participation_is_drawn_for_a_gate_alone(trained, drawn):
    results = json.loads((trained / 'results.json').read_text())
    participation.figure(trained, results)
    assert len(drawn) == 1
    assert 'passed the gate' in participation.table(results)
    assert 'difference between the two largest class probabilities' in participation.table(results)
    assert 'difference between' not in participation.table({**results, 'hyperparameters': {'alpha': 1.0}})
    everyone = {**results['student'], 'samples_used': results['student']['samples_presented']}
    participation.figure(trained, {**results, 'student': everyone})
    assert len(drawn) == 1
    text = participation.table({**results, 'student': everyone})
    assert text.endswith('Every sample trained the student in every epoch.')
    some = {**everyone, 'samples_used': 1000, 'samples_presented': 1000}
    text = participation.table({**results, 'student': some})
    assert text.endswith('Every presented sample trained the student in every epoch.')
    assert 'the significance of their sample is zero; 1,000 were presented' in text


def test_the_report_shows_how_few_presentations_sufficed(trained):
    results = json.loads((trained / 'results.json').read_text())
    student = results['student']
    text = (trained / 'report.md').read_text()
    assert f'{student["samples_used"]:,} of {student["samples_in_all"]:,} presentations' in text
    assert 'a presentation is one training sample in one epoch' in text
    assert f'reaches **{results["separate"]["test_accuracy"]:.2%}** and learns from every presentation' in text


@pytest.mark.parametrize('rows', [8, 4])
def test_a_panel_shows_each_image_upright_at_its_place(rows, tmp_path):
    images = np.ones((10, rows, 8, 1))
    images[9, rows // 2 :, :4] = 0  # black at the bottom left of the second in the second line
    transfer.adversarial(tmp_path / 'panel.png', images, np.zeros(10), np.zeros(10), epsilon=0.1)
    with Image.open(tmp_path / 'panel.png') as image:
        black = np.asarray(image.convert('L')) < 40
    inches = 130
    (left, top, wide, high) = np.array([1.15 + 0.05, 1.35 + 0.55, 1.05, 1.05 * rows / 8]) * inches
    quarter = black[round(top + high / 2) : round(top + high), round(left) : round(left + wide / 2)]
    assert quarter.mean() > 0.95
    black[round(top + high / 2) - 1 : round(top + high) + 1, round(left) - 1 : round(left + wide / 2) + 1] = False
    assert black[round(top) :].sum() == 0


def test_lines_where_there_is_no_terminal(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress, 'time', SimpleNamespace(monotonic=lambda: now[0]))
    bar = progress.Progress('teacher', 3, 1000, Stages([Stage('teacher'), Stage('student', images=100, cost=None)]))
    bar.start([])
    # The first epoch compiles for six seconds.
    for epoch, seconds in enumerate((12.0, 6.0, 6.0)):
        for _ in range(4):
            now[0] += seconds
            bar.step(epoch, {'loss': 0.25, 'presented': 250, 'kept': 125, 'correct': 200})
        bar.epoch(rows(3)[epoch])
    bar.close()
    shown = capsys.readouterr().err.splitlines()
    numbers = 'loss 0.2500  accuracy 80.00%  kept 50.00%'
    # A line at least every twelve seconds, in the middle of an epoch as well, and one at the end. The time left waits
    # for thirty seconds or two epochs, and then leaves out the epoch that compiled.
    assert shown[0] == f'[1/2] teacher: epoch 1/3  {numbers}  21 images/s'
    assert shown[2] == f'[1/2] teacher: epoch 1/3  {numbers}  21 images/s  at least 1:48 left'
    assert shown[4] == f'[1/2] teacher: epoch 2/3  {numbers}  42 images/s  at least 0:36 left'
    assert shown[-1].endswith('accuracy 83.33%  kept 50.00%  42 images/s  at least 0:00 left')
    assert len(shown) == 9


def test_a_bar_of_80_columns_holds_the_numbers(capsys, monkeypatch):
    monkeypatch.setattr('sys.stderr.isatty', lambda: True, raising=False)
    now = [0.0]
    monkeypatch.setattr(progress, 'time', SimpleNamespace(monotonic=lambda: now[0]))
    bar = progress.Progress('student', 60, 100, Stages([Stage('teacher'), Stage('student', images=100, cost=1.0)]))
    bar.start(rows(60)[:10])
    for epoch in range(10, 13):
        now[0] += 10.0
        bar.step(epoch, {'loss': 0.25, 'presented': 100, 'kept': 50, 'correct': 20})
        bar.epoch(rows(60)[epoch])
    bar.close()
    shown = capsys.readouterr().err
    assert '[2/2] student: resuming after epoch 10 of 60' in shown
    last = shown.rstrip().split('\r')[-1]
    (before, after) = ('[2/2] student 13/60 ', ' about 7:50 left  kept 50.0%  accuracy 60.0%  loss 0.077')
    assert last.startswith(before)
    assert last.endswith(after)
    # The bar between them takes what is left, and at least one column.
    assert len(before) + 1 + len(after) < 80


def test_the_papers_numbers_stand_beside_a_run_of_its_row(trained):
    results = json.loads((trained / 'results.json').read_text())
    assert '| paper |' not in accuracy.table(results)
    results['dataset'] = 'mnist'
    assert '87.09%' in accuracy.table(results)
    assert '87.09%' not in accuracy.table({**results, 'attack': {**results['attack'], 'epsilon': 0.1}})
    text = accuracy.table(results)
    assert '| | this run | paper |' in text
    assert '98.78%' in text
    assert '0.86%' in text
    assert 'one run each of 200 epochs' in text
    assert 'This run: teacher 15, student 16 epochs.' in text
    results['method'] = 'kd'
    assert '0.86%' not in accuracy.table(results)
    for of_another_kind in ({'epsilon': 0.1}, {'label_noise': 0.5}):
        other = {**results, 'teacher': {**results['teacher'], **of_another_kind}}
        assert '| paper |' not in accuracy.table(other)


def test_a_rate_without_a_denominator_is_said_so(trained):
    results = json.loads((trained / 'results.json').read_text())
    results['student']['success_rate'] = None
    text = accuracy.table(results)
    assert 'gets right | none |' in text
    assert 'makes no error on the training set' in text


def test_quoted_numbers_are_of_the_row_asked_for():
    found = paper.numbers('cifar10', 'alexnet_half', 'cckd_t_reg')
    assert found['student.test_accuracy'] == 0.7787
    assert found['student.share_used'] == pytest.approx(0.662027)
    assert found['student.success_rate'] == 0.995
    assert paper.numbers('cifar10', 'resnet18', 'kd') == {}
    assert 'student.share_used' not in paper.numbers('mnist', 'lenet5_half', 'cckd_t')


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match='not JSON compliant'):
        write_json(tmp_path / 'a.json', {'value': float('nan')})
    assert list(tmp_path.iterdir()) == []

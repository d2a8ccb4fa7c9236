"""The head of the report: accuracies, the paper's numbers beside them, and learning curves."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from cckd_jax import evaluation, models
from cckd_jax.evaluators.base import Evaluator, one_or_lists
from cckd_jax.evaluators.finished_run import FinishedRun
from cckd_jax.evaluators.predictions import Predictions
from cckd_jax.paths import network_names
from cckd_jax.report import markdown, paper, style
from cckd_jax.report.metrics import read_rows

# Entries of the teacher, which are unknown without one.
_TEACHER_FIELDS = (
    *('model', 'parameters', 'epochs', 'method', 'epsilon', 'label_noise'),
    *('test_accuracy', 'train_accuracy'),
)
_RELATIVE_TO_TEACHER = ('teacher.test_accuracy', 'student.success_rate', 'student.failure_rate')
_ROWS = (
    ('teacher.test_accuracy', 'Teacher, test accuracy', '.2%'),
    ('student.test_accuracy', 'Student, test accuracy', '.2%'),
    ('separate.test_accuracy', 'Student trained alone, test accuracy', '.2%'),
    ('student.share_used', 'Presentations that trained the student', markdown.percent),
    (
        'student.success_rate',
        "Success rate: share of the teacher's training errors that the student gets right",
        markdown.percent,
    ),
    (
        'student.failure_rate',
        "Failure rate: share of the teacher's correct training predictions that the student gets wrong",
        markdown.percent,
    ),
    ('student.adversarial_accuracy', 'Student on FGSM examples crafted on the student trained alone', '.2%'),
)


def measure(run: FinishedRun, predictions: Predictions) -> dict[str, Any]:
    """Accuracy of teacher, student and the student trained alone, with facts about each; lists for several teachers."""
    test = {
        name: float(evaluation.correct(predictions.logits[name], run.dataset.test.labels).mean())
        for name in predictions.students()
    }
    teachers = [_teacher(run, index) for index in range(len(run.teachers.networks))]
    separate: dict[str, Any]
    if run.baseline is None:
        separate = {'test_accuracy': None, 'epochs': None}
    else:
        accuracy = test[run.student_names[0]] if run.baseline is run.student else test['separate']
        separate = {'test_accuracy': accuracy, 'epochs': run.baseline.meta['epochs']}
    teacher = dict.fromkeys(_TEACHER_FIELDS) | {'seconds': 0.0}
    if teachers:
        teacher = teachers[0] if len(teachers) == 1 else _combined(run, predictions, teachers)
    students = [
        {
            'model': student.meta['model'],
            'parameters': _parameters(student.network),
            'epochs': student.meta['epochs'],
            'test_accuracy': test[name],
            'train_accuracy': float(predictions.train_correct[name].mean()),
            'seconds': student.seconds,
        }
        for name, student in zip(run.student_names, run.students, strict=True)
    ]
    return {'teacher': teacher, 'student': one_or_lists(students), 'separate': separate}


def table(results: Mapping[str, Any]) -> str:
    """Who taught whom, the result in a sentence, and a table with the paper's numbers beside the run's."""
    (student, teacher) = (results['student'], results['teacher'])
    quoted = _quoted(results)
    several = isinstance(student['model'], list)
    rows = []
    for key, label, form in _ROWS:
        (group, name) = key.split('.')
        if teacher['model'] is None and key in _RELATIVE_TO_TEACHER:
            continue
        if several:
            label = re.sub(r'^Student(,? (?:test|on))', r'Students\1', label)
            label = re.sub('the student gets|trained the student', _of_each, label)
        if isinstance(teacher['model'], list):
            label = label.replace('Teacher,', 'Teachers,').replace("teacher's", "teachers'")
        missing = 'left out' if key in ('separate.test_accuracy', 'student.adversarial_accuracy') else 'none'
        cells = [label, markdown.cell(results[group][name], form, missing=missing)]
        rows.append([*cells, markdown.cell(quoted.get(key), form, missing='')] if quoted else cells)
    text = [
        f'{_who_taught_whom(results)}; seed {results["seed"]}, one run.',
        _summary_of_several(results) if several else _summary(results),
        markdown.table(['', 'this run', 'paper'] if quoted else ['', 'this run'], rows),
    ]
    if quoted:
        epochs = paper.epochs(results['dataset'], student['model'])
        text.append(
            f'Paper: arXiv:2107.06993, Tables 2-9, one run each of {epochs} epochs; it states no seeds. '
            f'This run: {epochs_text(teacher)}, student {student["epochs"]} epochs.'
        )
    if teacher['model'] is not None and student['success_rate'] in (None, [None] * len(student['model'])):
        subject = 'The teachers together make' if isinstance(teacher['model'], list) else 'The teacher makes'
        text.append(f'{subject} no error on the training set, so there is no success rate.')
    return '\n\n'.join([*text, '![loss and accuracy](figures/curves.png)'])


def figure(workdir: Path, results: Mapping[str, Any]) -> None:
    """Loss and accuracy over the epochs of each network that the run trained, `curves.png`."""
    curves(workdir / 'figures' / 'curves.png', trained(workdir, results), _accuracies(results))


def trained(workdir: Path, results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The rows of `metrics.jsonl` of each network that the run trained, by its name."""
    rows = {name: read_rows(workdir / name) for name in _accuracies(results)}
    return {name: epochs for name, epochs in rows.items() if epochs}


def _accuracies(results: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        **_by_name('teacher', results['teacher']['test_accuracy']),
        'separate': results['separate']['test_accuracy'],
        **_by_name('student', results['student']['test_accuracy']),
    }


def curves(path: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]], accuracies: Mapping[str, float | None]) -> None:
    """Draws loss and accuracy over the epochs, with the final test accuracy as a diamond.

    Args:
      path: of the PNG.
      runs: rows of `metrics.jsonl` by `teacher` (or `teacher_0` and so on), `student` (or the same), `separate`.
      accuracies: test accuracy by the same names.
    """
    drawing = Figure(figsize=(10, 3.8), layout='constrained')
    (loss, accuracy) = drawing.subplots(1, 2)
    for name, rows in runs.items():
        lines = {'color': style.color(name), 'label': style.label(name), 'linewidth': 1.5}
        epochs = [row['epoch'] + 1 for row in rows]
        loss.plot(epochs, [_or_nan(row['loss']) for row in rows], **lines)
        accuracy.plot(epochs, [_or_nan(row['train_accuracy']) for row in rows], **lines)
        if rows and 'validation_accuracy' in rows[0]:
            values = [row['validation_accuracy'] for row in rows]
            accuracy.plot(epochs, values, color=lines['color'], linestyle=':', linewidth=1.5)
        if rows and accuracies.get(name) is not None:
            accuracy.plot(
                epochs[-1],
                accuracies[name],
                'D',
                color=lines['color'],
                markeredgecolor='white',
                zorder=5,
                clip_on=False,
            )
    loss.set(ylabel='loss of the samples that train (nats)', yscale='log')
    if any(row['loss'] is None for rows in runs.values() for row in rows):
        loss.set_title('gap: no sample trained in that epoch', fontsize=8)
    accuracy.set(ylabel='accuracy')
    accuracy.set_title('line: training, during the epoch    dotted: validation    diamond: test', fontsize=8)
    shown = [row['train_accuracy'] for rows in runs.values() for row in rows[len(rows) // 20 :]]
    shown = [value for value in [*shown, *accuracies.values()] if value is not None]
    if shown:
        accuracy.set_ylim(max(0.0, min(shown) - 0.02), min(1.0, max(shown)) + 0.004)
    for axes in (loss, accuracy):
        style.epoch_axis(axes)
        style.clean(axes)
        axes.legend(frameon=False, fontsize=9)
    style.save(drawing, path)


def epochs_text(teacher: Mapping[str, Any]) -> str:
    """For how many epochs the teachers were trained, in words.

    >>> epochs_text({'model': 'a', 'epochs': 20}), epochs_text({'model': ['a', 'b'], 'epochs': [20, None]})
    ('teacher 20', 'teachers 20, unknown')
    """
    if teacher['model'] is None:
        return 'no teacher'
    if isinstance(teacher['epochs'], list):
        return f'teachers {", ".join(str(epochs or "unknown") for epochs in teacher["epochs"])}'
    return f'teacher {teacher["epochs"] or "unknown"}'


def _teacher(run: FinishedRun, index: int) -> dict[str, Any]:
    (teacher, outputs) = (run.teachers.networks[index], run.teachers.outputs)
    accuracy = lambda logits, split: float(evaluation.correct(logits[:, index], split.labels).mean())
    measured = {
        'test_accuracy': None if outputs.test is None else accuracy(outputs.test, run.dataset.test),
        'train_accuracy': accuracy(outputs.train, run.dataset.train),
    }
    if teacher is None:
        unknown = dict.fromkeys(_TEACHER_FIELDS)
        return {**unknown, 'model': 'logits', **measured, 'seconds': 0.0}
    return {
        'model': teacher.meta['model'],
        'parameters': _parameters(teacher.network),
        'epochs': teacher.meta['epochs'],
        'method': teacher.meta['method'],
        'epsilon': teacher.meta.get('epsilon'),
        'label_noise': teacher.meta.get('label_noise', 0.0),
        **measured,
        'seconds': teacher.seconds,
    }


def _combined(run: FinishedRun, predictions: Predictions, teachers: list[dict[str, Any]]) -> dict[str, Any]:
    test = None
    if 'teacher' in predictions.logits:
        test = float(evaluation.correct(predictions.logits['teacher'], run.dataset.test.labels).mean())
    return {
        **{name: [teacher[name] for teacher in teachers] for name in teachers[0]},
        'ensemble_test_accuracy': test,
        'ensemble_train_accuracy': float(predictions.train_correct['teacher'].mean()),
    }


def _who_taught_whom(results: Mapping[str, Any]) -> str:
    (student, teacher) = (_describe(results['student']), results['teacher'])
    together = isinstance(results['student']['model'], list)
    if teacher['model'] is None:
        return f'{student} {"were trained together" if together else "was trained"} without a teacher'
    if together:
        # A method without this hyper-parameter, or with 0, trains the teacher for comparison alone.
        role = 'with' if results['hyperparameters'].get('teacher_prior', 0) > 0 else 'and, for comparison,'
        return f'{student} were trained together {role} a teacher, {_describe(teacher)}'
    return f'{_describe(teacher)} taught {student}'


def _of_each(text: re.Match[str]) -> str:
    return text[0].replace('the student', 'each student')


def _summary_of_several(results: Mapping[str, Any]) -> str:
    (student, separate) = (results['student'], results['separate'])
    text = (
        f'The students reach **{markdown.cell(student["test_accuracy"], ".2%")}** test accuracy and learn from '
        f'{markdown.cell(student["share_used"], ".2%")} of the presentations; a presentation is one training sample in '
        'one epoch.'
    )
    if separate['test_accuracy'] is None or results['method'] == 'separate':
        return text
    return (
        f'{text} The first of them trained alone, from the labels, reaches **{separate["test_accuracy"]:.2%}** and '
        f'learns from every presentation of its {separate["epochs"]} epochs.'
    )


def _summary(results: Mapping[str, Any]) -> str:
    (student, separate) = (results['student'], results['separate'])
    text = (
        f'The student reaches **{student["test_accuracy"]:.2%}** test accuracy and learns from '
        f'**{student["samples_used"]:,} of {student["samples_in_all"]:,} presentations** '
        f'(**{student["share_used"]:.2%}**); a presentation is one training sample in one epoch. '
    )
    if separate['test_accuracy'] is None:
        return f'{text}The run does not train the student alone for comparison (`separate.enabled=false`).'
    if results['method'] == 'separate':
        return f'{text}It learns from the labels alone.'
    return (
        f'{text}The same network trained alone, from the labels and without a teacher, reaches '
        f'**{separate["test_accuracy"]:.2%}** and learns from every presentation of its {separate["epochs"]} epochs.'
    )


def _quoted(results: Mapping[str, Any]) -> Mapping[str, float]:
    """The paper's numbers, if there is one teacher, trained on correct labels and clean images, and no transfer set."""
    teacher = results['teacher']
    if 'name' in results.get('transfer', {}):
        return {}
    if isinstance(teacher['model'], list) or teacher['epsilon'] is not None or teacher['label_noise']:
        return {}
    if isinstance(results['student']['model'], list):
        return {}
    quoted = dict(paper.numbers(results['dataset'], results['student']['model'], results['method']))
    if results['attack']['epsilon'] != paper.epsilon(results['dataset']):
        quoted.pop('student.adversarial_accuracy', None)
    return quoted


def _by_name(kind: str, accuracy: float | list[float | None] | None) -> dict[str, float | None]:
    accuracies = accuracy if isinstance(accuracy, list) else [accuracy]
    return dict(zip(network_names(kind, len(accuracies)), accuracies, strict=True))


def _describe(network: Mapping[str, Any]) -> str:
    if isinstance(network['model'], list):
        lists = {name: values for name, values in network.items() if isinstance(values, list)}
        rows = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
        return f'{", ".join(map(_describe, rows[:-1]))} and {_describe(rows[-1])}'
    if network['parameters'] is None:
        return 'Logits from a file'
    robust = ''
    if network.get('epsilon') is not None:
        robust = f', trained by {network["method"]}, ε = {network["epsilon"]:.4g}'
    return f'{network["model"]} ({network["parameters"]:,} parameters{robust})'


def _parameters(network: models.Network) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(network.variables['params']))


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


ACCURACY = Evaluator(measure, table, figure, shared=True)

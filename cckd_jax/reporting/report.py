"""`report.md`: a run's numbers, the paper's beside them where it gives one, and the figures."""

from collections.abc import Mapping
from typing import Any

from cckd_jax.reporting import calibration, faithfulness, paper, robustness, teachers

_ROWS = (
    ('teacher.test_accuracy', 'Teacher, test accuracy', '.2%'),
    ('student.test_accuracy', 'Student, test accuracy', '.2%'),
    ('separate.test_accuracy', 'Student trained alone, test accuracy', '.2%'),
    ('student.share_used', 'Presentations that trained the student', '.4%'),
    ('student.success_rate', "Success rate: the teacher's training errors that the student gets right", '.3f'),
    ('student.failure_rate', "Failure rate: the teacher's training hits that the student gets wrong", '.2e'),
    ('student.adversarial_accuracy', 'Student on FGSM examples crafted on the student trained alone', '.2%'),
)


def render(results: Mapping[str, Any]) -> str:
    """The report of a run from its `results.json`."""
    quoted = _quoted(results)
    student, teacher, attack = results['student'], results['teacher'], results['attack']
    lines = [
        f'# {results["method"]} on {results["dataset"]}',
        '',
        f'{_name(teacher)} taught {_name(student)}; seed {results["seed"]}, one run.',
        '',
        '| | this run | paper |' if quoted else '| | this run |',
        '|---|---|---|' if quoted else '|---|---|',
    ]
    for key, label, form in _ROWS:
        value = results
        for part in key.split('.'):
            value = value[part]
        if isinstance(teacher['model'], list):
            label = label.replace('Teacher,', 'Teachers,').replace("teacher's", "teachers'")
        cells = [label, _cell(value, form)]
        if quoted:
            cells.append(_cell(quoted.get(key), form, missing=''))
        lines.append(f'| {" | ".join(cells)} |')
    if quoted:
        epochs = paper.epochs(results['dataset'], student['model'])
        lines += [
            '',
            f'Paper: arXiv:2107.06993, Tables 2-9, one run each of {epochs} epochs; it states no seeds. '
            f'This run: {_epochs(teacher)}, student {student["epochs"]} epochs.',
        ]
    if student['success_rate'] is None:
        who = 'The teachers together make' if isinstance(teacher['model'], list) else 'The teacher makes'
        lines += ['', f'{who} no error on the training set, so there is no success rate.']
    lines += [
        '',
        '![loss and accuracy](figures/curves.png)',
        '',
        '## Who took part',
        '',
        f'{student["samples_used"]:,} of {student["samples_in_all"]:,} presentations gave a gradient.'
        + _left_out(student),
        '',
        '![share kept](figures/participation.png)',
        '',
        *(teachers.render(results) if isinstance(teacher['model'], list) else ()),
        *_significance(results['significance']),
        '## Under attack',
        '',
        f'{attack["samples"]:,} training images moved by FGSM with ε = {attack["epsilon"]:g}, crafted on the student '
        f'trained alone, which gets {_cell(attack["accuracy_of_attacked"], ".2%")} of them. The attack does not see '
        'the distilled student: a high number here is resistance to transfer, not robustness.',
        '',
        '![adversarial examples](figures/adversarial.png)',
        '',
        *calibration.section(results['calibration']),
        *robustness.section(results['robustness']),
        *faithfulness.section(results['faithfulness']),
        '## How it was made',
        '',
        '| | |',
        '|---|---|',
        f'| hyper-parameters | {_settings(results["hyperparameters"])} |',
        f'| epochs | {_epochs(teacher)}, student {student["epochs"]} |',
        f'| device | {results["device"]} |',
        f'| versions | {_settings(results["versions"])} |',
        f'| commit | {results["commit"] or "not in a git checkout"} |',
        f'| seconds | {results["seconds"]:,.0f} in all; student {student["seconds"]:,.0f} |',
        '',
        'Every number is in `results.json`, every epoch in `*/metrics.jsonl`, every setting in `config.json`.',
        '',
    ]
    return '\n'.join(lines)


def _left_out(student: Mapping[str, Any]) -> str:
    (looked, presented, whole) = (student[f'samples_{name}'] for name in ('looked_at', 'presented', 'in_all'))
    never = f' {whole - presented:,} were never presented, their significance being zero.' if presented < whole else ''
    rested = f' Of the presented, {looked:,} were looked at, the others rested.' if looked < presented else ''
    return never + rested


def _significance(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    related = {name: _cell(value, '.3f') for name, value in found['rank_correlation'].items()}
    source = {
        'teacher': 'the teacher, which regulated its own training',
        'file': 'a file that was given',
    }[found['counted_on']]
    return [
        '## Significance',
        '',
        f'How often each sample took part in {found["epochs"]} epochs, by {source}: '
        f'{found["above_zero"]:,} of {found["examples"]:,} samples at least once, the mean sample in '
        f'{found["share_counted"]:.2%} of the epochs. Every count is in `significance.npz`. '
        'After the abstract of arXiv:2102.07125, whose body could not be had: the formulas are readings of it.',
        '',
        '![distribution of significance](figures/significance.png)',
        '',
        '![most and least significant images of each class](figures/significance_images.png)',
        '',
        f"Its rank correlation with the student's participation, over the samples that the student was presented, is "
        f'{related["student_participation"]}; with the margin of the trained teacher, {related["teacher_margin"]} '
        '(none: the same for all samples).',
        '',
        '![what significance goes with](figures/significance_relations.png)',
        '',
    ]


def _quoted(results: Mapping[str, Any]) -> Mapping[str, float]:
    """The paper's numbers, where there is one teacher and it learnt from the labels as they are."""
    teacher = results['teacher']
    if isinstance(teacher['model'], list) or teacher['epsilon'] is not None or teacher['label_noise']:
        return {}
    quoted = dict(paper.numbers(results['dataset'], results['student']['model'], results['method']))
    if results['attack']['epsilon'] != paper.epsilon(results['dataset']):
        quoted.pop('student.adversarial_accuracy', None)
    return quoted


def _name(network: Mapping[str, Any]) -> str:
    if isinstance(network['model'], list):
        lists = {name: values for name, values in network.items() if isinstance(values, list)}
        each = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
        return f'{", ".join(map(_name, each[:-1]))} and {_name(each[-1])}'
    if network['parameters'] is None:
        return 'A file of logits'
    robust = ''
    if network.get('epsilon') is not None:
        robust = f', trained by {network["method"]}, ε = {network["epsilon"]:.4g}'
    return f'{network["model"]} ({network["parameters"]:,} parameters{robust})'


def _epochs(teacher: Mapping[str, Any]) -> str:
    if isinstance(teacher['epochs'], list):
        return f'teachers {", ".join(str(epochs or "given") for epochs in teacher["epochs"])}'
    return f'teacher {teacher["epochs"] or "given"}'


def _cell(value: Any, form: str, missing: str = 'none') -> str:
    if isinstance(value, list):
        return ', '.join(_cell(each, form, missing) for each in value)
    return missing if value is None else format(value, form)


def _settings(values: Mapping[str, Any]) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items() if value is not None) or 'none'

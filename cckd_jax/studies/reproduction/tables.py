"""Tables 2-9 of the CCKD paper beside our own runs, and two tables about settings that the paper leaves open."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Measure(NamedTuple):
    """A column of a table.

    Attributes:
      name: key of a record.
      title: of the column.
      form: how its numbers are formatted.
      paper: key of `report.paper.numbers`, for measures that the paper reports.
    """

    name: str
    title: str
    form: str = '.2%'
    paper: str | None = None


class Row(NamedTuple):
    """A row of a table.

    Attributes:
      label: the paper's name, or ours for rows that the paper lacks.
      run: key of `runs.ROWS`.
      measures: replaces the measures of the table.
      network: that the row describes: `student`, `teacher` or `separate`.
    """

    label: str
    run: str
    measures: tuple[Measure, ...] | None = None
    network: str = 'student'


class Table(NamedTuple):
    """A table.

    Attributes:
      title: the heading.
      text: what the table shows.
      datasets: keys of `datasets.DATASETS`.
      rows: in their order.
      measures: the columns.
      quoted: whether rows that the paper quotes from other papers follow.
    """

    title: str
    text: str
    datasets: tuple[str, ...]
    rows: tuple[Row, ...]
    measures: tuple[Measure, ...]
    quoted: bool = False


_ACCURACY = Measure('accuracy', 'test accuracy', paper='student.test_accuracy')
_SHARE = Measure('share_used', 'samples used', paper='student.share_used')
_RATES = (
    Measure('success_rate', 'success rate', '.3g', 'student.success_rate'),
    Measure('failure_rate', 'failure rate', '.2e', 'student.failure_rate'),
)
_ATTACKED = Measure('adversarial_accuracy', 'accuracy', paper='student.adversarial_accuracy')
_CCKD = (Row('CCKD-L', 'cckd_l'), Row('CCKD-T', 'cckd_t'), Row('CCKD-T + Reg', 'cckd_t_reg'))
_METHODS = (Row('Normal', 'kd'), Row('Teacher Only', 'teacher_only'), *_CCKD)
_ALONE = (
    Row('student alone, learning rate 1e-3', 'separate', network='separate'),
    Row('student alone, learning rate 1e-2', 'separate_1e-2', network='separate'),
)
_ACCURACY_ROWS = (
    Row('teacher', 'separate', (Measure('teacher_accuracy', '', paper='teacher.test_accuracy'),), 'teacher'),
    _ALONE[0]._replace(measures=(Measure('accuracy', '', paper='separate.test_accuracy'),)),
    _ALONE[1],
    *_METHODS,
)


def _accuracy_table(number: int, name: str, *datasets: str) -> Table:
    return Table(
        f'Table {number}: test accuracy on {name}',
        'Rows with a reference number are quotes from other papers; ours are small runs of these systems, whose '
        'students learn from the teacher\'s outputs alone. "Normal" is `kd`; the paper quotes its number.',
        datasets,
        _ACCURACY_ROWS,
        (_ACCURACY,),
        quoted=True,
    )


_RATE_COLUMNS = (
    *_RATES,
    Measure('train_errors', "teacher's training errors", ',.0f'),
    Measure('test_success_rate', 'success rate, test set', '.3g'),
    Measure('test_failure_rate', 'failure rate, test set', '.2e'),
)
_READINGS = (
    Row('λ at 20, δ at 20', 'cckd_t_reg'),
    Row('λ at 20, δ at 1', 'cckd_t_reg_confidence20_margin1'),
    Row('λ at 1, δ at 20', 'cckd_t_reg_confidence1_margin20'),
    Row('λ at 1, δ at 1', 'cckd_t_reg_confidence1_margin1'),
    Row('CCKD-T, λ at 20', 'cckd_t'),
    Row('CCKD-T, λ at 1', 'cckd_t_confidence1'),
    Row('CCKD-L, λ at 20', 'cckd_l'),
    Row('CCKD-L, λ at 1', 'cckd_l_confidence1'),
)

TABLES: Mapping[str, Table] = MappingProxyType(
    {
        '2': _accuracy_table(2, 'MNIST', 'mnist'),
        '3': _accuracy_table(3, 'Fashion-MNIST', 'fashion_mnist'),
        '4': _accuracy_table(4, 'CIFAR-10', 'cifar10'),
        '5': _accuracy_table(5, 'SVHN', 'svhn_alexnet', 'svhn_resnet'),
        '6': Table(
            'Table 6: samples used with self-regulation',
            'Presentations that trained the student, and their share of epochs times training examples.',
            ('mnist', 'fashion_mnist', 'cifar10'),
            (_CCKD[2],),
            (_SHARE, Measure('samples_used', 'presentations', ',.0f'), Measure('alpha', 'alpha', '.3g')),
        ),
        '7': Table(
            'Table 7: success and failure rates',
            'On the training set, as the paper defines them; the last two columns are the same rates on the test set.',
            ('mnist', 'cifar10', 'fashion_mnist'),
            (*_METHODS, *_ALONE),
            _RATE_COLUMNS,
        ),
        '7_teacher30': Table(
            'Table 7 with a teacher of 30 epochs',
            'After 200 epochs our teachers make no training errors, so success rates have no denominator. After 30 '
            'epochs they do.',
            ('mnist', 'fashion_mnist'),
            tuple(Row(row.label, f'{row.run}_teacher30') for row in _METHODS),
            (_ACCURACY, *_RATE_COLUMNS),
        ),
        '8': Table(
            'Table 8: the attack',
            'One step of FGSM on training images and the student alone (learning rate 1e-3).',
            ('mnist', 'fashion_mnist', 'cifar10'),
            (Row('student alone', 'separate'),),
            (
                Measure('epsilon', 'ε', '.3g', 'attack.epsilon'),
                Measure('attack_samples', 'samples', ',.0f', 'attack.samples'),
                Measure('accuracy_of_attacked', 'accuracy of the attacked network'),
            ),
        ),
        '9': Table(
            'Table 9: accuracy on adversarial samples',
            'The attack of Table 8. It follows the float32 gradient of the softmax cross entropy, as PyTorch, the '
            'framework of the paper, computes it; the second column follows the exact gradient. The other columns '
            'use up to 5,000 images: of the test set, attacked in ten steps within the same ε, attacked on the '
            'teacher, and attacked on the evaluated student itself.',
            ('mnist', 'fashion_mnist', 'cifar10'),
            (*_METHODS, _ALONE[1]),
            (
                _ATTACKED,
                Measure('adversarial_accuracy_exact', 'exact gradient'),
                Measure('adversarial_accuracy_test', 'test images'),
                Measure('adversarial_accuracy_iterated', 'ten steps'),
                Measure('adversarial_accuracy_teacher', 'attack on the teacher'),
                Measure('adversarial_accuracy_own', 'attack on the student'),
            ),
        ),
        'temperatures': Table(
            'The temperatures of confidence and margin',
            'The paper writes both at τ = 20. λ is the confidence, δ the margin of the gate.',
            ('mnist', 'fashion_mnist'),
            _READINGS,
            (_ACCURACY, _SHARE, *_RATES),
        ),
        'teacher_epochs': Table(
            'The length of the training of the teacher',
            'CCKD-T with self-regulation and teachers that trained for fewer epochs. λ is the mean confidence of the '
            'teacher on training images at τ = 20.',
            ('mnist', 'fashion_mnist'),
            (
                *(Row(f'{epochs} epochs', f'cckd_t_reg_teacher{epochs}') for epochs in (10, 30, 60, 100)),
                Row('as in the config', 'cckd_t_reg'),
            ),
            (
                Measure('teacher_epochs', "teacher's epochs", ',.0f'),
                Measure('teacher_accuracy', "teacher's test accuracy"),
                Measure('train_errors', "teacher's training errors", ',.0f'),
                Measure('mean_confidence', 'λ', '.3g'),
                _ACCURACY,
                _SHARE,
                *_RATES,
            ),
        ),
    }
)

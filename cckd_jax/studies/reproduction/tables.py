"""Tables 2-9 of the CCKD paper beside our own runs, and two tables about settings that the paper leaves open."""

import csv
import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from cckd_jax.report import markdown, paper, paper_quotes
from cckd_jax.studies.reproduction.records import Record, values
from cckd_jax.studies.statistics import Estimate, estimate

OUTSIDE = '≠'


class Measure(NamedTuple):
    """A column of a table.

    Attributes:
      name: key of a record.
      title: of the column.
      form: `%` for a percentage, `e` for scientific notation, `d` for whole numbers, `f` for a decimal number.
      paper: name of the paper's number in `report.paper.numbers`; None if the paper has none.
    """

    name: str
    title: str
    form: str = '%'
    paper: str | None = None


class Row(NamedTuple):
    """A row of a table.

    Attributes:
      label: the paper's name, or ours for rows that the paper lacks.
      run: key of `runs.ROWS`.
      measures: replaces the measures of the table, for rows that show another network.
    """

    label: str
    run: str
    measures: tuple[Measure, ...] | None = None


class Table(NamedTuple):
    """A table of the paper, or one of ours.

    Attributes:
      title: the heading.
      text: what the table shows.
      datasets: keys of `command.CONFIGS` that the paper has.
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
    Measure('success_rate', 'success rate', 'f', 'student.success_rate'),
    Measure('failure_rate', 'failure rate', 'e', 'student.failure_rate'),
)
_ATTACKED = Measure('adversarial_accuracy', 'accuracy', paper='student.adversarial_accuracy')
_CCKD = (Row('CCKD-L', 'cckd_l'), Row('CCKD-T', 'cckd_t'), Row('CCKD-T + Reg', 'cckd_t_reg'))
_METHODS = (Row('Normal', 'kd'), Row('Teacher Only', 'teacher_only'), *_CCKD)
_ALONE = (
    Row('student alone, learning rate 1e-3', 'separate'),
    Row('student alone, learning rate 1e-2', 'separate_1e-2'),
)
_ACCURACY_ROWS = (
    Row('teacher', 'separate', (Measure('teacher_accuracy', '', paper='teacher.test_accuracy'),)),
    Row(_ALONE[0].label, _ALONE[0].run, (Measure('accuracy', '', paper='separate.test_accuracy'),)),
    _ALONE[1],
    *_METHODS,
)


def _accuracy_table(number: int, name: str, *datasets: str) -> Table:
    return Table(
        f'Table {number}: test accuracy on {name}',
        'The rows with a reference number are quotes from other papers; "Normal" is our own run of `kd` beside the '
        "paper's quote.",
        datasets,
        _ACCURACY_ROWS,
        (_ACCURACY,),
        quoted=True,
    )


_RATE_COLUMNS = (
    *_RATES,
    Measure('train_errors', "teacher's training errors", 'd'),
    Measure('test_success_rate', 'success rate, test set', 'f'),
    Measure('test_failure_rate', 'failure rate, test set', 'e'),
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
            (_SHARE, Measure('samples_used', 'presentations', 'd'), Measure('alpha', 'alpha', 'f')),
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
            'One step of FGSM on training images, made for the student alone (learning rate 1e-3).',
            ('mnist', 'fashion_mnist', 'cifar10'),
            (Row('student alone', 'separate'),),
            (
                Measure('epsilon', 'ε', 'f'),
                Measure('attack_samples', 'samples', 'd'),
                Measure('accuracy_of_attacked', 'accuracy of the attacked network'),
            ),
        ),
        '9': Table(
            'Table 9: accuracy on adversarial samples',
            'The first column follows the float32 gradient of the softmax cross entropy as the paper does, and the '
            'second one the exact gradient. The other columns change one thing each: images of the test set, ten steps '
            'within the same ε, samples made for the teacher, and samples made for the evaluated student itself (5,000 '
            'images).',
            ('mnist', 'fashion_mnist', 'cifar10'),
            (*_METHODS, _ALONE[1]),
            (
                _ATTACKED,
                Measure('adversarial_accuracy_exact', 'exact gradient'),
                Measure('adversarial_accuracy_test', 'test images'),
                Measure('adversarial_accuracy_iterated', 'ten steps'),
                Measure('adversarial_accuracy_teacher', 'made for the teacher'),
                Measure('adversarial_accuracy_own', 'made for the student'),
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
                Row('200 epochs', 'cckd_t_reg'),
            ),
            (
                Measure('teacher_accuracy', "teacher's test accuracy"),
                Measure('train_errors', "teacher's training errors", 'd'),
                Measure('mean_confidence', 'λ', 'f'),
                _ACCURACY,
                _SHARE,
                *_RATES,
            ),
        ),
    }
)


class Cell(NamedTuple):
    """One measure of one row: the paper's number and ours.

    Attributes:
      table: key of `TABLES`.
      dataset: key of the data set.
      row: label.
      measure: of the table.
      paper: the paper's number, or None.
      estimate: of our runs, or None if there is none.
      note: the set-up behind a quoted number.
    """

    table: str
    dataset: str
    row: str
    measure: Measure
    paper: float | None
    estimate: Estimate | None
    note: str = ''

    @property
    def outside(self) -> bool:
        """Whether the paper's number lies outside the 95 % interval of ours; False for a single run."""
        if self.paper is None or self.estimate is None or self.estimate.half_width is None:
            return False
        return abs(self.paper - self.estimate.mean) > self.estimate.half_width


def cells(name: str, records: Sequence[Record], datasets: Sequence[str] | None = None) -> list[Cell]:
    """All cells of a table.

    Args:
      name: key of `TABLES`.
      records: of `records.read`.
      datasets: to show; those of the paper if None. A data set of the paper without a run has empty cells.

    Returns:
      Cells in the order of data sets, rows and measures.
    """
    table = TABLES[name]
    shown = table.datasets if datasets is None else datasets
    return [cell for dataset in shown for cell in _dataset_cells(name, table, records, dataset)]


def _dataset_cells(name: str, table: Table, records: Sequence[Record], dataset: str) -> list[Cell]:
    pair = _PAPER_PAIRS.get(dataset, ('', ''))
    result = []
    for row in table.rows:
        numbers = paper.numbers(*pair, row.run) if row.run in _PAPER_RUNS else {}
        for measure in row.measures or table.measures:
            by_seed = values(records, dataset, row.run, measure.name)
            ours = estimate(list(by_seed.values())) if by_seed else None
            result.append(Cell(name, dataset, row.label, measure, numbers.get(measure.paper or ''), ours))
    if table.quoted:
        result += [
            Cell(name, dataset, quote.label, _ACCURACY, quote.accuracy, None, quote.setup)
            for quote in paper_quotes.quotes(*pair)
        ]
    return result


# The paper's settings; other rows have no number in the paper.
_PAPER_RUNS = ('separate', 'kd', 'teacher_only', 'cckd_l', 'cckd_t', 'cckd_t_reg')
_PAPER_PAIRS = {
    'mnist': ('mnist', 'lenet5_half'),
    'fashion_mnist': ('fashion_mnist', 'lenet5_half'),
    'cifar10': ('cifar10', 'alexnet_half'),
    'svhn_alexnet': ('svhn_cropped', 'alexnet_half'),
    'svhn_resnet': ('svhn_cropped', 'resnet18'),
}


def render(name: str, records: Sequence[Record], datasets: Sequence[str] | None = None) -> str:
    """Formats a table as Markdown: one block for each data set.

    Args:
      name: key of `TABLES`.
      records: of `records.read`.
      datasets: to show; those of the paper if None.

    Returns:
      Markdown, with a heading.
    """
    table = TABLES[name]
    blocks = [f'## {table.title}', table.text]
    all_cells = cells(name, records, datasets)
    for dataset in dict.fromkeys(cell.dataset for cell in all_cells):
        shown = [cell for cell in all_cells if cell.dataset == dataset]
        blocks += [f'**{dataset}** {_scale(records, dataset)}', _block(table, shown)]
    return '\n\n'.join(blocks) + '\n'


def _block(table: Table, shown: Sequence[Cell]) -> str:
    labels = dict.fromkeys(cell.row for cell in shown)
    rows = {label: [cell for cell in shown if cell.row == label] for label in labels}
    # A column for the paper only where it has a number.
    columns = [
        (measure, any(row[index].paper is not None for row in rows.values()))
        for index, measure in enumerate(table.measures)
    ]
    header = ['']
    for measure, has_paper in columns:
        header += [f'{measure.title}, paper', 'ours'] if has_paper else [measure.title]
    header.append('seeds')
    if table.quoted:
        header.append('set-up of a quoted number')
    lines = []
    for label, row in rows.items():
        line, seeds = [label], {cell.estimate.count for cell in row if cell.estimate}
        for (_, has_paper), cell in zip(columns, row, strict=True):
            if has_paper:
                line.append(_number(cell.paper, cell.measure.form))
            line.append('quoted' if cell.note else _ours(cell))
        line.append(', '.join(map(str, sorted(seeds))))
        if table.quoted:
            line.append(row[0].note)
        lines.append(line)
    return markdown.table(header, lines)


def _ours(cell: Cell) -> str:
    if cell.estimate is None:
        return 'not run'
    text = _number(cell.estimate.mean, cell.measure.form)
    if cell.estimate.half_width:
        text += f' ± {_number(cell.estimate.half_width, cell.measure.form)}'
    return f'{text} {OUTSIDE}' if cell.outside else text


_FORMS = {'%': '.2%', 'e': '.2e', 'd': ',.0f', 'f': '.3g'}


def _number(value: float | None, form: str) -> str:
    return '' if value is None else format(value, _FORMS[form])


def _scale(records: Sequence[Record], dataset: str) -> str:
    """Epochs of the runs of a data set, and whether they are the paper's."""
    lengths = sorted({record['epochs'] for record in records if record['dataset'] == dataset})
    if not lengths:
        return '(not run)'
    full = paper.epochs(*_PAPER_PAIRS.get(dataset, ('', '')))
    text = f'({", ".join(map(str, lengths))} epochs'
    if full is None:
        return f'{text}; not in the paper)'
    return f'{text}, as in the paper)' if lengths == [full] else f'{text}; **scaled**, the paper trains for {full})'


def render_csv(all_cells: Sequence[Cell]) -> str:
    """Formats cells as CSV, one line each: table, data set, row, measure, the paper's number, ours, and a mark."""
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['table', 'dataset', 'row', 'measure', 'paper', 'mean', 'half_width', 'seeds', 'outside', 'setup'])
    for cell in all_cells:
        ours: tuple[Any, ...] = (None, None, 0) if cell.estimate is None else _rounded(cell.estimate)
        writer.writerow(
            [cell.table, cell.dataset, cell.row, cell.measure.name, cell.paper, *ours, int(cell.outside), cell.note]
        )
    return text.getvalue()


def _rounded(ours: Estimate) -> tuple[Any, ...]:
    # Six digits: the last ones of a mean depend on the order of the sum.
    half_width = None if ours.half_width is None else float(f'{ours.half_width:.6g}')
    return float(f'{ours.mean:.6g}'), half_width, ours.count

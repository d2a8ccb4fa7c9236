"""The tables as text: every cell with the paper's number and ours, as Markdown and CSV."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from cckd_jax.report import markdown, paper, paper_quotes
from cckd_jax.studies.reproduction import data_free
from cckd_jax.studies.reproduction.datasets import DATASETS
from cckd_jax.studies.reproduction.records import Record, values
from cckd_jax.studies.reproduction.tables import TABLES, Measure, Table
from cckd_jax.studies.statistics import Estimate, estimate

OUTSIDE = '≠'
# Runs with the paper's settings; other rows have no number in the paper.
_PAPER_RUNS = ('separate', 'kd', 'teacher_only', 'cckd_l', 'cckd_t', 'cckd_t_reg')


class Cell(NamedTuple):
    """One measure of one row: the paper's number and ours.

    Attributes:
      table: key of `TABLES`.
      dataset: key of the data set.
      row: label.
      measure: of the table.
      paper: the paper's number, or None.
      estimate: of our runs, or None without a run or if the measure is undefined.
      finished: whether there is a run.
      note: the set-up behind a quoted number.
    """

    table: str
    dataset: str
    row: str
    measure: Measure
    paper: float | None
    estimate: Estimate | None
    finished: bool = False
    note: str = ''

    @property
    def outside(self) -> bool:
        """Whether the paper's number lies outside the 95 % interval of ours; False for one run or a quoted number."""
        if self.note or self.paper is None or self.estimate is None or self.estimate.half_width is None:
            return False
        return abs(self.paper - self.estimate.mean) > self.estimate.half_width


def cells(
    name: str,
    records: Sequence[Record],
    datasets: Sequence[str] | None = None,
    copies: Sequence[Record] = (),
) -> list[Cell]:
    """All cells of a table.

    Args:
      name: key of `TABLES`.
      records: of `records.read`.
      datasets: to show; those of the paper if None. A data set of the paper without a run has empty cells.
      copies: of `data_free.read`, our runs of quoted systems.

    Returns:
      Cells in the order of data sets, rows and measures.
    """
    table = TABLES[name]
    shown = table.datasets if datasets is None else datasets
    return [cell for dataset in shown for cell in _dataset_cells(name, table, records, dataset, copies)]


def _dataset_cells(
    name: str, table: Table, records: Sequence[Record], dataset: str, copies: Sequence[Record]
) -> list[Cell]:
    pair = DATASETS[dataset].paper
    result = []
    for row in table.rows:
        numbers = paper.numbers(*pair, row.run) if row.run in _PAPER_RUNS else {}
        for measure in row.measures or table.measures:
            by_seed = values(records, dataset, row.run, measure.name)
            ours = estimate(list(by_seed.values())) if by_seed else None
            finished = any((record['dataset'], record['row']) == (dataset, row.run) for record in records)
            result.append(Cell(name, dataset, row.label, measure, numbers.get(measure.paper or ''), ours, finished))
    if table.quoted:
        for quote in paper_quotes.quotes(*pair):
            by_seed = values(copies, dataset, quote.label, 'accuracy')
            ours = estimate(list(by_seed.values())) if by_seed else None
            note = quote.setup + data_free.setup(copies, dataset, quote.label)
            result.append(Cell(name, dataset, quote.label, table.measures[0], quote.accuracy, ours, note=note))
    return result


def render(
    name: str,
    records: Sequence[Record],
    datasets: Sequence[str] | None = None,
    copies: Sequence[Record] = (),
) -> str:
    """Formats a table as Markdown: one block for each data set.

    Args:
      name: key of `TABLES`.
      records: of `records.read`.
      datasets: to show; those of the paper if None.
      copies: of `data_free.read`, our runs of quoted systems.

    Returns:
      Markdown, with a heading.
    """
    table = TABLES[name]
    blocks = [f'## {table.title}', table.text]
    all_cells = cells(name, records, datasets, copies)
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
                line.append(markdown.cell(cell.paper, cell.measure.form, missing=''))
            line.append('quoted' if cell.note and cell.estimate is None else _ours(cell))
        line.append(', '.join(map(str, sorted(seeds))))
        if table.quoted:
            line.append(row[0].note)
        lines.append(line)
    return markdown.table(header, lines)


def _ours(cell: Cell) -> str:
    if cell.estimate is None:
        return 'undefined' if cell.finished else 'not run'
    text = format(cell.estimate.mean, cell.measure.form)
    if cell.estimate.half_width:
        text += f' ± {cell.estimate.half_width:{cell.measure.form}}'
    return f'{text} {OUTSIDE}' if cell.outside else text


def _scale(records: Sequence[Record], dataset: str) -> str:
    """Epochs of the runs of a data set, and whether they are the paper's."""
    lengths = sorted({record['epochs'] for record in records if record['dataset'] == dataset})
    if not lengths:
        return '(not run)'
    full = paper.epochs(*DATASETS[dataset].paper)
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

"""The tables of a comparison: Markdown for readers, CSV for programs."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from cckd_jax.comparison import settings
from cckd_jax.comparison.measures import Measure, measure
from cckd_jax.comparison.runs import Run, Student
from cckd_jax.report import markdown


class Row(NamedTuple):
    """A student with its measures.

    Attributes:
      label: name of the run, with that of the student if there are several.
      run: its index among the runs.
      student: the student.
      values: its measures; one that its run lacks is missing or None.
    """

    label: str
    run: int
    student: Student
    values: dict[Measure, float | None]


class Comparison(NamedTuple):
    """Runs side by side.

    Attributes:
      runs: the runs.
      settings: the settings that differ, with one value for each run.
      measures: the measures that at least one student has.
      rows: one for each student.
    """

    runs: Sequence[Run]
    settings: dict[str, list[Any]]
    measures: Sequence[Measure]
    rows: Sequence[Row]


def compare(runs: Sequence[Run]) -> Comparison:
    """Compares finished runs."""
    rows = [
        Row(_label(run, student), index, student, measure(run, student))
        for index, run in enumerate(runs)
        for student in run.students
    ]
    measures = dict.fromkeys(column for row in rows for column in row.values)
    measured = [column for column in measures if any(row.values.get(column) is not None for row in rows)]
    return Comparison(runs, settings.differing(runs), measured, rows)


def settings_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the settings that differ, with a line for each setting."""
    cells = [[name, *map(setting_cell, values)] for name, values in comparison.settings.items()]
    return ['setting', *(run.name for run in comparison.runs)], cells


def measures_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the measures, with a line for each student."""
    cells = [
        [row.label, *(markdown.cell(row.values.get(column), column.form, missing='') for column in comparison.measures)]
        for row in comparison.rows
    ]
    return ['run', *(column.title for column in comparison.measures)], cells


def setting_cell(value: Any) -> str:
    """The value of a setting; empty for None.

    >>> setting_cell(None), setting_cell(True), setting_cell(['lenet5', 'alexnet'])
    ('', 'true', 'lenet5, alexnet')
    """
    if value is None:
        return ''
    if isinstance(value, list):
        return ', '.join(map(setting_cell, value))
    return value if isinstance(value, str) else json.dumps(value)


def render_markdown(comparison: Comparison) -> str:
    """Formats the comparison as Markdown."""
    blocks = ['# Comparison of runs', '## Settings that differ', no_difference(comparison)]
    if comparison.settings:
        blocks[-1] = markdown.table(*settings_table(comparison))
    return '\n\n'.join([*blocks, '## Measures', markdown.table(*measures_table(comparison))]) + '\n'


def no_difference(comparison: Comparison) -> str:
    """Says that no setting differs."""
    return 'There is one run.' if len(comparison.runs) == 1 else 'None.'


def render_csv(comparison: Comparison) -> str:
    """Formats the comparison as CSV: a line for each student with the settings that differ and all digits."""
    text = io.StringIO(newline='')
    writer = csv.writer(text)
    writer.writerow(['run', 'student', *comparison.settings, *(column.name for column in comparison.measures)])
    for row in comparison.rows:
        values = [setting_cell(column[row.run]) for column in comparison.settings.values()]
        numbers = [row.values.get(column) for column in comparison.measures]
        writer.writerow([comparison.runs[row.run].name, row.student.number, *values, *numbers])
    return text.getvalue()


def _label(run: Run, student: Student) -> str:
    return run.name if student.number is None else f'{run.name} student {student.number}'

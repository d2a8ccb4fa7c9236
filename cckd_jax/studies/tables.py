"""Tables of a study: Markdown for readers, CSV for programs."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cckd_jax.studies.study import Column, Study


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Formats a Markdown table.

    >>> print(markdown_table(['row', 'accuracy'], [['kd', '98 %']]))
    | row | accuracy |
    |---|---|
    | kd | 98 % |
    """
    lines = [header, *rows]
    text = [f'| {" | ".join(line)} |' for line in lines]
    return '\n'.join([text[0], '|' + '---|' * len(header), *text[1:]])


def format_estimate(value: Mapping[str, Any] | None, column: Column, *, sign: str = '') -> str:
    """Formats a mean and half the width of its confidence interval in the format of a column; empty for None.

    >>> format_estimate({'mean': 0.5, 'half_width': 0.25, 'count': 3}, Column('accuracy', percent=True, digits=1))
    '50.0 ± 25.0 %'
    """
    if value is None:
        return ''
    scale = 100 if column.percent else 1
    text = format(scale * value['mean'], f'{sign},.{column.digits}f')
    if column.interval and value['half_width'] is not None:
        text += f' ± {scale * value["half_width"]:,.{column.digits}f}'
    return f'{text} %' if column.percent else text


def render(study: Study, summary: Mapping[str, Any]) -> str:
    """Formats `study.md`: for each data set the means of all rows and the differences within seeds.

    Args:
      study: gives the columns.
      summary: the content of `study.json`.

    Returns:
      Markdown.
    """
    present = {name for row in summary['rows'] for name in row}
    columns = {name: column for name, column in study.columns.items() if name in present}
    level = [] if study.level is None else [study.level.format(**summary['options'])]
    level_of = lambda row: [] if study.level is None else ['' if row['level'] is None else f'{row["level"]}']
    blocks = [f'# Study: {study.name}', study.description, "Means over seeds ± 95 % confidence interval (Student's t)."]
    for dataset in dict.fromkeys(row['dataset'] for row in summary['rows']):
        means = markdown_table(
            [*level, '', 'seeds', *(column.title for column in columns.values())],
            [
                [
                    *level_of(row),
                    row['row'],
                    f'{row["count"]}',
                    *(format_estimate(row.get(name), column) for name, column in columns.items()),
                ]
                for row in summary['rows']
                if row['dataset'] == dataset
            ],
        )
        blocks += [f'## {dataset}', means]
        differences = [
            [
                *level_of(row),
                f'{row["row"]} minus {row["against"]}',
                columns[row['measure']].title,
                format_estimate(row, columns[row['measure']], sign='+'),
                row['verdict'],
            ]
            for row in summary['differences']
            if row['dataset'] == dataset
        ]
        if differences:
            blocks.append(markdown_table([*level, 'within a seed', 'measure', 'difference', 'verdict'], differences))
    for failure in summary['failures']:
        text = f'Failed: {failure["run"]}.'
        if failure['skipped']:
            text += f' Skipped, because they depend on it: {", ".join(failure["skipped"])}.'
        blocks.append(text)
    return '\n\n'.join(blocks) + '\n'


def render_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Formats `study.csv`: one line for each record, with all measures.

    >>> render_csv([{'row': 'kd', 'seed': 0, 'accuracy': None}])
    'row,seed,accuracy\\r\\nkd,0,\\r\\n'
    """
    fields = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO(newline='')
    writer = csv.DictWriter(text, fields)
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()

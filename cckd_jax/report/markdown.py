"""Markdown tables and the formatting of their cells."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. A `|` inside a cell is escaped, unless it is already.

    >>> print(table(['', 'accuracy'], [['student', '98.00%']]))
    | | accuracy |
    |---|---|
    | student | 98.00% |
    """
    lines = [_row(header), '|' + '---|' * len(header), *map(_row, rows)]
    return '\n'.join(lines)


def cell(value: Any, form: str | Callable[[float], str], *, missing: str = 'none') -> str:
    """A number in a format; the numbers of a list are separated by commas, and `missing` stands for None.

    >>> cell(0.5, '.1%'), cell([0.5, None], '.1%'), cell(None, '.1%', missing='')
    ('50.0%', '50.0%, none', '')
    """
    if isinstance(value, list):
        return ', '.join(cell(item, form, missing=missing) for item in value)
    if value is None:
        return missing
    return format(value, form) if isinstance(form, str) else form(value)


def percent(share: float) -> str:
    """A share as a percentage with two decimals, or two significant digits if it is below 0.1%.

    >>> percent(0.0452), percent(0.000534), percent(0.0000167), percent(0.0)
    ('4.52%', '0.053%', '0.0017%', '0.00%')
    """
    if share == 0 or share >= 1e-3:
        return f'{share:.2%}'
    return f'{np.format_float_positional(100 * share, precision=2, fractional=False)}%'


def settings(values: Mapping[str, Any]) -> str:
    """Names with their values, without those that are None.

    >>> settings({'temperature': 20.0, 'alpha': None})
    'temperature 20.0'
    """
    return ', '.join(f'{name} {value}' for name, value in values.items() if value is not None) or 'none'


def _row(cells: Sequence[str]) -> str:
    escaped = [re.sub(r'(?<!\\)\|', r'\|', text) for text in cells]
    return '|' + ''.join(f' {text} |' if text else ' |' for text in escaped)

"""The exception for bad input, and suggestions for misspelt names."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar('T')


class InputError(ValueError):
    """The user's input cannot be used. The message is one line that names the value and the way out."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns ` (did you mean ...?)` if one of `names` is close to `name`, else an empty string.

    >>> nearest('cckd_tt', ['kd', 'cckd_t'])
    " (did you mean 'cckd_t'?)"
    """
    close = difflib.get_close_matches(name, list(names), n=1)
    return f' (did you mean {close[0]!r}?)' if close else ''


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Returns `table[name]`, or raises an InputError that lists the valid names.

    >>> lookup({'kd': 1}, 'kd', 'method')
    1
    """
    if name not in table:
        raise InputError(f'unknown {kind} {name!r}{nearest(str(name), table)}; there are: {", ".join(table)}')
    return table[name]

"""Functions that return the same object for equal arguments, such as a program that is compiled once."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec('_Arguments')
_Result = TypeVar('_Result')


def memoize(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Keeps the last 8 results of a function; arguments that cannot be hashed are computed again.

    `functools.lru_cache` refuses such arguments. A field of a user's Flax module may be one, a list of layers for
    example.

    >>> pair = memoize(lambda first, second: (first, second))
    >>> pair(1, 2) is pair(1, 2)
    True
    >>> pair(1, [2])
    (1, [2])
    """
    kept = functools.lru_cache(maxsize=8)(function)

    @functools.wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        try:
            hash((args, tuple(kwargs.values())))
        except TypeError:
            return function(*args, **kwargs)
        return kept(*args, **kwargs)  # type: ignore[arg-type]

    return call

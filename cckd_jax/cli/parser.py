"""Command lines of flags and arguments, whose mistakes are one line."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from cckd_jax.errors import InputError


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` that raises InputError and prints no usage for a mistake.

    >>> Parser('cckd-jax export', 'Exports.').parse_args(['--run'])
    Traceback (most recent call last):
    ...
    cckd_jax.errors.InputError: unrecognized arguments: --run; see cckd-jax export --help
    """

    def __init__(self, program: str, description: str):
        super().__init__(program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        raise InputError(f'{message}; see {self.prog} --help')

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace | None:
        """The options of a command line without the program's name; None after --help, which is printed."""
        try:
            return self.parse_args(arguments)
        except SystemExit:  # argparse has printed the help
            return None

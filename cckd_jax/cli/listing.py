"""List what can be named in a config.

{program} KIND

KIND is one of: {kinds}
"""

import ast
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cckd_jax.cli import config_flags, guard
from cckd_jax.errors import InputError, lookup

_OWN = {'package.module:NAME': 'one of your own'}


def methods() -> dict[str, str]:
    """Every distillation method with its hyper-parameters."""
    from cckd_jax.methods import METHODS  # imports JAX, which takes a second

    return {name: _values(method.hyperparameters) for name, method in METHODS.items()} | _OWN


def networks() -> dict[str, str]:
    """Every network with its description."""
    from cckd_jax.models import MODELS  # imports JAX, which takes a second

    return {name: _summary(factory) for name, factory in MODELS.items()} | {
        'package.module:factory': 'a Flax Linen module of your own'
    }


def datasets() -> dict[str, str]:
    """What `dataset.name` accepts."""
    return {
        'digits': "scikit-learn's handwritten digits, part of the installation",
        'NAME': 'an image classification set of TensorFlow Datasets with the splits train and test, such as mnist, '
        'fashion_mnist, cifar10, cifar100 or svhn_cropped',
        'FILE.npz': 'arrays x_train, y_train, x_test and y_test',
        'DIR': 'a folder of images, train/CLASS/* and test/CLASS/*, or CLASS/*',
    }


def configs() -> dict[str, str]:
    """Every config of the package with its description."""
    names = config_flags.config_names()
    return {name: _first_line(config_docstring(name)) for name in names}


def gates() -> dict[str, str]:
    """Every gate with its hyper-parameters."""
    from cckd_jax.methods import GATES  # imports JAX, which takes a second

    return {name: _values(gate.hyperparameters) for name, gate in GATES.items()} | {'none': ''} | _OWN


def evaluators() -> dict[str, str]:
    """Every part of the report that `evaluate.NAME` turns on or off."""
    from cckd_jax.evaluators import EVALUATORS  # imports JAX, which takes a second

    modules = {name: importlib.import_module(f'cckd_jax.evaluators.{name}') for name in EVALUATORS}
    return {name: _first_line(module.__doc__ or '') for name, module in modules.items()} | _OWN


def optimizers() -> dict[str, str]:
    """Every optimizer."""
    from cckd_jax.training.optimizers import OPTIMIZERS  # imports JAX, which takes a second

    return dict.fromkeys(OPTIMIZERS, '') | _OWN


KINDS: Mapping[str, Callable[[], dict[str, str]]] = {
    function.__name__: function for function in (methods, networks, datasets, configs, gates, evaluators, optimizers)
}


def config_docstring(name: str) -> str:
    """The docstring of a config's file, by its name or path."""
    tree = ast.parse(config_flags.config_path(name).read_text(encoding='utf-8'))
    return ast.get_docstring(tree) or ''


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns.

    >>> print(columns([['kd', 'Hinton'], ['cckd_l', '']]))
    kd      Hinton
    cckd_l
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ('  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return '\n'.join(line.rstrip() for line in lines)


def main(arguments: Sequence[str]) -> int:
    """Prints a list and returns the exit status; the program's name is the first argument."""
    return guard.one_line_errors(lambda: _print_list(arguments))


def _print_list(arguments: Sequence[str]) -> None:
    (program, *rest) = arguments
    if config_flags.asks_for_help(rest):
        guard.print_text(__doc__.format(program=program, kinds=', '.join(KINDS)).strip())
        return
    if len(rest) != 1:
        raise InputError(f'{program} needs one of: {", ".join(KINDS)}')
    guard.print_text(columns(list(lookup(KINDS, rest[0], 'list')().items())))


def _values(hyperparameters: Mapping[str, Any]) -> str:
    return ' '.join(f'{name}={value}' for name, value in hyperparameters.items() if value is not None)


def _summary(function: Any) -> str:
    """The first line of the docstring; for a partial function also its arguments."""
    if isinstance(function, functools.partial):
        plain = {name: value for name, value in function.keywords.items() if type(value) in (int, float, tuple)}
        arguments = ', '.join(f'{name}={value}' for name, value in plain.items())
        return f'{_summary(function.func)} {arguments}'
    return _first_line(function.__doc__ or '')


def _first_line(text: str) -> str:
    return text.strip().partition('\n')[0]

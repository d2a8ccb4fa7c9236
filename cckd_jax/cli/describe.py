"""Print every setting of a config with its value, its origin and its meaning.

    {program} digits_lenet
    {program} configs/mnist_lenet.py:smoke --config.method=kd

A value comes from the command line, the config, the method (a hyper-parameter that the config leaves empty), or the
default of all configs. The method does not use hyper-parameters marked as unused.
"""

from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from cckd_jax import config as config_defaults
from cckd_jax.cli import config_flags, guard, listing
from cckd_jax.errors import InputError
from cckd_jax.settings_help import HYPERPARAMETERS, SETTINGS, meaning


def main(arguments: Sequence[str]) -> int:
    """Prints the settings and returns the exit status; the program's name is the first argument."""
    return guard.one_line_errors(lambda: _print_settings(arguments))


def table(argument: str, settings: Sequence[str] = ()) -> list[tuple[str, str, str, str]]:
    """Rows `(name, value, origin, meaning)` of all settings, in the order of `settings_help`.

    Args:
      argument: `NAME[:variant]` or `FILE.py[:variant]`.
      settings: `--config.NAME=VALUE`.

    Raises:
      InputError: there is no such config or key, or a value has the wrong type.

    >>> table('digits_lenet', ['--config.seed=1'])[1][:3]
    ('seed', '1', 'command line')
    """
    config = config_flags.configured(argument, settings)
    defaults = dict(_flat(config_defaults.default()))
    from_file = dict(_flat(config_flags.load(argument)))
    hyperparameters = config_defaults.active_hyperparameters(config)
    rows = []
    for name, value in _flat(config):
        origin = 'default'
        if value != from_file.get(name):
            origin = 'command line'
        elif name not in defaults or value != defaults[name]:
            origin = 'config'
        elif value is None and hyperparameters.get(name) is not None:
            (value, origin) = (hyperparameters[name], 'method')
        if name in HYPERPARAMETERS and name not in hyperparameters:
            origin = 'unused'
        rows.append((name, '' if value is None else str(value), origin, meaning(name)))
    order = [*SETTINGS, *HYPERPARAMETERS]
    return sorted(rows, key=lambda row: order.index(row[0]) if row[0] in order else len(order))


def _print_settings(arguments: Sequence[str]) -> None:
    (program, *rest) = arguments
    if config_flags.asks_for_help(rest):
        guard.print_text(__doc__.format(program=program).strip())
        return
    settings = [argument for argument in rest if argument.startswith('--config.')]
    names = [argument.removeprefix('--config=') for argument in rest if argument not in settings]
    if len(names) != 1 or names[0].startswith('-'):
        raise InputError(f'{program} needs one config; for example {program} digits_lenet')
    rows = table(names[0], settings)
    guard.print_text(f'{listing.config_docstring(names[0].partition(":")[0])}\n')
    guard.print_text(listing.columns([('setting', 'value', 'origin', 'meaning'), *rows]))


def _flat(config: ConfigDict) -> Iterator[tuple[str, object]]:
    """Dotted names and values; of `teachers` and `students` only the fields that are set."""
    for name in config_flags.names(config):
        if name in ('teachers', 'students'):
            for index, fields in config_defaults.given_fields(config[name]):
                yield from ((f'{name}.{index}.{field}', value) for field, value in fields.items())
        else:
            value = config_flags.get(config, name)
            yield name, value.to_dict() if isinstance(value, ConfigDict) else value

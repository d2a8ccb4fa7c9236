"""The command line of a study: flags that all have, those of its own, and settings of all its runs."""

from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from cckd_jax import cli
from cckd_jax.errors import InputError

_CONFIGS = Path(__file__).parents[2] / 'configs'


def parse(
    arguments: Sequence[str], define: Callable[[flags.FlagValues], object], *, rows: Sequence[str]
) -> tuple[flags.FlagValues, list[str]]:
    """Returns the flags, and the settings `--config.NAME=VALUE` of all runs.

    Args:
      arguments: the command line with the program's name first.
      define: defines the flags of this study alone.
      rows: of its table, all of which are run unless `--methods` names some.

    Raises:
      InputError: anything else is on the command line, a value does not fit, or the workdir is missing.
    """
    values = flags.FlagValues()
    flags.DEFINE_integer('seeds', 3, 'How many seeds.', flag_values=values)
    flags.DEFINE_integer('epochs', None, 'Epochs of teachers and student.', flag_values=values)
    flags.DEFINE_list('methods', list(rows), 'Rows of the table.', flag_values=values)
    flags.DEFINE_string('data_dir', None, 'Where the data is.', flag_values=values)
    flags.DEFINE_string('workdir', None, 'Where the runs go.', flag_values=values)
    define(values)
    settings = cli.parse(values, arguments)
    if values.workdir is None:
        raise InputError('--workdir is missing; for example --workdir=runs/study')
    if values.epochs is not None:
        settings += [f'--config.{part}.epochs={values.epochs}' for part in ('teacher', 'student')]
    if values.data_dir is not None:
        settings += [f'--config.dataset.data_dir={values.data_dir}']
    return values, settings


def configured(name: str, settings: Sequence[str]) -> ConfigDict:
    """The config of that name in this project's `configs/`, with settings."""
    return cli.configured(f'{_CONFIGS / name}.py', settings)

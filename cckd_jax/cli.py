"""From command line to config and workdir, with one clear line for whatever is wrong with it.

absl and ml_collections raise tracebacks for a misspelt key or a missing file before `main` is reached, so the file is
loaded and flags are parsed here, inside the same net as the run itself.
"""

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from cckd_jax import cache, cpu
from cckd_jax.config import declare_hyperparameters, ignored_hyperparameters
from cckd_jax.console import say
from cckd_jax.errors import InputError, nearest


def main(run: Callable[..., object], usage: str, arguments: Sequence[str] | None = None) -> int:
    """Parses the command line, calls `run(config, workdir)`, and returns the exit status.

    Args:
      run: what to do with the config.
      usage: printed by --help, and after a wrong command line.
      arguments: the command line with the program's name first; `sys.argv` when None.

    Returns:
      0, or 2 after one line on stderr for bad input.
    """

    def parsed() -> None:
        rest = _parse(list(sys.argv if arguments is None else arguments), usage)
        if rest is not None:
            run(*rest)

    return guarded(parsed)


def guarded(run: Callable[[], object]) -> int:
    """Calls `run` as a command does: quiet libraries, kept programs, and one line for bad input; returns as `main`."""
    logging.set_verbosity(logging.ERROR)
    cpu.tune()
    cache.keep_compiled_programs()
    # Networks and configs of one's own are imported from where the command is given.
    sys.path.insert(0, os.getcwd())
    try:
        run()
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('stopped; the same command resumes', file=sys.stderr)
        return 130
    return 0


def parse(values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Parses flags of a command's own; returns the settings, `--config.NAME=VALUE`, that are left.

    Raises:
      InputError: anything else is left, or a value does not fit.
    """
    try:
        rest = values(list(arguments), known_only=True)[1:]
    except flags.Error as error:
        raise InputError(_one_line(error)) from None
    for argument in rest:
        if not argument.startswith('--config.'):
            raise InputError(f'unexpected argument {argument!r}; settings are given as --config.NAME=VALUE')
    return rest


def configured(argument: str, settings: Sequence[str]) -> ConfigDict:
    """The config of `FILE.py[:variant]` with settings `--config.NAME=VALUE`.

    Raises:
      InputError: there is no such file, key or value.
    """
    config = _load(argument)
    declare_hyperparameters(config, settings)
    _check_keys(config, list(settings))
    settings = [_bracketed(each) for each in settings]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict('config', config, flag_values=values, sys_argv=['', *settings])
        values(['', *settings])
    except (flags.Error, TypeError, ValueError) as error:
        raise InputError(_one_line(error)) from None
    return config


def _parse(arguments: list[str], usage: str) -> tuple[ConfigDict, str] | None:
    if {'--help', '-h', '--helpfull', '-help'} & set(arguments):
        print(usage)
        return None
    file = flags.FlagValues()
    config_file = flags.DEFINE_string('config', None, 'A config file.', flag_values=file)
    values = flags.FlagValues()
    workdir = flags.DEFINE_string('workdir', None, 'The run directory.', flag_values=values)
    try:
        rest = file(arguments, known_only=True)
        if config_file.value is None:
            raise InputError('--config is missing; for example --config=configs/digits_lenet.py')
        config = _load(config_file.value)
        declare_hyperparameters(config, rest)
        _check_keys(config, rest)
        rest = [_bracketed(each) for each in rest]
        config_flags.DEFINE_config_dict('config', config, flag_values=values, sys_argv=rest)
        rest = values(rest)
    except (flags.Error, TypeError, ValueError) as error:
        raise error if isinstance(error, InputError) else InputError(_one_line(error)) from None
    if len(rest) > 1:
        raise InputError(f'unexpected argument {rest[1]!r}; settings are given as --config.NAME=VALUE')
    if workdir.value is None:
        raise InputError('--workdir is missing; for example --workdir=runs/digits')
    for name in ignored_hyperparameters(config, arguments):
        say(f'ignoring {name}={config[name]}: method {config.method} has no such hyper-parameter')
    return config, workdir.value


def _load(argument: str) -> ConfigDict:
    """The config of `FILE.py[:variant]`, locked, so that a misspelt key is an error."""
    (name, _, variant) = argument.partition(':')
    path = Path(name).expanduser()
    if path.suffix != '.py' or not path.is_file():
        beside = sorted(str(other) for other in path.parent.glob('*.py'))
        raise InputError(f'no config file at {name}{nearest(name, beside)}; a config is a .py file with get_config()')
    spec = importlib.util.spec_from_file_location(f'config_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(variant)
        if not isinstance(config, ConfigDict):
            raise TypeError(f'get_config() returned {type(config).__name__}, not a ConfigDict')
    except InputError:
        raise
    except Exception as error:  # whatever is wrong in a file of the user's own
        raise InputError(f'{name} cannot be used: {type(error).__name__}: {_one_line(error)}') from error
    return config.lock()


def _check_keys(config: ConfigDict, arguments: list[str]) -> None:
    for argument in arguments:
        if not argument.startswith('--config.'):
            continue
        path = argument.removeprefix('--config.').partition('=')[0]
        group = config
        for name in re.sub(r'\[(\d+)\]', r'.\1', path).split('.'):
            below = _below(group)
            if name not in below:
                raise InputError(
                    f'unknown config key {path!r}{nearest(name, below)}; there are: {", ".join(below) or "none below"}'
                )
            group = below[name]
        if _below(group):
            raise InputError(f'{path!r} is a group of settings; there are: {", ".join(_below(group))}')


def _below(group: object) -> dict[str, object]:
    """What is inside a group of settings, or a sequence of them, by name or index."""
    if isinstance(group, tuple) and all(isinstance(each, ConfigDict) for each in group):
        return {str(place): each for place, each in enumerate(group)}
    return dict(group) if isinstance(group, ConfigDict) else {}


def _bracketed(argument: str) -> str:
    """`--config.teachers.1.model=...` as ml_collections has it, `--config.teachers[1].model=...`."""
    (name, equals, value) = argument.partition('=')
    return re.sub(r'\.(\d+)(?=\.|$)', r'[\1]', name) + equals + value


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__

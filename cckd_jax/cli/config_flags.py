"""Configs by name or file, and the settings `--config.NAME=VALUE` that change them.

absl and ml_collections raise tracebacks for a misspelt key or a missing file before `main` is reached, so the file is
loaded and flags are parsed here, where every error becomes an InputError.
"""

import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from cckd_jax import config as config_defaults
from cckd_jax.cli import cluster_flags
from cckd_jax.cli.cluster_flags import Cluster
from cckd_jax.console import log
from cckd_jax.errors import InputError, lookup, nearest
from cckd_jax.paths import expand

_PACKAGE = Path(__file__).parents[1]
# An installed wheel has the configs inside the package, a checkout beside it.
CONFIGS = _PACKAGE / 'configs' if (_PACKAGE / 'configs').is_dir() else _PACKAGE.parent / 'configs'


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether an argument asks for the usage."""
    return not {'--help', '-h', '--helpfull', '-help'}.isdisjoint(arguments)


def config_names() -> list[str]:
    """Names of the configs that come with the package, sorted."""
    return sorted(path.stem for path in CONFIGS.glob('*.py') if path.stem != '__init__')


def config_path(name: str) -> Path:
    """The file of a config, by its name among those of the package or by its path, without `:variant`.

    Raises:
      InputError: there is no such file.

    >>> config_path('digits_lenet').name
    'digits_lenet.py'
    """
    if name.endswith('.py') or '/' in name:
        path = expand(name)
        if path.suffix != '.py' or not path.is_file():
            siblings = sorted(str(sibling) for sibling in path.parent.glob('*.py'))
            raise InputError(
                f'no config file at {name}{nearest(name, siblings)}; give a .py file with get_config(), or a name: '
                f'{", ".join(config_names())}'
            )
        return path
    return CONFIGS / f'{lookup(dict.fromkeys(config_names(), name), name, "config")}.py'


def load(argument: str) -> ConfigDict:
    """The config of `NAME[:variant]` or `FILE.py[:variant]`, locked, so that a misspelt key is an error.

    Raises:
      InputError: there is no such config, or its file cannot be used.

    >>> load('digits_lenet:smoke').student.epochs
    2
    """
    (name, _, variant) = argument.partition(':')
    path = config_path(name)
    spec = importlib.util.spec_from_file_location(f'config_{path.stem}', path)
    if spec is None or spec.loader is None:
        raise InputError(f'{name} cannot be used: {path} is not a Python file')
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(variant)
        if not isinstance(config, ConfigDict):
            raise TypeError(f'get_config() returned {type(config).__name__}, not a ConfigDict')
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a user's file may raise anything
        raise InputError(f'{name} cannot be used: {type(error).__name__}: {one_line(error)}') from error
    missing = [path for path in names(config_defaults.default()) if not _has(config, path)]
    if missing:
        raise InputError(
            f'{name} cannot be used: its config has no {missing[0]}; start from cckd_jax.config.default() and keep '
            'every field'
        )
    return config.lock()


def parse(values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Parses a command's own flags and returns the settings `--config.NAME=VALUE` that are left.

    Raises:
      InputError: anything else is left, or a value has the wrong type.
    """
    try:
        settings = values(list(arguments), known_only=True)[1:]
    except flags.Error as error:
        raise InputError(one_line(error)) from None
    for argument in settings:
        if not argument.startswith('--config.'):
            kind = 'flag' if argument.startswith('-') else 'argument'
            hint = nearest(argument.partition('=')[0], [f'--{name}' for name in values])
            raise InputError(f'unexpected {kind} {argument!r}{hint}; settings are given as --config.NAME=VALUE')
    return settings


def parse_run(arguments: Sequence[str]) -> tuple[ConfigDict, str, Cluster | None]:
    """Returns config, workdir and cluster of `PROGRAM --config=CONFIG --workdir=DIR [--config.NAME=VALUE ...]`.

    The cluster is None without `--coordinator`, `--num_processes` and `--process_id`.

    Raises:
      InputError: a flag is missing, empty, repeated or unknown, or a setting cannot be used.
    """
    values = flags.FlagValues()
    flags.DEFINE_multi_string('config', [], 'A config.', flag_values=values)
    flags.DEFINE_multi_string('workdir', [], 'The run directory.', flag_values=values)
    cluster_flags.define(values)
    settings = parse(values, arguments)
    cluster = cluster_flags.read(values)
    config = configured(_only(values, 'config', 'digits_lenet'), settings)
    workdir = _only(values, 'workdir', 'runs/digits')
    expand(workdir)
    ignored = config_defaults.ignored_hyperparameters(config, settings)
    if ignored:
        from cckd_jax import config_check  # A misspelt setting is reported before JAX is imported.

        config_check.check(config)
    for name in ignored:
        log(f'ignoring {name}={config[name]}: method {config.method} has no such hyper-parameter')
    return config, workdir, cluster


def configured(argument: str, settings: Sequence[str]) -> ConfigDict:
    """The config of `NAME[:variant]` or `FILE.py[:variant]` with settings `--config.NAME=VALUE`.

    Raises:
      InputError: there is no such config or key, or a value has the wrong type.

    >>> configured('digits_lenet', ['--config.method=kd']).method
    'kd'
    """
    config = load(argument)
    config_defaults.declare_hyperparameters(config, settings)
    for setting in settings:
        _check_key(config, setting)
    settings = [_bracketed(setting) for setting in settings]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict('config', config, flag_values=values, sys_argv=['', *settings])
        values(['', *settings])
    except (flags.Error, TypeError, ValueError) as error:
        raise InputError(one_line(error)) from None
    for name in names(config):
        value = get(config, name)
        if isinstance(value, str) and value.startswith('~'):
            try:
                expand(value)
            except InputError as error:
                raise InputError(f'{name}={error}') from None
    return config


def one_line(error: BaseException) -> str:
    """The message of an exception without line breaks, or its type if the message is empty."""
    return ' '.join(str(error).split()) or type(error).__name__


def _only(values: flags.FlagValues, name: str, example: str) -> str:
    occurrences = values[name].value
    if not occurrences or not occurrences[0]:
        raise InputError(f'--{name} is {"empty" if occurrences else "missing"}; for example --{name}={example}')
    if len(occurrences) > 1:
        raise InputError(f'--{name} is given {len(occurrences)} times: {", ".join(occurrences)}; give it once')
    return occurrences[0]


def _check_key(config: ConfigDict, setting: str) -> None:
    path = setting.removeprefix('--config.').partition('=')[0]
    group = config
    for name in re.sub(r'\[(\d+)\]', r'.\1', path).split('.'):
        fields = _fields(group)
        if name not in fields:
            names = ', '.join(fields) or 'none below'
            raise InputError(f'unknown config key {path!r}{nearest(name, fields)}; there are: {names}')
        group = fields[name]
    if _fields(group):
        raise InputError(f'{path!r} is a group of settings; there are: {", ".join(_fields(group))}')


def _fields(group: object) -> dict[str, object]:
    """What is inside a group of settings, or a sequence of groups, by name or index."""
    if isinstance(group, tuple) and all(isinstance(item, ConfigDict) for item in group):
        return {str(index): item for index, item in enumerate(group)}
    return {name: group.get(name) for name in group} if isinstance(group, ConfigDict) else {}


def names(group: object, prefix: str = '') -> Iterator[str]:
    """Dotted names of all settings; a sequence of groups, and an empty group, count as one setting."""
    for name, value in _fields(group).items():
        if isinstance(value, ConfigDict) and len(value):
            yield from names(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}'


def _has(config: ConfigDict, path: str) -> bool:
    try:
        get(config, path)
    except (KeyError, AttributeError, TypeError):
        return False
    return True


def get(config: ConfigDict, path: str) -> object:
    """The value of a setting by its dotted name."""
    value = config
    for name in path.split('.'):
        value = value[name]
    return value


def _bracketed(setting: str) -> str:
    """`--config.teachers.1.model=...` as ml_collections spells it, `--config.teachers[1].model=...`."""
    (name, equals, value) = setting.partition('=')
    return re.sub(r'\.(\d+)(?=\.|$)', r'[\1]', name) + equals + value

"""The command line of all studies."""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cckd_jax import cli
from cckd_jax.errors import InputError
from cckd_jax.imports import resolve
from cckd_jax.paths import expand
from cckd_jax.studies import convergence, data_free, engine, faithful, peers, seeds, significance, teachers
from cckd_jax.studies.jobs import parse_shard
from cckd_jax.studies.study import Study

_MODULES = (significance, teachers, faithful, peers, convergence, data_free, seeds)
STUDIES = {study.STUDY.name: study.STUDY for study in _MODULES}

USAGE = """Run a study: many runs, a table of means with 95 % confidence intervals, and a figure.

    python launch/study.py --study=NAME --workdir=DIR [--configs=...] [--methods=...] [--seeds=3] [--config.NAME=VALUE]

--study       significance, teachers, faithful, peers, convergence, data_free, seeds, or package.module:STUDY;
              --help: its options
--configs     configs by path or by name, such as mnist_lenet or my_config.py:smoke
--methods     rows of the table; for the study seeds any methods, which share the teachers of a seed
--seeds       number of seeds, from 0
--epochs      of teachers and students; those of the configs unless given
--data_dir    directory of the prepared TFDS data
--processes   runs at a time, each with its share of the cores; 1 runs all in one process
--seeds_together   seeds of a row that train in one program, in one process; for accelerators that one run leaves idle
--shard       i/n runs the i-th of n shards of the study, for several machines; a call without it merges their results
--workdir     study.md, study.json, study.csv, study.png, and a run directory for each run

--config.NAME=VALUE sets a value for all runs. The same command resumes and skips finished runs.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the study of a command line.

    Args:
      arguments: the command line with the program's name first; `sys.argv` if None.

    Returns:
      The exit status: 0, or 2 after one line on stderr for bad input or failed runs.
    """
    return cli.guarded(lambda: _run(list(sys.argv if arguments is None else arguments)))


def _run(arguments: list[str]) -> None:
    study_flag = flags.FlagValues()
    flags.DEFINE_string('study', None, 'Which study.', flag_values=study_flag)
    wants_help = bool({'--help', '-h'} & set(arguments))
    try:
        rest = study_flag([argument for argument in arguments if argument not in ('--help', '-h')], known_only=True)
    except flags.Error as error:
        raise InputError(str(error)) from None
    study = None if study_flag.study is None else find_study(study_flag.study)
    if wants_help:
        print(USAGE if study is None else describe(study))
        return
    if study is None:
        raise InputError(f'--study is missing; there are: {", ".join(STUDIES)}, or package.module:STUDY')
    values, settings = _parse(study, rest)
    configs = {_name(config): cli.configured(config, settings) for config in values.configs}
    if len(configs) < len(values.configs):
        raise InputError(f'--configs={",".join(values.configs)} names a config twice; give each another file name')
    summary = engine.run(
        study,
        configs,
        values.workdir,
        seeds=values.seeds,
        rows=values.methods,
        processes=values.processes,
        seeds_together=values.seeds_together,
        shard=(1, 1) if values.shard is None else parse_shard(values.shard),
        **{name: getattr(values, name) for name in study.options},
    )
    path = expand(values.workdir) / 'study.md'
    print(path.read_text(encoding='utf-8'))
    print(f'the tables are in {path}')
    if summary['failures']:
        failed = ', '.join(failure['run'] for failure in summary['failures'])
        raise InputError(f'failed runs: {failed}; the same command resumes the study')


def find_study(name: str) -> Study:
    """Returns the study of a name, or of `package.module:STUDY`.

    Raises:
      InputError: there is no such study.

    >>> find_study('seeds').configs
    ('digits_lenet',)
    """
    study = resolve(name, STUDIES, 'study')
    if not isinstance(study, Study):
        raise InputError(f'{name} is {type(study).__name__}, not a cckd_jax.studies.study.Study')
    return study


def describe(study: Study) -> str:
    """The usage, with the defaults and the options of one study."""
    lines = [USAGE, f'{study.name}: {study.description}', '', f'--configs     {",".join(study.configs)} unless given']
    if study.rows:
        lines.append(f'--methods     some of {",".join(study.rows)}')
    for name, option in study.options.items():
        default = option.default if isinstance(option.default, str) else ','.join(option.default)
        lines.append(f'--{name:11} {option.help}' + (f'; {default} unless given' if default else ''))
    return '\n'.join(lines)


def _parse(study: Study, arguments: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    """The flags of a study, and the values `--config.NAME=VALUE` of all its runs."""
    values = flags.FlagValues()
    flags.DEFINE_list('configs', list(study.configs), 'Configs.', flag_values=values)
    flags.DEFINE_list('methods', None, 'Rows of the table.', flag_values=values)
    flags.DEFINE_integer('seeds', 3, 'Number of seeds.', flag_values=values)
    flags.DEFINE_integer('epochs', None, 'Epochs of teachers and students.', flag_values=values)
    flags.DEFINE_integer('processes', None, 'Runs at a time.', flag_values=values)
    flags.DEFINE_integer('seeds_together', 1, 'Seeds in one program.', flag_values=values)
    flags.DEFINE_string('shard', None, 'i/n.', flag_values=values)
    flags.DEFINE_string('data_dir', None, 'Directory of the prepared TFDS data.', flag_values=values)
    flags.DEFINE_string('workdir', None, 'Directory of the study.', flag_values=values)
    for name, option in study.options.items():
        if isinstance(option.default, str):
            flags.DEFINE_string(name, option.default, option.help, flag_values=values)
        else:
            flags.DEFINE_list(name, list(option.default), option.help, flag_values=values)
    settings = cli.parse(values, arguments)
    if values.workdir is None:
        raise InputError('--workdir is missing; for example --workdir=runs/study')
    if any(setting.startswith('--config.seed=') for setting in settings):
        raise InputError('--config.seed is set by --seeds; leave it out')
    if values.epochs is not None:
        settings += [f'--config.{network}.epochs={values.epochs}' for network in ('teacher', 'student')]
    if values.data_dir is not None:
        settings += [f'--config.dataset.data_dir={values.data_dir}']
    return values, settings


def _name(argument: str) -> str:
    """The name of a config in the tables.

    >>> _name('configs/mnist_lenet.py:smoke')
    'mnist_lenet'
    """
    return Path(argument.partition(':')[0]).stem

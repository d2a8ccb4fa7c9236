"""The command line of the reproduction: it runs what the tables need, writes them, and checks the committed ones."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cckd_jax import cli
from cckd_jax.cli.config_flags import asks_for_help
from cckd_jax.errors import InputError, lookup
from cckd_jax.io import check_folder
from cckd_jax.paths import expand
from cckd_jax.studies import engine
from cckd_jax.studies.jobs import parse_shard
from cckd_jax.studies.reproduction import files, runs, tables
from cckd_jax.studies.reproduction.datasets import DATASETS
from cckd_jax.studies.study import Column, Option, Study

_COMMITTED = 'docs/reproduction'
# Every row has values of its own for these settings.
_SET_BY_ROWS = ('seed', 'method', 'temperature', 'confidence_temperature', 'margin_temperature')

USAGE = """Reproduce the tables of the CCKD paper (arXiv:2107.06993) with seeds and 95 % confidence intervals.

    python launch/reproduce.py --tables=2,6,7 --datasets=mnist --seeds=3 --workdir=DIR [--data_dir=DIR]
    python launch/reproduce.py --data_free=STUDY --commit=DIR
    python launch/reproduce.py --check

--tables        some of 2,3,4,5,6,7,7_teacher30,8,9,temperatures,teacher_epochs; 2,3,6,7,8,9 unless given
--datasets      some of mnist,fashion_mnist,cifar10,svhn_alexnet,svhn_resnet,digits; unless given, mnist and
                fashion_mnist as far as the tables have them; digits stands in for the data set of any table
--seeds         number of seeds, from 0
--epochs_scale  factor of all epochs, for tables in less time; the threshold of the gate takes the same values
--processes     runs at a time, each with its share of the cores
--shard         i/n runs the i-th of n shards, for several machines; a call without it merges their results
--data_dir      directory of the prepared TFDS data
--workdir       receives tables.md, tables.csv, claims.md, figures, and a run directory for each run
--commit        also copies the tables and the results.json of every run to this directory
--data_free     workdir of the study data_free, whose runs stand beside the numbers that the paper quotes from other
                systems; only copies their results to the directory of --commit and writes its tables again
--check         regenerates the tables in DIR from the results in DIR/runs and fails if they differ; --check=DIR for
                another directory than docs/reproduction

--config.NAME=VALUE sets a value for all runs. Tables share teachers and students; finished runs are not repeated.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the reproduction of a command line.

    Args:
      arguments: the command line with the program's name first; `sys.argv` if None.

    Returns:
      The exit status: 0, or 2 after one line on stderr for bad input, failed runs or tables that differ.
    """
    return cli.guarded(lambda: _run(list(sys.argv if arguments is None else arguments)))


def _run(arguments: list[str]) -> None:
    if asks_for_help(arguments):
        print(USAGE)
        return
    arguments = [argument.replace('--epochs-scale', '--epochs_scale', 1) for argument in arguments]
    arguments = [f'--check={_COMMITTED}' if argument == '--check' else argument for argument in arguments]
    values = _define_flags()
    settings = cli.parse(values, arguments)
    if values.check is not None:
        if len(arguments) > 2:
            raise InputError('--check takes no other flag; run it on its own')
        files.check(expand(values.check))
        return
    if values.data_free is not None:
        if values.commit is None or len(arguments) > 3:
            raise InputError('--data_free takes --commit and no other flag; for example --commit=docs/reproduction')
        files.commit_data_free(expand(values.data_free), expand(values.commit))
        return
    if values.workdir is None:
        raise InputError('--workdir is missing; for example --workdir=runs/reproduction')
    _check_settings(settings)
    if values.data_dir is not None:
        settings = [*settings, f'--config.dataset.data_dir={values.data_dir}']
    datasets = _choose_datasets(values.tables, values.datasets)
    if values.commit is not None:
        check_folder(expand(values.commit), '--commit')
    configs = {name: cli.configured(DATASETS[name].config, settings) for name in datasets}
    content = reproduce(
        configs,
        values.workdir,
        names=values.tables,
        seeds=values.seeds,
        epochs_scale=values.epochs_scale,
        processes=values.processes,
        shard=(1, 1) if values.shard is None else parse_shard(values.shard),
    )
    workdir = expand(values.workdir)
    print(files.texts(workdir, names=values.tables, datasets=datasets)['tables.md'])
    print(f'the tables are in {workdir / "tables.md"}')
    if values.commit is not None:
        files.commit(workdir, expand(values.commit))
    if content['failures']:
        failed = ', '.join(failure['run'] for failure in content['failures'])
        raise InputError(f'failed runs: {failed}; the same command resumes the reproduction')


def reproduce(
    configs: Mapping[str, Any],
    workdir: str | Path,
    *,
    names: Sequence[str],
    seeds: int,
    epochs_scale: float = 1.0,
    **arguments: Any,
) -> dict[str, Any]:
    """Runs what tables need and writes them after every run.

    Args:
      configs: by data set.
      workdir: of the reproduction.
      names: keys of `tables.TABLES`.
      seeds: how many, from 0.
      epochs_scale: see `runs.scale_epochs`.
      **arguments: of `engine.run`, such as `processes` and `shard`.

    Returns:
      The content of `study.json`.

    Raises:
      InputError: a run cannot use its settings.
    """
    if not 0 < epochs_scale <= 1:
        raise InputError(f'epochs_scale={epochs_scale:g} must be above 0 and at most 1; set --epochs_scale')
    rows = [row.run for name in names for row in tables.TABLES[name].rows]
    study = Study(
        name='reproduction',
        description='The runs behind the tables; tables.md has the tables.',
        jobs=lambda options: runs.jobs(
            options.configs,
            options.workdir,
            rows=[row for row in runs.ROWS if row in rows],
            seeds=options.seeds,
            epochs_scale=epochs_scale,
        ),
        measures=lambda job, results: {job.row: {'accuracy': results['student']['test_accuracy']}},
        columns={'accuracy': Column('test accuracy', percent=True, digits=2)},
        configs=tuple(configs),
        options={'tables': Option(tuple(names), 'tables'), 'epochs_scale': Option(f'{epochs_scale:g}', 'factor')},
        export=lambda folder, content: files.write(folder, folder, names=names, datasets=list(configs)),
    )
    return engine.run(study, configs, workdir, seeds=seeds, **arguments)


def _choose_datasets(names: Sequence[str], requested: Sequence[str] | None) -> list[str]:
    """The data sets to run: those requested, or those of the tables that two cores can train.

    Raises:
      InputError: there is no such table or data set, no table shows a data set, or none is left.
    """
    for name in names:
        lookup(tables.TABLES, name, 'table')
    for dataset in requested or ():
        lookup(DATASETS, dataset, 'data set')
        if not any(files.shown_by(name, [dataset]) for name in names):
            raise InputError(f'no table of --tables={",".join(names)} shows {dataset}; leave it out of --datasets')
    default = [name for name, dataset in DATASETS.items() if not dataset.by_name_only]
    datasets = list(requested or ()) or [
        name for name in default if any(files.shown_by(table, [name]) for table in names)
    ]
    if not datasets:
        raise InputError(
            f'--tables={",".join(names)} has no data set that runs by default; name CIFAR-10 or SVHN, such as '
            '--datasets=cifar10'
        )
    return datasets


def _check_settings(settings: Sequence[str]) -> None:
    for setting in settings:
        name = setting.removeprefix('--config.').partition('=')[0]
        if name in _SET_BY_ROWS:
            raise InputError(f'--config.{name} is set by the rows of the tables; leave it out')


def _define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_list('tables', ['2', '3', '6', '7', '8', '9'], 'Tables.', flag_values=values)
    flags.DEFINE_list('datasets', None, 'Data sets.', flag_values=values)
    flags.DEFINE_integer('seeds', 3, 'Number of seeds.', flag_values=values)
    flags.DEFINE_float('epochs_scale', 1.0, 'Factor of all epochs.', flag_values=values)
    flags.DEFINE_integer('processes', None, 'Runs at a time.', flag_values=values)
    flags.DEFINE_string('shard', None, 'i/n.', flag_values=values)
    flags.DEFINE_string('data_dir', None, 'Directory of the prepared TFDS data.', flag_values=values)
    flags.DEFINE_string('workdir', None, 'Directory of the reproduction.', flag_values=values)
    flags.DEFINE_string('commit', None, 'Directory of the committed copies.', flag_values=values)
    flags.DEFINE_string('data_free', None, 'Directory of the study data_free.', flag_values=values)
    flags.DEFINE_string('check', None, 'Directory to check.', flag_values=values)
    return values

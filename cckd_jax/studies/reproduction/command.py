"""The command line of the reproduction: it runs what the tables need, writes them, and checks the committed ones."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cckd_jax import cli
from cckd_jax.cli.config_flags import asks_for_help
from cckd_jax.console import log
from cckd_jax.errors import InputError, lookup
from cckd_jax.io import check_folder, write_text
from cckd_jax.paths import expand
from cckd_jax.studies import engine
from cckd_jax.studies.jobs import parse_shard
from cckd_jax.studies.reproduction import claims, figures, records, rendering, runs, tables
from cckd_jax.studies.reproduction.datasets import DATASETS, STAND_IN
from cckd_jax.studies.study import Column, Option, Study

_COMMITTED = 'docs/reproduction'
# Every row has values of its own for these settings.
_SET_BY_ROWS = ('seed', 'method', 'temperature', 'confidence_temperature', 'margin_temperature')
RUNS = 'runs'
_COPIED_FIGURES = ((runs.BASE, 'adversarial'), ('cckd_t_reg', 'participation'))

USAGE = """Reproduce the tables of the CCKD paper (arXiv:2107.06993) with seeds and 95 % confidence intervals.

    python launch/reproduce.py --tables=2,6,7 --datasets=mnist --seeds=3 --workdir=DIR [--data_dir=DIR]
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
        check(expand(values.check))
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
    print(texts(workdir, names=values.tables, datasets=datasets)['tables.md'])
    print(f'the tables are in {workdir / "tables.md"}')
    if values.commit is not None:
        commit(workdir, expand(values.commit))
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
        export=lambda folder, content: write(folder, folder, names=names, datasets=list(configs)),
    )
    return engine.run(study, configs, workdir, seeds=seeds, **arguments)


def write(folder: Path, source: Path, *, names: Sequence[str], datasets: Sequence[str]) -> None:
    """Writes `tables.md`, `tables.csv`, `claims.md` and the figures of finished runs.

    Args:
      folder: receives the files.
      source: contains the runs.
      names: keys of `tables.TABLES`.
      datasets: to show.
    """
    for name, text in texts(source, names=names, datasets=datasets).items():
        write_text(folder / name, text)
    finished = records.read(source)
    shown = [dataset for dataset in datasets if any(record['dataset'] == dataset for record in finished)]
    if not shown:
        return
    figures.accuracy(folder / 'accuracy.png', finished, shown)
    for name, draw in (('temperatures', figures.temperatures), ('teacher_epochs', figures.teacher_epochs)):
        missing = {row.run for row in tables.TABLES[name].rows}.difference(record['row'] for record in finished)
        if name in names and not missing:
            draw(folder / f'{name}.png', finished, shown)
    _copy_figures(source, folder)


def texts(source: Path, *, names: Sequence[str], datasets: Sequence[str]) -> dict[str, str]:
    """The text files of a reproduction by name.

    Args:
      source: contains the runs.
      names: keys of `tables.TABLES`.
      datasets: to show; those without a run are shown as such.

    Returns:
      Contents by file name.
    """
    finished = records.read(source)
    blocks = [
        '# The tables of the CCKD paper\n',
        f"Ours: means over seeds ± 95 % confidence interval (Student's t). {rendering.OUTSIDE} marks an interval that "
        "excludes the paper's number. Generated by `launch/reproduce.py` from the `results.json` of every run.\n",
    ]
    rows = []
    for name in names:
        shown = _shown(name, datasets)
        blocks.append(rendering.render(name, finished, shown))
        rows += rendering.cells(name, finished, shown)
    comparisons = [claims.compare(finished, dataset) for dataset in datasets]
    tested = [
        f'## {dataset}\n\n{claims.render(comparison)}\n'
        for dataset, comparison in zip(datasets, comparisons, strict=True)
        if comparison
    ]
    heading = (
        '# Differences between methods that share teacher and seed\n\n'
        'Paired t-tests; the p-values of a data set are adjusted together (Benjamini and Hochberg).\n'
    )
    if not tested:
        tested = ['No two methods share two seeds yet.\n']
    return {
        'tables.md': '\n'.join(blocks),
        'tables.csv': rendering.render_csv(rows),
        'claims.md': '\n'.join([heading, *tested]),
    }


def _copy_figures(source: Path, folder: Path) -> None:
    """Copies figures of the first seed: adversarial samples, which are the paper's Figures 3-5, and the kept shares."""
    for row, name in _COPIED_FIGURES:
        for path in source.glob(f'*/seed0/{row}/figures/{name}.png'):
            shutil.copyfile(path, folder / f'{name}_{path.relative_to(source).parts[0]}.png')


def _shown(name: str, datasets: Sequence[str]) -> list[str]:
    """The requested data sets that a table shows."""
    return [dataset for dataset in datasets if dataset in (*tables.TABLES[name].datasets, STAND_IN)]


def _choose_datasets(names: Sequence[str], requested: Sequence[str] | None) -> list[str]:
    """The data sets to run: those requested, or those of the tables that two cores can train.

    Raises:
      InputError: there is no such table or data set, no table shows a data set, or none is left.
    """
    for name in names:
        lookup(tables.TABLES, name, 'table')
    for dataset in requested or ():
        lookup(DATASETS, dataset, 'data set')
        if not any(_shown(name, [dataset]) for name in names):
            raise InputError(f'no table of --tables={",".join(names)} shows {dataset}; leave it out of --datasets')
    default = [name for name, dataset in DATASETS.items() if not dataset.by_name_only]
    datasets = list(requested or ()) or [name for name in default if any(_shown(table, [name]) for table in names)]
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


def commit(workdir: Path, folder: Path) -> None:
    """Copies tables, figures, and the results of every run into a folder of the repository.

    Args:
      workdir: of the reproduction.
      folder: receives the files; all tables are written there, those of data sets without runs as not run.
    """
    records.copy_runs(workdir, folder / RUNS)
    write(folder, folder / RUNS, names=list(tables.TABLES), datasets=_committed_datasets(folder))
    _copy_figures(workdir, folder)
    log(f'the results of {len(records.read(folder / RUNS))} runs are in {folder}')


def check(folder: Path) -> None:
    """Regenerates the committed tables from the committed results.

    Args:
      folder: has `tables.md`, `tables.csv`, `claims.md`, and the runs below `runs/`.

    Raises:
      InputError: a file is missing or differs.
    """
    finished = records.read(folder / RUNS)
    if not finished:
        raise InputError(f'{folder / RUNS} contains no results; give the directory with --check=DIR')
    for name, text in texts(folder / RUNS, names=list(tables.TABLES), datasets=_committed_datasets(folder)).items():
        path = folder / name
        if not path.exists() or path.read_text(encoding='utf-8') != text:
            raise InputError(
                f'{path} differs from its results; regenerate it with launch/reproduce.py --commit={folder}'
            )
    print(f'{folder}: the tables agree with the results of {len(finished)} runs')


def _committed_datasets(folder: Path) -> list[str]:
    """The data sets of the paper, and the digits if they have runs."""
    return [name for name in DATASETS if name != STAND_IN or (folder / RUNS / name).exists()]


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
    flags.DEFINE_string('check', None, 'Directory to check.', flag_values=values)
    return values

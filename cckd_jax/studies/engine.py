"""Runs a study: rejects what cannot work, executes what is missing, and writes the tables after every run."""

import functools
import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from cckd_jax import config as settings, experiment
from cckd_jax.console import log
from cckd_jax.errors import InputError
from cckd_jax.experiment import EVALUATION
from cckd_jax.io import write_json, write_text
from cckd_jax.studies import execution, summary, tables
from cckd_jax.studies.jobs import Job, select_shard
from cckd_jax.studies.study import Options, Study


def run(
    study: Study,
    configs: Mapping[str, ConfigDict],
    workdir: str | Path,
    *,
    seeds: int,
    rows: Sequence[str] | None = None,
    processes: int | None = None,
    seeds_together: int = 1,
    shard: tuple[int, int] = (1, 1),
    devices: Sequence[jax.Device] | None = None,
    **values: Any,
) -> dict[str, Any]:
    """Runs what is missing of a study and writes its tables after every run.

    Finished runs are not repeated and interrupted ones resume. A finished run with other settings of the evaluation is
    evaluated again, without training. A failed run does not stop the others; its dependents are skipped. The tables
    include every finished run of the workdir, whichever call or shard it belongs to.

    Args:
      study: what to run.
      configs: by the name that they have in the tables.
      workdir: of the study; every run has its own directory below.
      seeds: how many, from 0.
      rows: of the tables; those of the study's default if None.
      processes: how many runs at a time, each in its own process with its share of the cores; 1 runs all in this
        process. If None, one per core on a CPU, else 1; 1 if `devices` are given, or for `seeds_together` above 1.
      seeds_together: how many seeds of a row train in one program.
      shard: `(i, n)` runs the i-th of n shards, counted from 1.
      devices: of runs in this process; all local devices if None.
      **values: of the study's own options.

    Returns:
      The content of `study.json`: `study`, `options`, `rows`, `differences`, `runs` and `failures`.

    Raises:
      InputError: a run cannot use its settings, or the workdir holds finished runs with other settings. Nothing has
        been run then.
    """
    options = study.resolve(configs, workdir, seeds=seeds, rows=rows, **values)
    jobs = list(study.jobs(options))
    selected = select_shard(jobs, shard)
    processes = min(_resolve_processes(processes, devices, seeds_together), max(1, len(selected)))
    (finished, outdated) = _check(study, jobs, options.workdir)
    schedule = execution.Schedule(selected, [job.name for job in selected if job.name in finished], processes=processes)
    files = _Files(study, options, jobs, outdated)
    log(f'{study.name}: {schedule.done} of {schedule.total} runs are finished')
    files.write(schedule)
    execution.execute(
        schedule,
        options.workdir,
        processes=processes,
        seeds_together=seeds_together,
        devices=devices,
        on_finish=lambda: files.write(schedule),
    )
    return files.content


def _check(study: Study, jobs: Sequence[Job], workdir: Path) -> tuple[set[str], set[str]]:
    """Makes the workdir; returns the names of finished jobs, and of those that must be evaluated again.

    Raises:
      InputError: a job cannot run, a finished run has other settings, or the workdir cannot be made.
    """
    finished: set[str] = set()
    outdated: set[str] = set()
    for job in jobs:
        try:
            experiment.check(job.config)
        except InputError as error:
            raise InputError(f'{job.name}: {error}') from None
        if job.config.num_students > 1 and not study.several_students:
            raise InputError(
                f'{job.name}: the study {study.name} measures one student, and num_students={job.config.num_students}; '
                'set --config.num_students=1'
            )
        if execution.is_complete(workdir / job.name):
            (outdated if _evaluation_differs(job, workdir) else finished).add(job.name)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'cannot use workdir {workdir} ({error}); give another --workdir') from None
    return finished, outdated


class _Files:
    """Reads finished runs, each of them once, and writes the files of the study."""

    def __init__(self, study: Study, options: Options, jobs: Sequence[Job], outdated: Set[str]):
        self._study, self._options, self._jobs, self._outdated = study, options, jobs, outdated
        self._records: dict[str, list[summary.Record]] = {}
        self.content: dict[str, Any] = {}

    def write(self, schedule: execution.Schedule) -> None:
        """Writes `study.json`, whose content it keeps, `study.md`, `study.csv` and `study.png`."""
        workdir = self._options.workdir
        for job in self._jobs:
            folder = workdir / job.name
            current = job.name not in self._outdated or job.name in schedule.succeeded
            if job.name not in self._records and current and execution.is_complete(folder):
                self._records[job.name] = summary.make_records(self._study, job, _read(folder / 'results.json'))
        records = [record for job in self._jobs for record in self._records.get(job.name, ())]
        failures = [
            {
                'run': name,
                'error': error,
                'skipped': [skipped for skipped, cause in schedule.skipped.items() if cause == name],
            }
            for name, error in schedule.failures.items()
        ]
        self.content = {
            'study': self._study.name,
            'options': {
                'configs': list(self._options.configs),
                'seeds': self._options.seeds,
                'methods': list(self._options.rows),
                **self._options.values,
            },
            **summary.summarize(self._study, records),
            'failures': failures,
        }
        write_json(workdir / 'study.json', self.content)
        write_text(workdir / 'study.md', tables.render(self._study, self.content))
        write_text(workdir / 'study.csv', tables.render_csv(records))
        if records and self._study.figure is not None:
            self._study.figure(workdir / 'study.png', self.content)
        if records and self._study.export is not None:
            self._study.export(workdir, self.content)


def _resolve_processes(processes: int | None, devices: Sequence[jax.Device] | None, seeds_together: int) -> int:
    if seeds_together < 1:
        raise InputError(f'seeds_together={seeds_together} must be above 0; set --seeds_together')
    if seeds_together > 1 and (processes or 1) > 1:
        raise InputError(
            f'seeds_together={seeds_together} trains in one process, and processes={processes}; leave one of them out'
        )
    if processes is None:
        return execution.default_processes() if devices is None and seeds_together == 1 else 1
    if processes < 1:
        raise InputError(f'processes={processes} must be above 0; set --processes')
    if devices is not None and processes > 1:
        raise ValueError('devices are those of this process; they cannot be passed on to several processes')
    return processes


def _evaluation_differs(job: Job, workdir: Path) -> bool:
    """Whether a finished run has other settings of the evaluation than its job.

    Paths below the workdir may begin otherwise, so that the workdir can be moved and shards of several machines can be
    merged.

    Raises:
      InputError: the run has other settings of its training.
    """
    differs = False
    flat = functools.partial(flatten_dict, sep='.')
    # A setting that is younger than the run had its default value.
    stored = flat(settings.as_dict(settings.default())) | flat(_read(workdir / job.name / 'config.json'))
    wanted = flat(settings.as_dict(job.config))
    for name in sorted(stored.keys() | wanted.keys()):
        (before, now) = (stored.get(name), wanted.get(name))
        moved = str(now).startswith(f'{workdir}/') and str(before).endswith(str(now).removeprefix(str(workdir)))
        if before == now or moved or name.startswith(settings.WITHOUT_EFFECT):
            continue
        if not name.startswith(EVALUATION):
            raise InputError(
                f'{workdir / job.name} holds a run with {name}={before}, this study has {now}; give another --workdir, '
                'or the settings of that study'
            )
        differs = True
    return differs


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise InputError(f'cannot read {path} ({error}); delete {path.parent} to repeat the run') from None

"""Executes jobs in the order of their dependencies, in this process or in several."""

import contextlib
import os
import queue
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent import futures
from pathlib import Path

import jax
import numpy as np

from cckd_jax import cpu, experiment
from cckd_jax.console import log
from cckd_jax.errors import InputError
from cckd_jax.studies.jobs import Job

# Lines of a failed run that are shown.
_LAST_LINES = 12
LOG = 'log.txt'

# What a job ends with: None, or the last lines of a run that failed.
Outcome = str | None


class WorkerError(Exception):
    """A run failed in its own process."""


class Schedule:
    """Which jobs are ready, running, finished, failed or skipped, and how long the rest will take."""

    def __init__(self, jobs: Sequence[Job], finished: Sequence[str] = (), *, processes: int = 1):
        """Starts with the jobs that are not finished.

        Args:
          jobs: all jobs; dependencies precede their dependents.
          finished: names of jobs that are complete.
          processes: how many jobs run at a time.
        """
        self.total = len(jobs)
        self.done = len(finished)
        self.failures: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self._processes = processes
        self.succeeded = set(finished)
        self._waiting = [job for job in jobs if job.name not in self.succeeded]
        self._running: dict[str, Job] = {}
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def next(self) -> Job | None:
        """Takes the first job whose dependencies are finished; None if there is none at the moment."""
        for job in self._waiting:
            if self.succeeded.issuperset(job.needs):
                self._waiting.remove(job)
                self._running[job.name] = job
                return job
        return None

    def next_seeds(self, limit: int) -> list[Job]:
        """Takes the first job whose dependencies are finished, and the same job of other seeds, at most `limit`."""
        first = self.next()
        if first is None:
            return []
        jobs = [first]
        key = lambda job: (job.dataset, job.row, job.level)
        for job in list(self._waiting):
            if len(jobs) < limit and key(job) == key(first) and self.succeeded.issuperset(job.needs):
                self._waiting.remove(job)
                self._running[job.name] = job
                jobs.append(job)
        return jobs

    def finish(self, job: Job, outcome: Outcome, seconds: float) -> None:
        """Records how a job ended; the dependents of a failed job are skipped.

        Args:
          job: a job that `next` returned.
          outcome: None, or the last lines of a run that failed.
          seconds: how long the job took.
        """
        del self._running[job.name]
        if outcome is None:
            self.done += 1
            self.succeeded.add(job.name)
            self._seconds[job.row].append(seconds)
            return
        self.failures[job.name] = outcome
        # Dependencies precede dependents, so one pass reaches the dependents of dependents.
        for dependent in list(self._waiting):
            broken = [name for name in dependent.needs if name in self.failures or name in self.skipped]
            if broken:
                self._waiting.remove(dependent)
                self.skipped[dependent.name] = self.skipped.get(broken[0], broken[0])

    def seconds_left(self) -> float | None:
        """Estimates the remaining time: each job takes the mean time of its row, or of all rows if it is the first."""
        if not self._seconds:
            return None
        overall = np.mean([value for row in self._seconds.values() for value in row])
        jobs = [*self._waiting, *self._running.values()]
        left = sum(float(np.mean(self._seconds.get(job.row, overall))) for job in jobs)
        return left / self._processes


def is_complete(folder: Path) -> bool:
    """Whether a run directory holds a finished run."""
    return all((folder / name).exists() for name in ('results.json', 'report.md'))


def default_processes() -> int:
    """One process for each core on a CPU, where a step does not keep several cores busy; one on an accelerator."""
    return len(cpu.cores()) if jax.default_backend() == 'cpu' else 1


def worker_command(folder: Path) -> list[str]:
    """The command of a process that reads a config from its standard input and runs it in a folder."""
    return [sys.executable, '-P', '-m', 'cckd_jax.studies.worker', str(folder)]


def execute(
    schedule: Schedule,
    workdir: Path,
    *,
    processes: int,
    seeds_together: int = 1,
    devices: Sequence[jax.Device] | None = None,
    on_finish: Callable[[], object],
) -> None:
    """Runs all jobs of a schedule; a failed run does not stop the others.

    Args:
      schedule: the jobs; holds the failures afterwards.
      workdir: of the study.
      processes: how many runs at a time, each in a process with its share of the cores; 1 runs all in this process.
      seeds_together: how many seeds of a job train in one program, in this process.
      devices: of runs in this process; all local devices if None.
      on_finish: called after each job.
    """
    if processes == 1:
        run_all = _one_by_one(schedule, workdir, devices, seeds_together)
    else:
        run_all = _in_parallel(schedule, workdir, processes)
    with contextlib.closing(run_all) as ended:
        for job, outcome, seconds in ended:
            schedule.finish(job, outcome, seconds)
            if outcome is not None:
                log(f'{job.name} failed:\n{outcome}')
            left = schedule.seconds_left()
            log(
                f'[{schedule.done}/{schedule.total}] {job.name} {"failed" if outcome else "finished"} '
                f'in {format_seconds(seconds)}' + (f', about {format_seconds(left)} left' if left else '')
            )
            on_finish()


def format_seconds(seconds: float) -> str:
    """Formats a duration.

    >>> format_seconds(3725.2)
    '1:02:05'
    """
    whole = round(seconds)
    return f'{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}'


def _one_by_one(
    schedule: Schedule, workdir: Path, devices: Sequence[jax.Device] | None, seeds_together: int
) -> Generator[tuple[Job, Outcome, float], None, None]:
    while jobs := schedule.next_seeds(seeds_together):
        shared = _train_together(jobs, workdir, devices) if len(jobs) > 1 else 0.0
        for job in jobs:
            folder = workdir / job.name
            run = lambda job=job, folder=folder: experiment.run(job.config, folder, devices=devices)
            (outcome, seconds) = _attempt(job, run)
            yield job, outcome, seconds + shared
        # Each run compiles its own programs, and some fifty runs would use up the memory mappings of a process.
        jax.clear_caches()


def _train_together(jobs: Sequence[Job], workdir: Path, devices: Sequence[jax.Device] | None) -> float:
    """Trains the networks of jobs in one program; returns the seconds for each of them.

    After any failure, such as too little memory for all seeds, the runs train what is missing one by one, and the one
    at fault says so.
    """
    started = time.monotonic()
    try:
        for job in jobs:
            if job.prepare is not None:
                job.prepare()
        folders = [workdir / job.name for job in jobs]
        experiment.train_seeds([job.config for job in jobs], folders, devices=devices)
    except Exception as error:
        reason = str(error).partition('\n')[0] or type(error).__name__
        log(f'{jobs[0].row}: {len(jobs)} seeds cannot train together ({reason}); they train one by one')
    return (time.monotonic() - started) / len(jobs)


def _in_parallel(
    schedule: Schedule, workdir: Path, processes: int
) -> Generator[tuple[Job, Outcome, float], None, None]:
    shares: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for share in np.array_split(cpu.cores(), processes):
        # If there are more processes than cores, those without a core of their own may use all.
        shares.put([int(core) for core in share] or cpu.cores())
    workers: dict[str, subprocess.Popen[bytes]] = {}

    def work(job: Job) -> tuple[Outcome, float]:
        share = shares.get()
        try:
            return _attempt(job, lambda: _run_worker(job, workdir / job.name, share, workers))
        finally:
            shares.put(share)

    with futures.ThreadPoolExecutor(processes) as pool:
        running: dict[futures.Future, Job] = {}
        try:
            while True:
                while len(running) < processes and (job := schedule.next()) is not None:
                    log(f'{job.name}: started, output in {workdir / job.name / LOG}')
                    running[pool.submit(work, job)] = job
                if not running:
                    return
                (ended, _) = futures.wait(running, return_when=futures.FIRST_COMPLETED)
                for future in ended:
                    yield running.pop(future), *future.result()
        finally:
            # After an interrupt the pool would wait for the workers; they resume where they are stopped.
            for worker in list(workers.values()):
                worker.terminate()


def _attempt(job: Job, run: Callable[[], object]) -> tuple[Outcome, float]:
    """Prepares and runs a job; a failure does not stop the other jobs."""
    started = time.monotonic()
    outcome = None
    try:
        if job.prepare is not None:
            job.prepare()
        run()
    except WorkerError as error:
        outcome = str(error)
    except InputError as error:
        outcome = f'error: {error}'
    except Exception:
        outcome = ''.join(traceback.format_exc().splitlines(keepends=True)[-_LAST_LINES:])
    return outcome, time.monotonic() - started


def _run_worker(job: Job, folder: Path, cores: Sequence[int], workers: dict[str, subprocess.Popen[bytes]]) -> None:
    """Runs a job in a process that may use these cores; its output goes to `log.txt` in the run directory.

    Raises:
      WorkerError: the process failed; the message has the last lines of its output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / LOG
    with log.open('wb') as output:
        worker = subprocess.Popen(
            worker_command(folder),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_worker_environment(),
        )
        workers[job.name] = worker
        if hasattr(os, 'sched_setaffinity'):
            # Before the interpreter has started threads, which inherit the cores.
            os.sched_setaffinity(worker.pid, cores)
        worker.communicate(job.config.to_json().encode())
    del workers[job.name]
    if worker.returncode:
        lines = log.read_text(encoding='utf-8', errors='replace').splitlines()[-_LAST_LINES:]
        raise WorkerError('\n'.join([*lines, f'exit status {worker.returncode}, output in {log}']))


def _worker_environment() -> Mapping[str, str]:
    """The environment of a worker, which imports the same modules from the same places as this process."""
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(path or os.getcwd() for path in sys.path)}

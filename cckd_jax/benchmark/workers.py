"""Measuring processes that take turns, so that other load on the machine slows all of them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from tqdm import tqdm

from cckd_jax.errors import InputError


class Worker:
    """A measuring process of this project or of a peer."""

    def __init__(self, command: Sequence[str], **environment: str):
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self._process.stdin is not None  # a pipe
        assert self._process.stdout is not None
        (self._requests, self._answers) = (self._process.stdin, self._process.stdout)

    def __enter__(self) -> 'Worker':
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._requests.close()
        self._answers.close()
        self._process.wait()

    def open(self, job: str, **fields: Any) -> None:
        """Starts a job, which replaces the one before."""
        self._ask({'open': job, **fields})

    def measure(self) -> dict[str, Any]:
        """Repeats the work of the job and returns its measurements."""
        return self._ask({'next': True})

    def once(self, job: str, **fields: Any) -> dict[str, Any]:
        """Starts a job and does its work once."""
        self.open(job, **fields)
        return self.measure()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            print(json.dumps(request), file=self._requests, flush=True)
            answer = self._answers.readline()
        except BrokenPipeError:
            answer = ''
        if not answer:
            raise InputError(f'the measuring process ended during {request}; its messages are above')
        return json.loads(answer)


def own_worker(**environment: str) -> Worker:
    """Starts a measuring process of this project."""
    return Worker(['-m', 'cckd_jax.benchmark.jobs'], **environment)


def interleave(workers: Mapping[str, Worker], *, rounds: int, title: str) -> dict[str, list[dict[str, Any]]]:
    """Returns the measurements of each worker in each round, without those of a first round that compiles."""
    measurements: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for index in tqdm(range(rounds + 1), title, leave=False, disable=None):
        for name, worker in workers.items():
            measurement = worker.measure()
            if index:
                measurements[name].append(measurement)
    return measurements


def median_min_max(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Returns median, minimum (`least`) and maximum (`most`)."""
    return {'median': float(np.median(values)), 'least': float(np.min(values)), 'most': float(np.max(values))}


def ratio(numerators: Sequence[float] | np.ndarray, denominators: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Returns median, minimum and maximum over the rounds of the ratio within a round."""
    return median_min_max(np.asarray(numerators) / np.asarray(denominators))

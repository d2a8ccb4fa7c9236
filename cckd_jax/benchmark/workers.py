"""Two processes that take turns, so that what slows the machine slows both; and what their numbers come to."""

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


class Side:
    """A measuring process: ours, or a peer's."""

    def __init__(self, command: Sequence[str], **environment: str):
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def __enter__(self) -> 'Side':
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def open(self, job: str, **fields: Any) -> None:
        """Starts a job; its predecessor ends."""
        self._ask({'open': job, **fields})

    def measure(self) -> dict[str, Any]:
        """Has the job do its work once more."""
        return self._ask({'next': True})

    def once(self, job: str, **fields: Any) -> dict[str, Any]:
        """Opens a job and has it do its work."""
        self.open(job, **fields)
        return self.measure()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ''
        if not answer:
            raise InputError(f'the measuring process ended while it did {request}; what it said is above')
        return json.loads(answer)


def ours(**environment: str) -> Side:
    """This project's side."""
    return Side(['-m', 'cckd_jax.benchmark.jobs'], **environment)


def in_turns(sides: Mapping[str, Side], *, rounds: int, title: str) -> dict[str, list[dict[str, Any]]]:
    """What each side measured in each of the rounds, after one that is dropped: it compiles and warms up."""
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for turn in tqdm(range(rounds + 1), title, leave=False, disable=None):
        for name, side in sides.items():
            found = side.measure()
            if turn:
                measured[name].append(found)
    return measured


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {'median': float(np.median(values)), 'least': float(np.min(values)), 'most': float(np.max(values))}


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Of each round's pair: how many times as large the first is."""
    return spread(np.asarray(above) / np.asarray(below))

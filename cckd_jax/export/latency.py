"""Milliseconds per image of exported files and of the student, on one core, in a process of its own.

Times are CPU times, which other programs hardly change. On one core they equal the latency of an idle machine.

python -m cckd_jax.export.latency RUN FILE...
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cckd_jax import cpu
from cckd_jax.errors import InputError

BATCHES = (1, 64)
STUDENT = 'student'

_ROUNDS = 30
_SECONDS = 10.0

# Median milliseconds per image, by file and batch size.
Latencies = Mapping[str, Mapping[str, float]]


def measure(run: Path, files: Sequence[Path]) -> Latencies:
    """Measures files and the student in JAX (`STUDENT`) in a process that is pinned to one core.

    A process of its own, because the threads of JAX keep the cores on which they started.

    Raises:
      InputError: the process fails.
    """
    command = [sys.executable, '-m', __name__, str(run), *map(str, files)]
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
    try:
        # In a session of its own, Ctrl-C does not reach it, and it ends without a traceback.
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env=environment, start_new_session=True
        )
    except subprocess.CalledProcessError as error:
        raise InputError(
            f'cannot measure latency: its process ended with status {error.returncode}; free some memory and repeat '
            'the command'
        ) from None
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints the latencies as JSON."""
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, cpu.cores()[-1:])
    cpu.tune()
    from cckd_jax.export import loading  # imports JAX, whose threads start on the core
    from cckd_jax.export.formats import Logits, open_file

    (run, *files) = map(Path, sys.argv[1:])
    student = loading.load(run)
    functions: dict[str, Logits] = {STUDENT: student, **{path.name: open_file(path) for path in files}}
    latencies: dict[str, dict[str, float]] = {name: {} for name in functions}
    for batch in BATCHES:
        images = np.random.default_rng(0).integers(0, 256, (batch, *student.image_shape)).astype(np.uint8)
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        for function in functions.values():
            function(images)  # compiles
        start = time.perf_counter()
        for _ in tqdm(range(_ROUNDS), f'latency, batch {batch}', leave=False, disable=None, delay=2):
            # In turns, so that other work, which empties the caches, affects all of them.
            for name, function in functions.items():
                before = time.process_time()
                function(images)
                seconds[name].append(time.process_time() - before)
            if time.perf_counter() - start > _SECONDS:
                break
        for name in functions:
            latencies[name][str(batch)] = 1000 * statistics.median(seconds[name]) / batch
    print(json.dumps(latencies))


if __name__ == '__main__':
    main()

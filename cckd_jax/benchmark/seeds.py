"""The job of the suite `seeds`: steps of several seeds in one program."""

import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from cckd_jax import training
from cckd_jax.benchmark.student import Student
from cckd_jax.methods import METHODS


def seeds(
    network: str, arrays: str, batch_size: int, steps: int, method: str, precision: str, count: int, form: str
) -> Iterator[dict[str, Any]]:
    """Measures seconds per step of all seeds, and seconds to compile it.

    Args:
      network: name of the network.
      arrays: an `.npz` file, as for `Student`.
      batch_size: of each seed.
      steps: of one measurement; on accelerators, one call runs more.
      method: name of the method.
      precision: of the network's computation.
      count: number of seeds.
      form: of `make_seeds_step`.
    """
    student = Student(network, arrays, METHODS[method], 'masked', precision)
    scan = student.steps_per_call > 1
    step = training.make_seeds_step(
        student.method, student.module, (), student.optimizer, devices=student.devices, scan=scan, form=form
    )
    (states, data) = zip(*map(student.begin, range(count)), strict=True)
    state = training.replicate(training.SeedsState.stack(states), student.devices)
    train_data = training.replicate(training.stack_data(data), student.devices)
    random = np.random.default_rng(0)
    steps = max(steps, student.steps_per_call)

    def seconds_per_step() -> float:
        nonlocal state
        shape = (steps, len(student.devices), count, batch_size // len(student.devices))
        indices = random.integers(0, len(student.split), shape).astype(np.int32)
        pending = None
        started = time.perf_counter()
        for batch in [np.swapaxes(indices, 0, 1)] if scan else indices:
            (state, metrics) = step(state, train_data, batch)
            if pending is not None:
                jax.device_get(pending)
            pending = metrics
        jax.device_get(pending)
        return (time.perf_counter() - started) / steps

    first = seconds_per_step() * steps
    while True:
        seconds_per_step()  # After another process ran, the first steps are slow: caches and pages were lost.
        seconds = seconds_per_step()
        yield {'seconds': seconds, 'compile_seconds': first - seconds * steps}

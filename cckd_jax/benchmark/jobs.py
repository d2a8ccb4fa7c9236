"""The jobs of a measuring process of this project: python -m cckd_jax.benchmark.jobs."""

import functools
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax import cache, cpu, data, evaluation, models, provenance, training
from cckd_jax.benchmark import protocol
from cckd_jax.benchmark.profile import profiled
from cckd_jax.benchmark.seeds import seeds
from cckd_jax.benchmark.streaming import streaming
from cckd_jax.benchmark.student import Student
from cckd_jax.methods import METHODS, SELF_REGULATED_RECHECK
from cckd_jax.report.metrics import MetricsWriter
from cckd_jax.robustness import PROPAGATIONS

Measurements = Iterator[dict[str, Any]]


def step(network: str, arrays: str, batch_size: int, steps: int, method: str, precision: str) -> Measurements:
    """Measures seconds per masked step. Metrics are fetched as in training, and as many untimed steps go before.

    On accelerators, one call runs 100 steps, as in training, and `steps` has no effect.
    """
    student = Student(network, arrays, METHODS[method], 'masked', precision)
    (state, train_data) = student.begin()
    random = np.random.default_rng(0)
    steps = max(steps, student.steps_per_call)

    def seconds_per_step() -> float:
        nonlocal state
        shape = (steps, len(student.devices), batch_size // len(student.devices))
        indices = random.integers(0, len(student.split), shape).astype(np.int32)
        pending = None
        started = time.perf_counter()
        for batch in [np.swapaxes(indices, 0, 1)] if student.steps_per_call > 1 else indices:
            (state, metrics) = student.step(state, train_data, batch)
            if pending is not None:
                jax.device_get(pending)
            pending = metrics
        jax.device_get(pending)
        return (time.perf_counter() - started) / steps

    while True:
        seconds_per_step()  # After another process ran, the first steps are slow: caches and pages were lost.
        yield {'seconds': seconds_per_step()}


def forward(network: str, arrays: str, batch_size: int, steps: int, precision: str) -> Measurements:
    """Measures seconds per batch from uint8 pixels to logits in inference mode, over all devices."""
    student = Student(network, arrays, METHODS['kd'], 'masked', precision)
    variables = student.begin()[0].student
    pixels = student.split.images[np.arange(batch_size) % len(student.split)]
    on_devices = functools.partial(jax.pmap, devices=student.devices)
    pixels = on_devices(lambda pixels: pixels)(pixels.reshape(len(student.devices), -1, *pixels.shape[1:]))
    predict = on_devices(
        lambda variables, pixels: models.Network(student.module, variables)(data.to_unit(pixels)), in_axes=(None, 0)
    )

    def seconds_per_batch() -> float:
        pending = None
        started = time.perf_counter()
        for _ in range(steps):
            logits = predict(variables, pixels)
            # One call runs ahead, as in an evaluation, whose time is not that of launches.
            jax.block_until_ready(pending)
            pending = logits
        jax.block_until_ready(pending)
        return (time.perf_counter() - started) / steps

    while True:
        seconds_per_batch()
        yield {'seconds': seconds_per_batch()}


def robustness(network: str, arrays: str, task: str, images: int, precision: str) -> Measurements:
    """Measures seconds per image of an attack or a bound, for one batch and a network with its initial weights.

    The confidence gap is that of two networks of the same kind; `square` has 100 queries, `pgd` 20 steps.
    """
    student = Student(network, arrays, METHODS['separate'], 'masked', precision)
    variables = [student.begin(seed)[0].student for seed in (0, 1)]
    pixels, labels = jnp.asarray(student.split.images[:images]), jnp.asarray(student.split.labels[:images])
    keys = jax.random.split(jax.random.key(0), images)
    networks = lambda variables: tuple(models.Network(student.module, values) for values in variables)
    work = jax.jit(lambda variables, pixels: ROBUSTNESS[task](*networks(variables), pixels, labels, keys))

    while True:
        started = time.perf_counter()
        jax.block_until_ready(work(variables, data.to_unit(pixels)))
        yield {'seconds': (time.perf_counter() - started) / images}


_RADIUS = 0.1


def _bounds(method: str, network: models.Network, other: models.Network, images: Any, labels: Any, keys: Any) -> Any:
    return evaluation.difference_bounds(network, images, labels, _RADIUS, method=method)


# Each takes two networks, images, labels and keys.
ROBUSTNESS: Mapping[str, Callable[..., Any]] = {
    'forward': lambda network, other, images, labels, keys: network(images),
    'fgsm': lambda network, other, images, labels, keys: evaluation.fgsm(network, images, labels, epsilon=_RADIUS),
    'pgd': lambda network, other, images, labels, keys: evaluation.pgd(
        network, images, labels, epsilon=_RADIUS, steps=20, key=keys
    ),
    'square': lambda network, other, images, labels, keys: evaluation.square(
        network, images, labels, epsilon=_RADIUS, queries=100, key=keys
    ),
    **{f'bounds, {method}': functools.partial(_bounds, method) for method in PROPAGATIONS},
    'gap, crown_ibp': lambda network, other, images, labels, keys: evaluation.confidence_gap_bounds(
        network, other, images, labels, _RADIUS, method='crown_ibp'
    ),
}


def epochs(
    network: str,
    arrays: str,
    batch_size: int,
    epochs: int,
    alpha: float,
    mode: str,
    precision: str,
    method: str = 'cckd_t_reg',
    examples: int | None = None,
) -> Measurements:
    """Trains a new student for some epochs as a run does, with metrics, events and checkpoints."""
    row = METHODS[method]
    if mode == 'recheck':
        row = row.with_gate(SELF_REGULATED_RECHECK)
    student = Student(network, arrays, row.override(alpha=alpha), mode, precision, examples)
    schedule = training.Schedule(epochs, batch_size, 0, np.arange(len(student.split)), student.steps_per_call)
    while True:
        (state, train_data) = student.begin()
        with tempfile.TemporaryDirectory() as folder, training.Checkpoints(Path(folder), {}) as checkpoints:
            writer = MetricsWriter(Path(folder))
            (state, rows) = training.train(
                student.step,
                state,
                train_data,
                schedule,
                checkpoints=checkpoints,
                observers=(writer,),
                devices=student.devices,
            )
            writer.close()
        logits = evaluation.predict(
            models.Network(student.module, jax.device_get(state.student)), student.test.images, devices=student.devices
        )
        yield {
            'epoch_seconds': [row['epoch_seconds'] for row in rows],
            'kept_share': [row['kept_share'] for row in rows],
            'test_accuracy': float(evaluation.correct(logits, student.test.labels).mean()),
        }


def compiled(
    network: str, arrays: str, batch_size: int, method: str, precision: str, examples: int | None = None
) -> Measurements:
    """Measures seconds to compile a step without a cache, and memory and FLOPs of the compiled program.

    FLOPs are XLA's estimate for one step on one device.
    """
    jax.config.update('jax_enable_compilation_cache', False)
    student = Student(network, arrays, METHODS[method], 'masked', precision, examples)
    (state, train_data) = student.begin()
    batch = (len(student.devices), batch_size // len(student.devices))
    shape = (batch[0], student.steps_per_call, batch[1]) if student.steps_per_call > 1 else batch
    step: Any = student.step  # the type of steps does not promise `lower`, which pmapped functions have
    while True:
        started = time.perf_counter()
        program = step.lower(state, train_data, np.zeros(shape, np.int32)).compile()
        seconds = time.perf_counter() - started
        memory = program.memory_analysis()
        yield {
            'compile_seconds': seconds,
            'argument_bytes': memory.argument_size_in_bytes,
            'temporary_bytes': memory.temp_size_in_bytes,
            # XLA counts the body of a loop once.
            'flops': program.cost_analysis().get('flops'),
        }


def profile(network: str, arrays: str, batch_size: int, method: str, precision: str, trace: str) -> Measurements:
    """Measures where the time of a call of the step goes, on CPUs of ten calls; `trace` is a folder for the trace."""
    student = Student(network, arrays, METHODS[method], 'masked', precision)
    (state, train_data) = student.begin()
    calls = 1 if student.steps_per_call > 1 else 10
    shape = (len(student.devices), student.steps_per_call, batch_size // len(student.devices))
    indices = np.random.default_rng(0).integers(0, len(student.split), shape).astype(np.int32)
    indices = indices if student.steps_per_call > 1 else indices[:, 0]

    def train() -> None:
        nonlocal state
        for _ in range(calls):
            (state, metrics) = student.step(state, train_data, indices)
            jax.device_get(metrics)

    train()
    while True:
        yield {'steps': calls * student.steps_per_call, **profiled(train, Path(trace))}


def teacher(arrays: str, epochs: int) -> Measurements:
    """Trains a LeNet-5 on the arrays and adds its logits to the file."""
    path = Path(arrays)
    loaded = dict(np.load(path))
    loaded['teacher_logits'] = np.zeros((len(loaded['labels']), 1 + int(loaded['labels'].max())), np.float32)
    np.savez(path, **loaded)
    student = Student('lenet5', arrays, METHODS['separate'], 'masked', 'float32')
    (state, train_data) = student.begin()
    for epoch in range(epochs):
        for indices in data.epoch_batches(np.arange(len(student.split)), batch_size=512, seed=0, epoch=epoch):
            indices = indices.reshape(len(student.devices), -1)
            (state, metrics) = student.step(
                state, train_data, indices[:, None] if student.steps_per_call > 1 else indices
            )
            jax.block_until_ready(metrics)
    network = models.Network(student.module, jax.device_get(state.student))
    loaded['teacher_logits'] = evaluation.predict(network, student.split.images, devices=student.devices)
    np.savez(path, **loaded)
    yield {'train_accuracy': float(evaluation.correct(loaded['teacher_logits'], student.split.labels).mean())}


def matrix_product(precision: str) -> Measurements:
    """Measures FLOP/s of products of large square matrices, over all devices: a peak that programs can reach."""
    devices = jax.local_devices()
    (size, products) = (1024, 4) if devices[0].platform == 'cpu' else (8192, 16)
    shape = (len(devices), size, size)
    factor = jax.pmap(lambda key: jax.random.normal(key, shape[1:], jnp.dtype(precision)), devices=devices)(
        jax.random.split(jax.random.key(0), len(devices))
    )
    multiply = jax.pmap(lambda left, right: left @ right, devices=devices)
    jax.block_until_ready(multiply(factor, factor))
    while True:
        product = factor
        started = time.perf_counter()
        for _ in range(products):
            product = multiply(factor, factor)
        jax.block_until_ready(product)
        seconds = (time.perf_counter() - started) / products
        yield {'flops_per_second': 2 * len(devices) * size**3 / seconds, 'devices': len(devices)}


def machine_info() -> Measurements:
    """Returns the devices, the versions, the XLA flags, and the peak memory of this process so far."""
    device = jax.local_devices()[0]
    versions = provenance.versions(('cckd-jax', 'jax', 'jaxlib', 'flax', 'optax'))
    while True:
        yield {
            'device': f'{jax.local_device_count()} x {device.device_kind}',
            'platform': device.platform,
            'devices': jax.local_device_count(),
            'versions': versions | {'python': platform.python_version()},
            'driver': _driver(),
            'xla_flags': os.environ.get('XLA_FLAGS', ''),
            'peak_bytes': protocol.peak_bytes(),
            'device_peak_bytes': (device.memory_stats() or {}).get('peak_bytes_in_use'),
        }


def _driver() -> str | None:
    """Returns the version of the NVIDIA driver, or None on other machines."""
    if shutil.which('nvidia-smi') is None:
        return None
    command = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split('\n')[0].strip() or None


if __name__ == '__main__':
    cpu.tune()
    cache.keep_compiled_programs()
    protocol.serve(
        {
            'step': step,
            'forward': forward,
            'robustness': robustness,
            'seeds': seeds,
            'streaming': streaming,
            'epochs': epochs,
            'compiled': compiled,
            'matrix_product': matrix_product,
            'profile': profile,
            'teacher': teacher,
            'machine_info': machine_info,
        }
    )

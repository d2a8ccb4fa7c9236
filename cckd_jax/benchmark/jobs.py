"""What is measured on this project's side, in a process of its own: python -m cckd_jax.benchmark.jobs."""

import importlib.metadata
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cckd_jax import cache, cpu, data, evaluation, models, training
from cckd_jax.benchmark import protocol
from cckd_jax.methods import METHODS, SELF_REGULATED_RECHECK, Method
from cckd_jax.reporting.metrics import MetricsWriter
from cckd_jax.robustness.propagation import PROPAGATIONS
from cckd_jax.training.state import TrainData, TrainState

Measured = Iterator[dict[str, Any]]


class Student:
    """A network, its data on the devices, and a method's step."""

    def __init__(self, network: str, arrays: str, method: Method, way: str, examples: int | None = None):
        loaded = np.load(arrays)
        self.split = data.Split(loaded['images'][:examples], loaded['labels'][:examples])
        self.test = data.Split(loaded['test_images'], loaded['test_labels'])
        self.method, self.devices = method, jax.local_devices()
        self.module = models.create(network, loaded['teacher_logits'].shape[-1])
        self.optimizer = optax.adam(method.learning_rate)
        self.aux = {'teacher_logits': loaded['teacher_logits'][:examples, None]}
        self.on_cpu = self.devices[0].platform == 'cpu'
        self.scan = not self.on_cpu and way != 'recheck'
        compact = training.make_compact_step if self.on_cpu else training.make_compact_step_on_device
        make = training.make_step if way == 'masked' else compact
        scan = {'scan': True} if self.scan else {}
        self.step = make(method, self.module, (), self.optimizer, devices=self.devices, **scan)

    def begin(self, seed: int = 0) -> tuple[TrainState, TrainData]:
        """A new student, and what it learns from."""
        key = jax.random.key(seed)
        state = training.initial_state(self.method, self.module, (), self.optimizer, self.split, key)
        frozen = training.train_data(self.split, self.aux, key)
        return training.replicate(state, self.devices), training.replicate(frozen, self.devices)


def step(network: str, arrays: str, batch_size: int, steps: int, method: str) -> Measured:
    """Seconds a step of the masked reference, its metrics fetched as the loop does; as many steps go before, untimed.

    On accelerators the steps are one dispatch.
    """
    student = Student(network, arrays, METHODS[method], 'masked')
    (state, frozen) = student.begin()
    random = np.random.default_rng(0)

    def take() -> float:
        nonlocal state
        shape = (steps, len(student.devices), batch_size // len(student.devices))
        indices = random.integers(0, len(student.split), shape).astype(np.int32)
        pending = None
        started = time.perf_counter()
        for each in [np.swapaxes(indices, 0, 1)] if student.scan else indices:
            (state, metrics) = student.step(state, frozen, each)
            if pending is not None:
                jax.device_get(pending)
            pending = metrics
        jax.device_get(pending)
        return (time.perf_counter() - started) / steps

    while True:
        take()  # After its neighbour's turn a process is slow at first: caches, and pages that the system took back.
        yield {'seconds': take()}


def forward(network: str, arrays: str, batch_size: int, steps: int) -> Measured:
    """Seconds that a batch takes from uint8 pixels to logits, in inference mode."""
    student = Student(network, arrays, METHODS['kd'], 'masked')
    variables = student.begin()[0].student
    pixels = jnp.asarray(student.split.images[np.arange(batch_size) % len(student.split)])
    predict = jax.jit(lambda variables, pixels: models.Network(student.module, variables)(data.to_unit(pixels)))

    def take() -> float:
        started = time.perf_counter()
        for _ in range(steps):
            jax.block_until_ready(predict(variables, pixels))
        return (time.perf_counter() - started) / steps

    while True:
        take()
        yield {'seconds': take()}


def around(network: str, arrays: str, what: str, images: int) -> Measured:
    """Seconds an image that an attack or a bound takes, on images of one batch and a network with its first weights.

    The gap is of two networks of the same kind; `square` has 100 queries, `pgd` 20 steps.
    """
    student = Student(network, arrays, METHODS['separate'], 'masked')
    both = [student.begin(seed)[0].student for seed in (0, 1)]
    pixels, labels = jnp.asarray(student.split.images[:images]), jnp.asarray(student.split.labels[:images])
    keys = jax.random.split(jax.random.key(0), images)
    networks = lambda both: [models.Network(student.module, variables) for variables in both]
    work = jax.jit(lambda both, pixels: AROUND[what](*networks(both), pixels, labels, keys))

    while True:
        started = time.perf_counter()
        jax.block_until_ready(work(both, data.to_unit(pixels)))
        yield {'seconds': (time.perf_counter() - started) / images}


_RADIUS = 0.1
AROUND = {
    'forward': lambda network, other, images, labels, keys: network(images),
    'fgsm': lambda network, other, images, labels, keys: evaluation.fgsm(network, images, labels, epsilon=_RADIUS),
    'pgd': lambda network, other, images, labels, keys: evaluation.pgd(
        network, images, labels, epsilon=_RADIUS, steps=20, key=keys
    ),
    'square': lambda network, other, images, labels, keys: evaluation.square(
        network, images, labels, epsilon=_RADIUS, queries=100, key=keys
    ),
    **{
        f'bounds, {method}': lambda network, other, images, labels, keys, method=method: evaluation.difference_bounds(
            network, images, labels, _RADIUS, method=method
        )
        for method in PROPAGATIONS
    },
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
    way: str,
    method: str = 'cckd_t_reg',
    examples: int | None = None,
) -> Measured:
    """Trains a new student for some epochs, as a run does: order, loop, metrics, events and checkpoints."""
    row = METHODS[method]
    if way == 'recheck':
        row = row.with_gate(SELF_REGULATED_RECHECK)
    student = Student(network, arrays, row.override(alpha=alpha), way, examples)
    schedule = training.Schedule(epochs, batch_size, 0, np.arange(len(student.split)), 100 if student.scan else 1)
    while True:
        (state, frozen) = student.begin()
        with tempfile.TemporaryDirectory() as folder, training.Checkpoints(Path(folder), {}) as checkpoints:
            writer = MetricsWriter(Path(folder))
            (state, rows) = training.train(
                student.step,
                state,
                frozen,
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


def compiled(network: str, arrays: str, batch_size: int, method: str, examples: int | None = None) -> Measured:
    """Seconds to compile a step with nothing cached, and the bytes that its program holds."""
    jax.config.update('jax_enable_compilation_cache', False)
    student = Student(network, arrays, METHODS[method], 'masked', examples)
    (state, frozen) = student.begin()
    batch = (len(student.devices), batch_size // len(student.devices))
    shape = (batch[0], 100, batch[1]) if student.scan else batch
    while True:
        started = time.perf_counter()
        program = student.step.lower(state, frozen, np.zeros(shape, np.int32)).compile()
        seconds = time.perf_counter() - started
        memory = program.memory_analysis()
        yield {
            'compile_seconds': seconds,
            'argument_bytes': memory.argument_size_in_bytes,
            'temporary_bytes': memory.temp_size_in_bytes,
        }


def teacher(arrays: str, epochs: int) -> Measured:
    """Trains a LeNet-5 on the arrays and yields its logits' file."""
    path = Path(arrays)
    loaded = dict(np.load(path))
    loaded['teacher_logits'] = np.zeros((len(loaded['labels']), 1 + int(loaded['labels'].max())), np.float32)
    np.savez(path, **loaded)
    student = Student('lenet5', arrays, METHODS['separate'], 'masked')
    (state, frozen) = student.begin()
    for epoch in range(epochs):
        for indices in data.epoch_batches(np.arange(len(student.split)), batch_size=512, seed=0, epoch=epoch):
            indices = indices.reshape(len(student.devices), -1)
            (state, metrics) = student.step(state, frozen, indices[:, None] if student.scan else indices)
            jax.block_until_ready(metrics)
    network = models.Network(student.module, jax.device_get(state.student))
    loaded['teacher_logits'] = evaluation.predict(network, student.split.images, devices=student.devices)
    np.savez(path, **loaded)
    yield {'train_accuracy': float(evaluation.correct(loaded['teacher_logits'], student.split.labels).mean())}


def about() -> Measured:
    """The device, the versions, and the most memory so far."""
    device = jax.local_devices()[0]
    while True:
        yield {
            'device': f'{jax.local_device_count()} x {device.device_kind}',
            'versions': {name: importlib.metadata.version(name) for name in ('cckd-jax', 'jax', 'flax', 'optax')},
            'peak_bytes': protocol.peak_bytes(),
            'device_peak_bytes': (device.memory_stats() or {}).get('peak_bytes_in_use'),
        }


if __name__ == '__main__':
    cpu.tune()
    cache.keep_compiled_programs()
    protocol.serve(
        {
            'step': step,
            'forward': forward,
            'around': around,
            'epochs': epochs,
            'compiled': compiled,
            'teacher': teacher,
            'about': about,
        }
    )

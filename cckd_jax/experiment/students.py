"""The students of a run: one, or several that train together."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import models, training
from cckd_jax.errors import InputError
from cckd_jax.evaluators import TrainedNetwork
from cckd_jax.experiment import network_training, networks
from cckd_jax.experiment.network_training import Writer
from cckd_jax.experiment.networks import Run
from cckd_jax.methods import Method
from cckd_jax.models import Network
from cckd_jax.paths import network_names
from cckd_jax.training.totals import Row


def stage_name(count: int) -> str:
    """Name of the stage that trains the students.

    >>> stage_name(1), stage_name(2)
    ('student', '2 students')
    """
    return 'student' if count == 1 else f'{count} students'


def check(config: ConfigDict, method: Method) -> None:
    """Raises InputError if the settings alone show that the method cannot train that many students."""
    count = config.num_students
    if method.peers and count == 1:
        raise InputError(
            f'{config.method} trains students that teach each other, and num_students=1; set --config.num_students=2 '
            'or more'
        )
    if count == 1:
        return
    if method.teachers == 'several':
        raise InputError(
            f'{config.method} weighs several teachers for one student, and num_students={count}; set '
            '--config.num_students=1'
        )
    if method.skips_samples:
        raise InputError(
            f'recheck skips forward passes of a student, whose logits teach the others; with num_students={count}, set '
            '--config.recheck=false and a gate without next_epoch'
        )
    if config.compaction:
        raise InputError(
            f'compaction=true packs the kept samples of one student, and num_students={count}; leave it out'
        )


def check_memory(run: Run, method: Method) -> None:
    """Raises InputError if the weights, gradients and optimizer states of several students exceed a device's memory.

    Activations come on top of them, so that a run that passes may still be too large.
    """
    if len(run.students) == 1:
        return
    images = jax.ShapeDtypeStruct((1, *run.dataset.image_shape), jnp.float32)
    needed = 0
    for student_config in run.students:
        module = networks.create_model(run.config, student_config, run.dataset.num_classes)
        variables = jax.eval_shape(lambda images, module=module: models.init(module, jax.random.key(0), images), images)
        optimizer = network_training.create_optimizer(run, method.learning_rate, steps=1)
        # Weights twice: an update makes new ones before the old ones are freed, beside the gradients.
        trees = [variables, variables, variables['params'], jax.eval_shape(optimizer.init, variables['params'])]
        needed += sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(trees))
    (available, count) = (device_memory(run.devices), len(run.students))
    if needed > available:
        raise InputError(
            f'num_students={count} students need at least {needed / 2**30:,.3g} GiB on each device for weights, '
            f'gradients and optimizer states, and a device has {available / 2**30:,.3g} GiB; lower '
            '--config.num_students or the width of the networks'
        )


def plan(
    run: Run, method: Method, *, method_name: str, aux: Mapping[str, Any], live_teachers: Sequence[Network]
) -> network_training.Plan:
    """How a run trains its only student; arguments as for `train`."""
    (student_config, seed) = (run.students[0], networks.seeds(run.config, run.students)[0])
    return network_training.Plan(
        run,
        'student',
        student_config,
        method,
        method_name=method_name,
        seed=seed,
        is_student=True,
        aux=aux,
        live_teachers=live_teachers,
    )


def train(
    run: Run, method: Method, *, method_name: str, aux: Mapping[str, Any], live_teachers: Sequence[Network]
) -> tuple[TrainedNetwork, ...]:
    """Trains the students to their last epoch, or resumes.

    Args:
      run: the run.
      method: how they learn.
      method_name: its name in the checkpoints.
      aux: per-example constants `[N, ...]` that the method reads, by name.
      live_teachers: teachers that run inside the step.
    """
    if len(run.students) == 1:
        alone = plan(run, method, method_name=method_name, aux=aux, live_teachers=live_teachers)
        return (network_training.train_network(alone),)
    seeds = networks.seeds(run.config, run.students)
    return _train_together(run, method, seeds, method_name=method_name, aux=aux, live_teachers=live_teachers)


def _train_together(
    run: Run,
    method: Method,
    seeds: Sequence[int],
    *,
    method_name: str,
    aux: Mapping[str, Any],
    live_teachers: Sequence[Network],
) -> tuple[TrainedNetwork, ...]:
    (config, split) = (run.config, run.dataset.train)
    (epochs, count) = (run.students[0].epochs, len(run.students))
    names = network_names('student', count)
    folders = [run.workdir / name for name in names]
    group = {'students': [student_config.model for student_config in run.students]}
    facts = [
        networks.training_facts(run, student_config, method, method_name) | group for student_config in run.students
    ]
    modules = [
        networks.create_model(config, student_config, run.dataset.num_classes) for student_config in run.students
    ]
    teachers = tuple(teacher.module for teacher in live_teachers)
    schedule = network_training.create_schedule(run, epochs, config.seed, method, split, aux)
    optimizers = [
        network_training.create_optimizer(run, student_config.learning_rate or method.learning_rate, schedule.steps)
        for student_config in run.students
    ]
    keys = [network_training.network_key(seed, is_student=True) for seed in seeds]
    state = training.PeerState(
        tuple(
            training.initial_state(method, module, teachers, optimizer, split, key)
            for module, optimizer, key in zip(modules, optimizers, keys, strict=True)
        )
    )
    step = training.make_peer_step(
        method,
        modules,
        teachers,
        optimizers,
        devices=run.devices,
        augment=network_training.create_augmentation(run),
        own_augmentation=config.augmentation.per_student,
        scan=schedule.steps_per_call > 1,
    )
    train_data = training.train_data(split, aux, jnp.stack(keys), tuple(teacher.variables for teacher in live_teachers))
    (state, rows) = network_training.train_to_end(
        run,
        stage_name(count),
        step,
        state,
        train_data,
        schedule,
        checkpoints=training.shared_checkpoints(lambda: training.PeerCheckpoints(folders, facts)),
        writers=[
            OwnRows(index, writer)
            for index, name in enumerate(names)
            for writer in network_training.create_writers(run, name)
        ],
        measures=_validation(run, modules),
        totals=lambda: training.PeerTotals(count),
    )
    trained = []
    for index, (module, peer) in enumerate(zip(modules, state.peers, strict=True)):
        (variables, participation) = jax.device_get((peer.student, peer.participation))
        meta = {**facts[index], 'epochs': epochs}
        own_rows = [row['peers'][index] for row in rows]
        trained.append(TrainedNetwork(Network(module, variables), meta, own_rows, np.asarray(participation)))
    return tuple(trained)


class OwnRows:
    """Passes the rows of one of several networks on to its writer; an observer of the loop."""

    def __init__(self, index: int, writer: Writer):
        self._index, self._writer = index, writer

    def start(self, rows: Sequence[Row]) -> None:
        """Passes on what this network did in the epochs that are done."""
        self._writer.start([row['peers'][self._index] for row in rows])

    def step(self, epoch: int, metrics: dict[str, Any]) -> None:
        """Does nothing: rows are per epoch."""

    def epoch(self, row: Row) -> None:
        """Passes on the network's own row."""
        self._writer.epoch(row['peers'][self._index])

    def close(self) -> None:
        """Closes the writer."""
        self._writer.close()


def _validation(run: Run, modules: Sequence[Any]) -> Any:
    if not len(run.dataset.validation):
        return lambda state: {}
    measures = [network_training.validation_accuracy(run, module) for module in modules]
    return lambda state: {
        'validation_accuracy': [measure(peer.student) for measure, peer in zip(measures, state.peers, strict=True)]
    }


def device_memory(devices: Sequence[jax.Device]) -> int:
    """Bytes of memory of a device; of a CPU, its share of the machine's."""
    limit = (devices[0].memory_stats() or {}).get('bytes_limit')
    return limit or os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // len(devices)

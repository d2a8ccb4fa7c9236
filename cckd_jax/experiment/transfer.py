"""The transfer set of a run: checked, made once for a teacher and its settings, and stored with the run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import config as settings, evaluation, synthesis
from cckd_jax.console import log
from cckd_jax.errors import InputError, lookup
from cckd_jax.evaluators import Teachers
from cckd_jax.experiment import networks
from cckd_jax.experiment.networks import Run
from cckd_jax.experiment.students import device_memory
from cckd_jax.methods import Method
from cckd_jax.paths import expand
from cckd_jax.report.stages import TRANSFER_SET
from cckd_jax.synthesis import System, TransferSet
from cckd_jax.training.teacher_outputs import TeacherOutputs, digest

# Separates the draws of the synthesis from those that start the networks.
_STREAM = 2


def check(config: ConfigDict, method: Method, teacher_configs: Sequence[ConfigDict]) -> None:
    """Raises InputError if the settings alone show that the run cannot make or use a transfer set."""
    transfer = config.transfer
    if transfer.name is None:
        return
    system = lookup(synthesis.SYSTEMS, transfer.name, 'transfer.name')
    for name in synthesis.setting_types():
        if transfer[name] is not None and name not in system.defaults:
            raise InputError(
                f'transfer.{name} has no effect with transfer.name={transfer.name}, which has: '
                f'{", ".join(system.defaults)}; remove --config.transfer.{name}'
            )
    if transfer.label is not None:
        lookup(dict.fromkeys(system.labels), transfer.label, f'transfer.label of {transfer.name}')
    if transfer.reject and _label(config, system) == 'teacher':
        raise InputError(
            "transfer.reject=true compares a sample's label with the teacher's class, and transfer.label=teacher makes "
            'them equal; set one of them otherwise'
        )
    if len(teacher_configs) != 1:
        raise InputError(
            f'transfer.name={transfer.name} makes images from one teacher, and num_teachers={len(teacher_configs)}; '
            'set --config.num_teachers=1'
        )
    source = settings.logits_source(teacher_configs[0])
    if source:
        raise InputError(
            f"transfer.name={transfer.name} needs the teacher's weights, which teacher.{source} does not give; give "
            '--config.teacher.checkpoint=RUN/teacher or FILE.safetensors, or neither, and the run trains the teacher'
        )
    augmented = transfer.augment or config.augmentation.crop or config.augmentation.flip
    if system.own_outputs and (method.live_teacher or method.matched_features is not None or augmented):
        raise InputError(
            f'transfer.name={transfer.name} teaches by outputs at its images in place of the teacher, so that nothing '
            f'answers at other images or gives features; choose a method that reads logits, such as kd, without '
            'augmentation'
        )
    if method.weighting is not None:
        raise InputError(
            f'{config.method} weighs training samples by their significance, which samples of transfer.name='
            f'{transfer.name} do not have; choose another method, such as cckd_t_reg'
        )
    if transfer.augment and (config.augmentation.crop or config.augmentation.flip):
        raise InputError(
            'transfer.augment and augmentation.crop or augmentation.flip both change the images; set '
            '--config.transfer.augment=false'
        )


def check_teacher(run: Run) -> None:
    """Raises InputError, before any training, if the system cannot use the teacher or the data, or memory is short."""
    config = run.config
    if config.transfer.name is None:
        return
    system = synthesis.SYSTEMS[config.transfer.name]
    values = resolve(config, system)
    module = networks.create_model(config, run.teachers[0], run.dataset.num_classes)
    system.check(synthesis.Request(module, run.dataset.train, run.dataset.num_classes, values))
    for name, path in _files(system, values).items():
        if path is not None and not path.is_file():
            raise InputError(f'there is no file {path}; correct --config.transfer.{name}, or remove it')
    # Batches of images are concatenated, which takes as much again.
    needed = 2 * values.get('images', 0) * math.prod(run.dataset.image_shape)
    available = device_memory(run.devices)
    if needed > available:
        raise InputError(
            f'transfer.images={values["images"]} need at least {needed / 2**30:,.3g} GiB of memory, and there are '
            f'{available / 2**30:,.3g} GiB; lower --config.transfer.images or --config.transfer.scale'
        )


def make(run: Run, teachers: Teachers) -> TransferSet | None:
    """Makes the transfer set, or reads the one that the run directory holds; None for a run on the training set.

    Raises:
      InputError: the stored set or a file belongs to another teacher, or the synthesis failed.
    """
    config = run.config
    if config.transfer.name is None:
        return None
    system = synthesis.SYSTEMS[config.transfer.name]
    values = resolve(config, system)
    (teacher,) = teachers.networks
    assert teacher is not None  # `check` refuses teachers without a network
    network, dataset = teacher.network, run.dataset
    prng = jax.random.fold_in(jax.random.key(config.seed), _STREAM)
    files = _files(system, values)
    preparation = synthesis.Preparation(
        network, digest(network.variables), dataset.train, dataset.num_classes, values, files, prng, run.workdir
    )
    real = system.prepare(preparation)
    facts = repr([config.transfer.name, sorted((name, value) for name, value in values.items() if name not in files)])
    # Systems without real data have the key of earlier versions.
    key = digest(network.variables, np.array([facts.encode(), str(config.seed).encode()]), *([real] if real else []))
    path = run.workdir / 'transfer_set.npz'
    if path.exists():
        run.stages.begin(TRANSFER_SET, f'done before, in {path}')
        (samples, logits) = synthesis.load(path, key)
    else:
        run.stages.begin(
            TRANSFER_SET,
            f'{config.transfer.name} makes it with {synthesis.REAL_DATA[system.real_data]} apart from what trained the '
            'teacher',
        )
        partial = synthesis.Partial(run.workdir / 'transfer_partial.npz', key, config.save_seconds)
        problem = synthesis.Problem(network, dataset.image_shape, dataset.num_classes, values, prng, partial, real)
        samples = system.generate(problem)
        own = samples.logits
        logits = evaluation.predict(network, samples.images, devices=run.devices) if own is None else own
        synthesis.save(path, samples, logits, key)
        partial.remove()
    transfer = synthesis.label_samples(samples, logits, source=_label(config, system), reject=config.transfer.reject)
    if config.batch_size > len(transfer.images):
        raise InputError(
            f'batch_size={config.batch_size} is larger than the {len(transfer.images)} samples of the transfer set; '
            'lower --config.batch_size, or make a larger transfer set'
        )
    log(f'{config.transfer.name}: {len(transfer.images):,} samples train the student ({path})')
    return transfer


def in_place_of_training_set(run: Run, teachers: Teachers, transfer: TransferSet) -> tuple[Run, Teachers]:
    """A run whose training set is the transfer set, and its teachers with their outputs there."""
    config = run.config
    augment = synthesis.augment if config.transfer.augment else None
    dataset = run.dataset._replace(train=transfer.split)
    outputs = TeacherOutputs(transfer.logits[:, None], teachers.outputs.test)
    return run._replace(dataset=dataset, augment=augment), teachers._replace(outputs=outputs)


def resolve(config: ConfigDict, system: System) -> dict[str, Any]:
    """Values of a system's settings: those of `config.transfer`, otherwise its own, with the scale applied."""
    values = {
        name: value if config.transfer[name] is None else config.transfer[name]
        for name, value in system.defaults.items()
    }
    return synthesis.scaled(values, config.transfer.scale)


def _files(system: System, values: Mapping[str, Any]) -> dict[str, Path | None]:
    """The paths of a system's settings that name files; None for an empty one."""
    return {name: expand(values[name]) if values[name] else None for name in system.files}


def _label(config: ConfigDict, system: System) -> str:
    return config.transfer.label or system.labels[0]

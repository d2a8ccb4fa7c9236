"""The transfer set of a run: checked, made once for a teacher and its settings, and stored with the run."""

from collections.abc import Sequence
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
from cckd_jax.methods import Method
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
    """Raises InputError for a teacher that lacks a layer which the system reads, or for images that it cannot make."""
    if run.config.transfer.name is not None:
        module = networks.create_model(run.config, run.teachers[0], run.dataset.num_classes)
        synthesis.SYSTEMS[run.config.transfer.name].check(module, run.dataset.image_shape)


def make(run: Run, teachers: Teachers) -> TransferSet | None:
    """Makes the transfer set, or reads the one that the run directory holds; None for a run on the training set.

    Raises:
      InputError: the stored set belongs to another teacher, or the synthesis failed.
    """
    config = run.config
    if config.transfer.name is None:
        return None
    system = synthesis.SYSTEMS[config.transfer.name]
    values = resolve(config, system)
    (teacher,) = teachers.networks
    assert teacher is not None  # `check` refuses teachers without a network
    facts = repr([config.transfer.name, sorted(values.items())])
    key = digest(teacher.network.variables, np.array([facts.encode(), str(config.seed).encode()]))
    path = run.workdir / 'transfer_set.npz'
    if path.exists():
        run.stages.begin(TRANSFER_SET, f'done before, in {path}')
        (samples, logits) = synthesis.load(path, key)
    else:
        action = f'{config.transfer.name} makes {values["images"]:,} images without the training set'
        run.stages.begin(TRANSFER_SET, action)
        partial = synthesis.Partial(run.workdir / 'transfer_partial.npz', key, config.save_seconds)
        prng = jax.random.fold_in(jax.random.key(config.seed), _STREAM)
        problem = synthesis.Problem(
            teacher.network, run.dataset.image_shape, run.dataset.num_classes, values, prng, partial
        )
        samples = system.generate(problem)
        logits = evaluation.predict(teacher.network, samples.images, devices=run.devices)
        synthesis.save(path, samples, logits, key)
        partial.remove()
    transfer = synthesis.label_samples(samples, logits, source=_label(config, system), reject=config.transfer.reject)
    if config.batch_size > len(transfer.images):
        raise InputError(
            f'batch_size={config.batch_size} is larger than the {len(transfer.images)} samples of the transfer set; '
            'lower --config.batch_size, or raise --config.transfer.scale'
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


def _label(config: ConfigDict, system: System) -> str:
    return config.transfer.label or system.labels[0]

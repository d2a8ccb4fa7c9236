"""The teachers of a run, one or several: loaded or trained one after the other, and their outputs."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import config as settings, data, evaluation, models, processes
from cckd_jax.console import log
from cckd_jax.errors import InputError, lookup
from cckd_jax.evaluators import Teachers, TrainedNetwork
from cckd_jax.experiment import network_training, networks
from cckd_jax.experiment.networks import Run, seeds
from cckd_jax.methods import METHODS, ROBUST_TRAINING, SELF_REGULATED, SPARSE, Method
from cckd_jax.models import Network
from cckd_jax.paths import expand, network_names
from cckd_jax.report.stages import TEACHER_OUTPUTS
from cckd_jax.training import onnx_teacher, teacher_outputs
from cckd_jax.training.teacher_outputs import TeacherOutputs

# A teacher as it is loaded: a network, logits from a file, or nothing if the run trains it.
Loaded = TrainedNetwork | TeacherOutputs | None

# Hyper-parameters among a teacher's settings.
_HYPERPARAMETERS = ('alpha', 'margin_temperature', 'epsilon', 'ramp')


def resolve_method(teacher_config: ConfigDict) -> Method:
    """The method that trains a teacher: from labels alone, robustly or with a gate of its own if its settings say so.

    Its gate decides on every sample in every epoch, even with `recheck`: significance counts how often a sample
    passes the gate, and a skipped sample would not be counted.

    Raises:
      InputError: there is no robust training of that name.
    """
    method = METHODS['separate']
    if teacher_config.robust is not None:
        method = lookup(ROBUST_TRAINING, teacher_config.robust, 'teacher.robust')
    if teacher_config.self_regulate:
        method = method.with_gate(SELF_REGULATED).override(**SPARSE)
    values = {name: teacher_config[name] for name in _HYPERPARAMETERS if teacher_config[name] is not None}
    return dataclasses.replace(method.override(**values), learning_rate=teacher_config.learning_rate, check=False)


def check(config: ConfigDict, method: Method, teacher_configs: Sequence[ConfigDict]) -> None:
    """Raises InputError if the settings alone show that the method and the teachers do not go together."""
    count = len(teacher_configs)
    if method.teachers == 'several' and count < 2:
        raise InputError(
            f'{config.method} needs several teachers, and num_teachers={count}; set --config.num_teachers=3, for '
            'example'
        )
    if method.teachers == 'one' and count == 0:
        raise InputError(f'{config.method} needs a teacher, and num_teachers=0; set --config.num_teachers=1')
    if method.teachers == 'one' and count > 1:
        several = ', '.join(name for name, row in METHODS.items() if row.teachers == 'several')
        raise InputError(
            f'{config.method} takes one teacher, and num_teachers={count}; set --config.num_teachers=1, or choose '
            f'one of {several}'
        )
    bound = method.hyperparameters.get('largest_weight')
    if bound is not None and bound * count < 1:
        raise InputError(
            f'largest_weight={bound} of {count} teachers cannot sum to 1; set --config.largest_weight to at least '
            f'{math.ceil(1e4 / count) / 1e4:g}'
        )
    for index, teacher_config in enumerate(teacher_configs):
        source = settings.logits_source(teacher_config)
        if source and method.matched_features is not None:
            raise InputError(
                f"{config.method} matches the teachers' feature maps, which teachers.{index}.{source} does not give; "
                f'give teachers.{index}.checkpoint, or set --config.feature_weight=0'
            )


def check_features(run: Run, method: Method, student: nn.Module, teachers: Sequence[nn.Module]) -> None:
    """Raises InputError for a network that lacks the feature map that the method matches."""
    if method.matched_features is None:
        return
    stage = method.matched_features.stage
    for network_config, module in zip([run.students[0], *run.teachers], [student, *teachers], strict=True):
        shapes: tuple[tuple[int, ...], ...] = ()
        if isinstance(module, models.Classifier):
            shapes = models.feature_shapes(module, run.dataset.image_shape)
        if not -len(shapes) <= stage < len(shapes) or len(shapes[stage]) != 3:
            which = 'last' if stage < 0 else f'{stage + 1}.'
            raise InputError(
                f'{run.config.method} matches feature maps [H, W, C] after the {which} stage, and '
                f'{network_config.model} has no such map; use a cckd_jax.models.Classifier with one, or set '
                '--config.feature_weight=0'
            )


def load_pretrained(run: Run) -> list[Loaded]:
    """Loads the teachers that the config names as a checkpoint, as a file of logits or in ONNX.

    Returns:
      For each teacher its network, its logits, or None if the run trains it.

    Raises:
      InputError: a file is not readable, or does not fit the data set or the configuration.
    """
    loaded: list[Loaded] = []
    for index, teacher_config in enumerate(run.teachers):
        check = teacher_config.check_logits
        if teacher_config.logits:
            path = expand(teacher_config.logits)
            load = functools.partial(teacher_outputs.load_logits, path, run.dataset, check=check)
            outputs = processes.from_process_0(load)
            count = outputs.train.shape[1]
            if index == 0 and count == len(run.teachers) > 1:
                return _split(run, path, outputs)
            if count != 1:
                remedy = (
                    f'{run.config.method} takes one: [N, classes]'
                    if len(run.teachers) == 1
                    else f'give one, or all {len(run.teachers)} as teachers.0.logits'
                )
                raise InputError(f'{path} holds {count} teachers; {remedy}')
            loaded.append(outputs)
        elif teacher_config.onnx:
            path = expand(teacher_config.onnx)
            preprocessing = _preprocessing(teacher_config)
            load = functools.partial(onnx_teacher.load_onnx, path, run.dataset, preprocessing, check=check)
            loaded.append(processes.from_process_0(load))
        elif teacher_config.checkpoint:
            _preprocessing(teacher_config).check_channels(run.dataset.image_shape[-1])
            trained_by = {'method': teacher_config.robust, 'epsilon': teacher_config.epsilon}
            expected = {name: value for name, value in trained_by.items() if value is not None}
            loaded.append(networks.restore(run, teacher_config.checkpoint, teacher_config, **expected))
        else:
            loaded.append(None)
    return loaded


def plan(run: Run, index: int) -> network_training.Plan:
    """How a run trains the teacher of an index."""
    teacher_config = run.teachers[index]
    seed = seeds(run.config, run.teachers)[index]
    labels = None
    if teacher_config.label_noise:
        labels = data.shuffled_labels(run.dataset.train.labels, teacher_config.label_noise, seed=seed)
    return network_training.Plan(
        run,
        network_names('teacher', len(run.teachers))[index],
        teacher_config,
        resolve_method(teacher_config),
        method_name=teacher_config.robust or 'separate',
        seed=seed,
        labels=labels,
    )


def train_teachers(run: Run, pretrained: Sequence[Loaded]) -> Teachers:
    """Trains the teachers that are not pretrained, one after the other, and computes the outputs of all of them once.

    Args:
      run: the run.
      pretrained: what `load_pretrained` returned.
    """
    if not run.teachers:
        return Teachers((), _no_outputs(run))
    teachers: list[TrainedNetwork | TeacherOutputs] = []
    for index, loaded in enumerate(pretrained):
        if loaded is None:
            loaded = network_training.train_network(plan(run, index))
        teachers.append(loaded)
    trained = tuple(teacher if isinstance(teacher, TrainedNetwork) else None for teacher in teachers)
    depends_on = [teacher.network.variables if isinstance(teacher, TrainedNetwork) else teacher for teacher in teachers]
    compute = lambda: teacher_outputs.stack([_outputs(run, teacher) for teacher in teachers])
    outputs = processes.from_process_0(lambda: _cached_in_workdir(run, depends_on, compute))
    for index, (name, loaded) in enumerate(zip(network_names('teacher', len(run.teachers)), pretrained, strict=True)):
        # Logits were assessed when they were read.
        if isinstance(loaded, TrainedNetwork):
            teacher_outputs.report_plausibility(
                f'{name}, restored from {run.teachers[index].checkpoint},',
                outputs.train[:, index],
                run.dataset.train.labels,
            )
    return Teachers(trained, outputs)


def student_aux(run: Run, method: Method, teachers: Teachers) -> tuple[dict[str, Any], list[Network]]:
    """The teacher outputs that a student's step reads: per-example constants, and the teachers that run in the step.

    With augmentation nothing is constant. Feature maps are constants if they fit into `feature_cache_gib`.
    """
    needed = method.teacher_outputs_needed
    if not (needed or method.live_teacher):
        return {}, []
    live = [teacher.network for teacher in teachers.networks if teacher is not None]
    config = run.config
    if run.augment is not None or config.augmentation.crop or config.augmentation.flip:
        subject = 'the teacher runs' if len(live) == 1 else 'the teachers run'
        log(f'student: images are augmented, so teacher outputs are not cached; {subject} inside the step')
        return {}, live
    aux: dict[str, Any] = {'teacher_logits': teachers.outputs.train} if 'teacher_logits' in needed else {}
    features = method.matched_features
    if features is None:
        return aux, live if method.live_teacher else []
    size = sum(_feature_bytes(run, network, features.stage) for network in live) / 2**30
    text = f'student: the feature maps of {len(live)} teachers take {size:.3g} GiB on each device'
    if size > config.feature_cache_gib:
        log(f'{text}, more than feature_cache_gib={config.feature_cache_gib:g}; the teachers run inside the step')
        return aux, live
    log(f'{text}; they are computed once')
    return {**aux, 'teacher_features': _features(run, live, features.stage)}, live


def _preprocessing(teacher_config: ConfigDict) -> onnx_teacher.Preprocessing:
    return onnx_teacher.Preprocessing(*(teacher_config[name] for name in settings.INPUT_FIELDS))


def _split(run: Run, path: Path, outputs: TeacherOutputs) -> list[Loaded]:
    """Splits the logits of a file that holds all teachers."""
    for index, fields in settings.given_fields(run.config.teachers):
        for name in fields:
            if (index, name) != (0, 'logits'):
                raise InputError(
                    f'{path} holds all {len(run.teachers)} teachers, and teachers.{index}.{name} is given; '
                    'leave one of them out'
                )
    return [
        TeacherOutputs(outputs.train[:, [index]], None if outputs.test is None else outputs.test[:, [index]])
        for index in range(len(run.teachers))
    ]


def _outputs(run: Run, teacher: TrainedNetwork | TeacherOutputs) -> TeacherOutputs:
    if isinstance(teacher, TeacherOutputs):
        return teacher
    predict = evaluation.make_predict(teacher.network.module, devices=run.devices)
    splits = (run.dataset.train, run.dataset.test)
    (train, test) = (predict(teacher.network.variables, split.images)[:, None] for split in splits)
    return TeacherOutputs(train, test)


def _no_outputs(run: Run) -> TeacherOutputs:
    return TeacherOutputs(np.zeros((len(run.dataset.train), 0, run.dataset.num_classes), np.float32), None)


def _cached_in_workdir(run: Run, depends_on: Any, compute: Callable[[], TeacherOutputs]) -> TeacherOutputs:
    """Loads the teacher outputs that the run directory holds, or computes and saves them.

    Raises:
      InputError: the saved outputs are damaged, or belong to other teachers, data or preprocessing.
    """
    dataset, path = run.dataset, run.workdir / 'teacher_outputs.npz'
    facts = [dataset.name, dataset.train.fingerprint(), dataset.test.fingerprint(), 'x/255', run.config.precision]
    key = teacher_outputs.digest(depends_on, np.array([fact.encode() for fact in facts]))
    if path.exists():
        run.stages.begin(TEACHER_OUTPUTS, f'done before, in {path}')
        return teacher_outputs.load(path, key)
    run.stages.begin(TEACHER_OUTPUTS, 'computing')
    outputs = compute()
    teacher_outputs.save(path, outputs, key)
    return outputs


def _feature_bytes(run: Run, network: Network, stage: int) -> int:
    shape = models.feature_shapes(network.module, run.dataset.image_shape)[stage]
    return len(run.dataset.train) * int(np.prod(shape)) * jnp.dtype(run.config.precision).itemsize


def _features(run: Run, teachers: Sequence[Network], stage: int) -> tuple[np.ndarray, ...]:
    def features(network: Network) -> np.ndarray:
        compute = lambda variables, pixels: Network(network.module, variables).features(data.to_unit(pixels))[stage]
        return evaluation.map_dataset(compute, devices=run.devices)(network.variables, run.dataset.train.images)

    return tuple(features(teacher) for teacher in teachers)

"""The teachers of a run, one or several: given or trained one after the other, and what they say of the images."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import config as settings, data, evaluation, models
from cckd_jax.console import say
from cckd_jax.errors import InputError, lookup
from cckd_jax.experiment import networks
from cckd_jax.experiment.networks import Run, Trained
from cckd_jax.methods import METHODS, ROBUST_TRAINING, SELF_REGULATED, SPARSE, Method
from cckd_jax.models import Network
from cckd_jax.training import teacher_outputs
from cckd_jax.training.teacher_outputs import TeacherOutputs

# What a teacher's settings say of the method that it is trained by.
_OF_METHOD = ('alpha', 'margin_temperature', 'epsilon', 'ramp')


class Teachers(NamedTuple):
    """The networks, None for one that is a file of logits, and the logits of all of them."""

    networks: tuple[Trained | None, ...]
    outputs: TeacherOutputs


def names(count: int) -> list[str]:
    """What the teachers and their folders are called.

    >>> names(1), names(2)
    (['teacher'], ['teacher_0', 'teacher_1'])
    """
    return ['teacher'] if count == 1 else [f'teacher_{place}' for place in range(count)]


def resolve_method(teacher_config: ConfigDict) -> Method:
    """How a teacher learns: from labels alone, robustly and with its own gate where its settings say so.

    Its gate sees every sample in every epoch, whatever `recheck` says: significance counts how often a sample takes
    part, and a skipped one would not be counted.

    Raises:
      InputError: there is no robust training of that name.
    """
    method = METHODS['separate']
    if teacher_config.robust is not None:
        method = lookup(ROBUST_TRAINING, teacher_config.robust, 'teacher.robust')
    if teacher_config.self_regulate:
        method = method.with_gate(SELF_REGULATED).override(**SPARSE)
    values = {name: teacher_config[name] for name in _OF_METHOD if teacher_config[name] is not None}
    return dataclasses.replace(method.override(**values), learning_rate=teacher_config.learning_rate, check=False)


def seeds(config: ConfigDict, parts: Sequence[ConfigDict]) -> list[int]:
    """The seed of each teacher: its own, or the run's for the first and one drawn from it for each of the others."""
    drawn = lambda place: int(np.random.SeedSequence([config.seed, place]).generate_state(1)[0])
    of_run = [config.seed, *(drawn(place) for place in range(1, len(parts)))]
    return [seed if part.seed is None else part.seed for part, seed in zip(parts, of_run, strict=True)]


def check(config: ConfigDict, method: Method, teacher_configs: Sequence[ConfigDict]) -> None:
    """Raises InputError if the settings alone show that the method and the teachers do not go together."""
    count = len(teacher_configs)
    if method.teachers == 'several' and count == 1:
        raise InputError(
            f'{config.method} needs several teachers, and num_teachers=1; set --config.num_teachers=3, for example'
        )
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
        if teacher_config.logits and method.matched_features is not None:
            raise InputError(
                f"{config.method} matches the teachers' feature maps, and teachers.{index}.logits have none; give "
                f'teachers.{index}.checkpoint, or set --config.feature_weight=0'
            )


def check_features(run: Run, method: Method, student: nn.Module, teachers: Sequence[nn.Module]) -> None:
    """Raises InputError for a network that lacks the feature map that the method matches."""
    if method.matched_features is None:
        return
    stage = method.matched_features.stage
    for network_config, module in zip([run.config.student, *run.teachers], [student, *teachers], strict=True):
        shapes = ()
        if isinstance(module, models.Classifier):
            shapes = models.feature_shapes(module, run.dataset.image_shape)
        if not -len(shapes) <= stage < len(shapes) or len(shapes[stage]) != 3:
            which = 'last' if stage < 0 else f'{stage + 1}.'
            raise InputError(
                f'{run.config.method} matches feature maps [H, W, C] after the {which} stage, and '
                f'{network_config.model} has none; use a cckd_jax.models.Classifier that has, or set '
                '--config.feature_weight=0'
            )


def read_given(run: Run) -> list[Trained | TeacherOutputs | None]:
    """Loads the teachers that are given as a checkpoint or as a file of logits.

    Returns:
      Per teacher its network, its logits, or None if the run trains it.

    Raises:
      InputError: a file is not readable, or does not fit the data set or the configuration.
    """
    loaded: list[Trained | TeacherOutputs | None] = []
    for index, teacher_config in enumerate(run.teachers):
        if teacher_config.logits:
            path = Path(teacher_config.logits).expanduser()
            check = teacher_config.get('check_logits', True)
            outputs = teacher_outputs.load_logits(path, run.dataset, check=check)
            count = outputs.train.shape[1]
            if index == 0 and count == len(run.teachers) > 1:
                return _all_in_one(run, path, outputs)
            if count != 1:
                needed = (
                    f'{run.config.method} takes one: [N, classes]'
                    if len(run.teachers) == 1
                    else f'one is wanted, or all {len(run.teachers)} as teachers.0.logits'
                )
                raise InputError(f'{path} holds {count} teachers, {needed}')
            loaded.append(outputs)
        elif teacher_config.checkpoint:
            trained_by = {'method': teacher_config.robust, 'epsilon': teacher_config.epsilon}
            expected = {name: value for name, value in trained_by.items() if value is not None}
            loaded.append(networks.restore(run, teacher_config.checkpoint, teacher_config, **expected))
        else:
            loaded.append(None)
    return loaded


def obtain(this: Run, given: Sequence[Trained | TeacherOutputs | None]) -> Teachers:
    """Trains the teachers that are not given, one after the other, and has all of them look at the images once."""
    found = []
    places = zip(names(len(given)), this.teachers, seeds(this.config, this.teachers), given, strict=True)
    for name, part, seed, one in places:
        labels = None
        if part.label_noise:
            labels = data.shuffled_labels(this.dataset.train.labels, part.label_noise, seed=seed)
        found.append(
            one
            or networks.train_network(
                this,
                name,
                part,
                resolve_method(part),
                method_name=part.robust or 'separate',
                seed=seed,
                labels=labels,
            )
        )
    trained = tuple(each if isinstance(each, Trained) else None for each in found)
    depends_on = [each.network.variables if isinstance(each, Trained) else each for each in found]
    outputs = _cached_in_workdir(
        this, depends_on, lambda: teacher_outputs.stack([_outputs(this, each) for each in found])
    )
    return Teachers(trained, outputs)


def student_aux(run: Run, method: Method, teachers: Teachers) -> tuple[dict[str, Any], list[Network]]:
    """What a student's step needs of its teachers: per-example constants, and the teachers that compute in the step.

    With augmentation nothing is constant. Feature maps are constants if they take little enough memory.
    """
    needed = method.teacher_outputs_needed
    if not (needed or method.live_teacher):
        return {}, []
    live = [teacher.network for teacher in teachers.networks if teacher is not None]
    config = run.config
    if config.augmentation.crop or config.augmentation.flip:
        subject = 'the teacher runs' if len(live) == 1 else 'the teachers run'
        say(f'student: images are augmented, so teacher outputs are not cached; {subject} inside the step')
        return {}, live
    aux: dict[str, Any] = {'teacher_logits': teachers.outputs.train} if 'teacher_logits' in needed else {}
    features = method.matched_features
    if features is None:
        return aux, live if method.live_teacher else []
    size = sum(_feature_bytes(run, network, features.stage) for network in live) / 2**30
    text = f'student: the feature maps of {len(live)} teachers take {size:.3g} GiB on each device'
    if size > config.feature_cache_gib:
        say(f'{text}, more than feature_cache_gib={config.feature_cache_gib:g}; the teachers run inside the step')
        return aux, live
    say(f'{text}; they are computed once')
    return {**aux, 'teacher_features': _features(run, live, features.stage)}, live


def _all_in_one(this: Run, path: Path, logits: TeacherOutputs) -> list[Trained | TeacherOutputs | None]:
    for place, own in settings.given_teachers(this.config):
        for name in own:
            if (place, name) != (0, 'logits'):
                raise InputError(
                    f'{path} holds all {len(this.teachers)} teachers, and teachers.{place}.{name} is given; '
                    'leave one of them out'
                )
    tests = [None if logits.test is None else logits.test[:, [place]] for place in range(len(this.teachers))]
    return [TeacherOutputs(logits.train[:, [place]], test) for place, test in enumerate(tests)]


def _outputs(this: Run, teacher: Trained | TeacherOutputs) -> TeacherOutputs:
    if isinstance(teacher, TeacherOutputs):
        return teacher
    predict = evaluation.make_predict(teacher.network.module, devices=this.devices)
    splits = (this.dataset.train, this.dataset.test)
    (train, test) = (predict(teacher.network.variables, split.images)[:, None] for split in splits)
    return TeacherOutputs(train, test)


def _cached_in_workdir(run: Run, depends_on: Any, compute: Callable[[], TeacherOutputs]) -> TeacherOutputs:
    """Loads the teacher outputs that the run directory holds, or computes and saves them.

    Raises:
      InputError: the saved outputs are damaged, or belong to other teachers, data or preprocessing.
    """
    dataset, path = run.dataset, run.workdir / 'teacher_outputs.npz'
    facts = [dataset.name, dataset.train.fingerprint(), dataset.test.fingerprint(), 'x/255', run.config.precision]
    key = teacher_outputs.digest(depends_on, np.array([fact.encode() for fact in facts]))
    if path.exists():
        return teacher_outputs.load(path, key)
    outputs = compute()
    teacher_outputs.save(path, outputs, key)
    return outputs


def _feature_bytes(run: Run, network: Network, stage: int) -> int:
    shape = models.feature_shapes(network.module, run.dataset.image_shape)[stage]
    return len(run.dataset.train) * int(np.prod(shape)) * jnp.dtype(run.config.precision).itemsize


def _features(run: Run, teachers: Sequence[Network], stage: int) -> tuple[np.ndarray, ...]:
    def of(network: Network) -> np.ndarray:
        compute = lambda variables, pixels: Network(network.module, variables).features(data.to_unit(pixels))[stage]
        return evaluation.map_dataset(compute, devices=run.devices)(network.variables, run.dataset.train.images)

    return tuple(of(teacher) for teacher in teachers)

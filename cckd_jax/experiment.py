"""The whole walk of a run: data, teachers, their outputs, the student, evaluation, report."""

import dataclasses
import importlib.metadata
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import config as settings
from cckd_jax import data, evaluation, models, training
from cckd_jax.errors import InputError, lookup
from cckd_jax.methods import METHODS, Method, everyone, self_regulated
from cckd_jax.reporting import figures, report
from cckd_jax.reporting.files import write_json, write_text
from cckd_jax.reporting.metrics import MetricsWriter, read_rows
from cckd_jax.reporting.progress import Progress, say
from cckd_jax.training import optimizers, teacher_outputs

_HYPERPARAMETERS = ('temperature', 'confidence_temperature', 'margin_temperature', 'alpha', 'hard_weight')


class Run(NamedTuple):
    """What every part of a run looks at."""

    config: ConfigDict
    workdir: Path
    dataset: data.Dataset
    devices: Sequence[jax.Device]


class Trained(NamedTuple):
    """A network and how it came about; one that was restored from elsewhere has no rows and took no time."""

    network: models.Network
    meta: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def seconds(self) -> float:
        """Time spent in its epochs."""
        return sum(row['epoch_seconds'] for row in self.rows)


def run(config: ConfigDict, workdir: str | Path, *, devices: Sequence[jax.Device] | None = None) -> dict[str, Any]:
    """Runs a config to its report, from wherever an earlier call on the same workdir stopped.

    Args:
      config: of `config.default`, changed.
      workdir: the run directory; made if it is not there.
      devices: all local ones when None.

    Returns:
      What `results.json` holds.

    Raises:
      InputError: a value cannot be used; its message names it and the way out.
    """
    settings.check(config)
    method = resolve_method(config)
    for part in (config.teacher, config.student):
        create_model(config, part, num_classes=2)
    lookup(optimizers.OPTIMIZERS, config.optimizer.name, 'optimizer')
    lookup(optimizers.SCHEDULES, config.optimizer.schedule, 'schedule')
    workdir = Path(workdir)
    _check_workdir(workdir, config)
    if (workdir / 'report.md').exists():
        say(f'{workdir} is complete: {workdir / "report.md"}')
        return json.loads((workdir / 'results.json').read_text(encoding='utf-8'))
    dataset = data.load(
        config.dataset.name,
        data_dir=config.dataset.data_dir,
        image_shape=tuple(config.dataset.image_shape),
        examples=config.dataset.examples,
        validation_fraction=config.validation_fraction,
        seed=config.seed,
    )
    this = Run(config, workdir, dataset, list(devices or jax.local_devices()))
    training.check_batch(config.batch_size, len(dataset.train), this.devices)
    for part in (config.teacher, config.student):
        module = create_model(config, part, dataset.num_classes)
        models.check_fits(part.model, module, dataset.image_shape, dataset.num_classes)
    # Whatever is given is read before anything is trained, and before the workdir becomes this config's.
    logits = config.teacher.logits and teacher_outputs.load_given(Path(config.teacher.logits), dataset)
    teacher = config.teacher.checkpoint and restore(this, Path(config.teacher.checkpoint), config.teacher)
    separate = config.attack.checkpoint and restore(this, Path(config.attack.checkpoint), config.student)
    write_json(workdir / 'config.json', json.loads(config.to_json()))
    if not logits:
        alone = dataclasses.replace(METHODS['separate'], learning_rate=config.teacher.learning_rate)
        teacher = teacher or train_network(this, 'teacher', alone)
    teachers = [teacher] if teacher else []
    outputs = logits or obtain_outputs(this, teachers)
    student = train_network(this, 'student', method, teachers=teachers, outputs=outputs)
    if _is_separate(config):
        separate = student
    separate = separate or train_network(this, 'separate', METHODS['separate'])
    results = evaluate(this, method, teachers, outputs, student, separate)
    write_json(workdir / 'results.json', results)
    write_text(workdir / 'report.md', report.render(results))
    say(f'the report is in {workdir / "report.md"}')
    return results


def resolve_method(config: ConfigDict) -> Method:
    """The method's row with the config's gate and hyper-parameters.

    Raises:
      InputError: there is no method of that name.
    """
    method = lookup(METHODS, config.method, 'method')
    if config.self_regulate is not None:
        method = dataclasses.replace(method, select=self_regulated if config.self_regulate else everyone)
    given = {name: config[name] for name in _HYPERPARAMETERS if config[name] is not None}
    taken = {name: value for name, value in given.items() if name in method.hyperparameters}
    return method.configured(**taken)


def create_model(config: ConfigDict, part: ConfigDict, num_classes: int) -> nn.Module:
    """The network of `config.teacher` or `config.student`."""
    options = part.options.to_dict()
    if config.precision != 'float32':
        options['dtype'] = jnp.dtype(config.precision)
    return models.create(part.model, num_classes, **options)


def restore(this: Run, folder: Path, part: ConfigDict) -> Trained:
    """A network from a checkpoint folder, checked to be what the config says.

    Raises:
      InputError: there is no readable checkpoint, or it holds another network or was made for other data.
    """
    (meta, variables) = training.load_network(folder)
    for name, value in _meta(this, part).items():
        if meta.get(name) != value:
            raise InputError(
                f'the checkpoint in {folder} has {name} {meta.get(name)!r}, this run needs {value!r}; '
                'name another checkpoint, or set the model and data set to match'
            )
    module = create_model(this.config, part, this.dataset.num_classes)
    return Trained(models.Network(module, variables), meta, [])


def train_network(
    this: Run,
    name: str,
    method: Method,
    *,
    teachers: Sequence[Trained] = (),
    outputs: teacher_outputs.TeacherOutputs | None = None,
) -> Trained:
    """Trains a network to its last epoch in `<workdir>/<name>`, or picks it up there.

    Args:
      this: the run.
      name: `teacher`, `student` or `separate`.
      method: what it is trained by.
      teachers: the networks that `outputs` are of.
      outputs: logits on the images as they are; not used where images are augmented.
    """
    config = this.config
    part = config.teacher if name == 'teacher' else config.student
    folder = this.workdir / name
    folder.mkdir(exist_ok=True)
    split = this.dataset.train
    augment = data.augmentation(crop=config.augmentation.crop, flip=config.augmentation.flip)
    live = augment is not None and 'teacher_logits' in method.needs
    aux = {}
    if live:
        say(f'{name}: images are augmented, so teacher outputs are not cached; the teacher runs inside the step')
    elif 'teacher_logits' in method.needs:
        aux['teacher_logits'] = outputs.train
    modules = tuple(teacher.network.module for teacher in teachers) if live else ()
    weights = tuple(teacher.network.variables for teacher in teachers) if live else ()
    layout = method.layout(split.labels, aux)
    schedule = training.Schedule(part.epochs, config.batch_size, config.seed, layout)
    rate = config.student.learning_rate if name == 'student' else None
    optimizer = optimizers.create(
        config.optimizer.name,
        rate or method.learning_rate,
        schedule=config.optimizer.schedule,
        steps=schedule.steps,
        weight_decay=config.optimizer.weight_decay,
    )
    module = create_model(config, part, this.dataset.num_classes)
    # Student and separate student start alike, so that the two are compared on equal terms; a teacher does not.
    key = jax.random.fold_in(jax.random.key(config.seed), 0 if name == 'teacher' else 1)
    state = training.initial_state(method, module, modules, optimizer, split, key)
    step = training.make_step(method, module, modules, optimizer, devices=this.devices, augment=augment)
    frozen = training.frozen_data(split, aux, key, weights)
    writer, progress = MetricsWriter(folder), Progress(name, part.epochs, len(layout))
    meta = _meta(this, part)

    predict = evaluation.predictor(module, devices=this.devices)

    def measures(state: training.TrainState) -> dict[str, float]:
        if not len(this.dataset.validation):
            return {}
        logits = predict(jax.device_get(state.student), this.dataset.validation.images)
        return {'validation_accuracy': float(_correct(logits, this.dataset.validation).mean())}

    with training.Checkpoints(folder, meta) as checkpoints:
        try:
            state = training.train(
                step,
                state,
                frozen,
                schedule,
                checkpoints=checkpoints,
                observers=(writer, progress),
                devices=this.devices,
                measures=measures,
                save_seconds=config.save_seconds,
            )
        finally:
            progress.close()
            writer.close()
    return Trained(
        models.Network(module, jax.device_get(state.student)), {**meta, 'epochs': part.epochs}, read_rows(folder)
    )


def obtain_outputs(this: Run, teachers: Sequence[Trained]) -> teacher_outputs.TeacherOutputs:
    """The teachers' logits on training and test images, cached with the run or computed now."""
    dataset, path = this.dataset, this.workdir / 'teacher_outputs.npz'
    key = teacher_outputs.digest(
        [teacher.network.variables for teacher in teachers],
        np.array([dataset.name, dataset.train.fingerprint(), dataset.test.fingerprint(), 'x/255']).astype('S'),
    )
    if path.exists():
        return teacher_outputs.load(path, key)

    def outputs(network: models.Network) -> teacher_outputs.TeacherOutputs:
        (train, test) = (
            evaluation.predict(network, split.images, devices=this.devices) for split in (dataset.train, dataset.test)
        )
        return teacher_outputs.TeacherOutputs(train[:, None], test[:, None])

    found = teacher_outputs.stack([outputs(teacher.network) for teacher in teachers])
    teacher_outputs.save(path, found, key)
    return found


def evaluate(
    this: Run,
    method: Method,
    teachers: Sequence[Trained],
    outputs: teacher_outputs.TeacherOutputs,
    student: Trained,
    separate: Trained,
) -> dict[str, Any]:
    """Every number of the report, and its figures. The test split is looked at here and nowhere before."""
    started = time.monotonic()
    config, dataset = this.config, this.dataset
    student_train = _correct(
        evaluation.predict(student.network, dataset.train.images, devices=this.devices), dataset.train
    )
    teacher_train = _correct(outputs.train[:, 0], dataset.train)
    (success, failure) = evaluation.transfer_rates(teacher_train, student_train)
    attack = attack_transfer(this, student.network, separate.network)
    tests = {
        'student': _accuracy(this, student.network, dataset.test),
        'separate': _accuracy(this, separate.network, dataset.test),
        'teacher': None if outputs.test is None else float(_correct(outputs.test[:, 0], dataset.test).mean()),
    }
    used = sum(row['samples_used'] for row in student.rows)
    presented = sum(row['samples_presented'] for row in student.rows)
    given = not teachers
    alpha = method.hyperparameters.get('alpha')
    runs = {'teacher': [] if given else teachers[0].rows, 'separate': separate.rows, 'student': student.rows}
    if separate is student:
        del runs['separate']
    folder = this.workdir / 'figures'
    figures.curves(folder / 'curves.png', {name: rows for name, rows in runs.items() if rows}, tests)
    figures.participation(folder / 'participation.png', student.rows, alpha)
    return {
        'method': config.method,
        'dataset': dataset.name,
        'seed': config.seed,
        'commit': _commit(),
        'device': f'{len(this.devices)} x {this.devices[0].device_kind}',
        'versions': {name: importlib.metadata.version(name) for name in ('cckd-jax', 'jax', 'flax', 'optax')},
        'hyperparameters': {
            **method.hyperparameters,
            'learning_rate': config.student.learning_rate or method.learning_rate,
            'batch_size': config.batch_size,
        },
        'teacher': {
            'model': 'logits' if given else config.teacher.model,
            'parameters': None if given else _parameters(teachers[0].network),
            'epochs': None if given else teachers[0].meta['epochs'],
            'test_accuracy': tests['teacher'],
            'train_accuracy': float(teacher_train.mean()),
            'seconds': 0.0 if given else teachers[0].seconds,
        },
        'student': {
            'model': config.student.model,
            'parameters': _parameters(student.network),
            'epochs': config.student.epochs,
            'test_accuracy': tests['student'],
            'train_accuracy': float(student_train.mean()),
            'samples_used': used,
            'samples_presented': presented,
            'share_used': used / presented,
            'success_rate': success,
            'failure_rate': failure,
            'adversarial_accuracy': attack['accuracy'],
            'seconds': student.seconds,
        },
        'separate': {'test_accuracy': tests['separate'], 'epochs': separate.meta['epochs']},
        'attack': {name: attack[name] for name in ('epsilon', 'samples', 'accuracy_of_attacked')},
        'seconds': sum(sum(row['epoch_seconds'] for row in rows) for rows in runs.values())
        + time.monotonic()
        - started,
    }


def attack_transfer(this: Run, student: models.Network, attacked: models.Network) -> dict[str, Any]:
    """Accuracy of the student on training images moved by FGSM on another network (Tables 8-9), and a panel of them."""
    epsilon = this.config.attack.epsilon
    split = this.dataset.train
    count = min(this.config.attack.samples, len(split))
    images, labels = split.images[:count], split.labels[:count]

    def attack(variables: Any, pixels: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        (victim, other) = variables
        moved = evaluation.fgsm(models.Network(attacked.module, victim), data.to_unit(pixels), labels, epsilon=epsilon)
        seen = (
            jnp.argmax(network(moved), -1)
            for network in (models.Network(attacked.module, victim), models.Network(student.module, other))
        )
        return (moved, *seen)

    apply = evaluation.batched(attack, arrays=2, devices=this.devices, title='attacking')
    (moved, by_attacked, by_student) = apply((attacked.variables, student.variables), images, labels)
    figures.adversarial(
        this.workdir / 'figures' / 'adversarial.png', moved[:24], labels[:24], by_attacked[:24], epsilon=epsilon
    )
    return {
        'epsilon': epsilon,
        'samples': count,
        'accuracy': float((by_student == labels).mean()),
        'accuracy_of_attacked': float((by_attacked == labels).mean()),
    }


def _is_separate(config: ConfigDict) -> bool:
    return config.method == 'separate' and not config.self_regulate and config.student.learning_rate is None


def _check_workdir(workdir: Path, config: ConfigDict) -> None:
    """Refuses a workdir that cannot be written to, or that holds a run of another config."""
    path = workdir / 'config.json'
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
        found = _flat(json.loads(path.read_text(encoding='utf-8'))) if path.exists() else None
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f'cannot use workdir {workdir} ({error}); give another --workdir') from None
    if found is None:
        return
    wanted = _flat(json.loads(config.to_json()))
    for name in sorted(found.keys() | wanted.keys()):
        # Data may have moved; the teacher outputs' key notices if it changed.
        if name != 'dataset.data_dir' and found.get(name) != wanted.get(name):
            raise InputError(
                f'{workdir} holds a run with {name}={found.get(name)}, this one has {wanted.get(name)}; '
                'give another --workdir, or the config that it was begun with'
            )


def _flat(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        flat |= _flat(value, f'{prefix}{name}.') if isinstance(value, dict) else {f'{prefix}{name}': value}
    return flat


def _meta(this: Run, part: ConfigDict) -> dict[str, Any]:
    return {
        'model': part.model,
        'options': json.loads(part.options.to_json()),
        'num_classes': this.dataset.num_classes,
        'image_shape': list(this.dataset.image_shape),
    }


def _accuracy(this: Run, network: models.Network, split: data.Split) -> float:
    return float(_correct(evaluation.predict(network, split.images, devices=this.devices), split).mean())


def _correct(logits: np.ndarray, split: data.Split) -> np.ndarray:
    return logits.argmax(-1) == split.labels


def _parameters(network: models.Network) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(network.variables['params']))


def _commit() -> str | None:
    command = ['git', '-C', str(Path(__file__).parent), 'describe', '--always', '--dirty', '--abbrev=40', '--match=']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

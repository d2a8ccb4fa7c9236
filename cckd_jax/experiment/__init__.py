"""The whole walk of a run: data, teachers, their outputs, the student, evaluation, report."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cckd_jax import config as settings
from cckd_jax import data, models, training
from cckd_jax.console import say
from cckd_jax.errors import InputError, lookup
from cckd_jax.experiment import around, directory, networks, results, significance, teachers
from cckd_jax.methods import METHODS, Method, everyone, once_reached, self_regulated
from cckd_jax.reporting import report
from cckd_jax.reporting.files import write_json, write_text
from cckd_jax.training import optimizers
from cckd_jax.training.teacher_outputs import TeacherOutputs

_HYPERPARAMETERS = (
    'temperature',
    'confidence_temperature',
    'margin_temperature',
    'alpha',
    'hard_weight',
    'soft_weight',
    'feature_weight',
    'reduction',
    'weights_gradient',
    'largest_weight',
    'longest_rest',
    'epsilon',
    'attack_steps',
    'adversarial_weight',
    'trust_power',
    'rho',
    'warm_up',
    'ramp',
    'bounds',
)


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
    method = check(config)
    folder = Path(workdir).expanduser()
    with directory.opened(folder, config):
        if all((folder / name).exists() for name in ('results.json', 'report.md')):
            say(f'{folder} is complete: {folder / "report.md"}')
            return json.loads((folder / 'results.json').read_text(encoding='utf-8'))
        return _run(config, method, folder, list(devices or jax.local_devices()))


def check(config: ConfigDict) -> Method:
    """The method of a config that a run could begin with, as far as its settings tell.

    Raises:
      InputError: a value cannot be used; its message names it and the way out.
    """
    settings.check(config)
    method = resolve_method(config)
    lookup(optimizers.OPTIMIZERS, config.optimizer.name, 'optimizer')
    lookup(optimizers.SCHEDULES, config.optimizer.schedule, 'schedule')
    parts = settings.teachers(config)
    teachers.check(config, method, parts)
    significance.check(config, method)
    around.check(config, method, parts)
    for part in (config.student, *(part for part in parts if not part.logits)):
        networks.create_model(config, part, num_classes=2)
    return method


def resolve_method(config: ConfigDict) -> Method:
    """The method's row with the config's gate and those of its hyper-parameters that the method has.

    Raises:
      InputError: there is no method of that name.
    """
    method = lookup(METHODS, config.method, 'method')
    if config.self_regulate is not None:
        method = dataclasses.replace(method, select=self_regulated if config.self_regulate else everyone)
    if config.recheck:
        if method.select is everyone:
            raise InputError(
                f'recheck=true needs a gate, and {config.method} has none; add --config.self_regulate=true'
            )
        method = dataclasses.replace(method, again=once_reached)
    taken = {name: value for name, value in _given(config).items() if name in method.hyperparameters}
    return method.configured(**taken)


def _run(config: ConfigDict, method: Method, folder: Path, devices: list[jax.Device]) -> dict[str, Any]:
    dataset = data.load(
        config.dataset.name,
        data_dir=config.dataset.data_dir,
        image_shape=tuple(config.dataset.image_shape),
        examples=config.dataset.examples,
        validation_fraction=config.validation_fraction,
        seed=config.seed,
    )
    this = networks.Run(config, settings.teachers(config), folder, dataset, devices)
    training.check_batch(config.batch_size, len(dataset.train), devices)
    # Whatever is given is read before anything is trained, and before the workdir becomes this config's.
    given = teachers.read_given(this)
    modules = []
    taught_by = zip(this.teachers, given, strict=True)
    for part in (config.student, *(part for part, one in taught_by if not isinstance(one, TeacherOutputs))):
        modules.append(networks.create_model(config, part, dataset.num_classes))
        models.check_fits(part.model, modules[-1], dataset.image_shape, dataset.num_classes)
    teachers.check_maps(this, method, modules[0], modules[1:])
    around.check_layers(this, method)
    separate = None
    if config.attack.checkpoint:
        separate = networks.restore(this, config.attack.checkpoint, config.student, method='separate')
    counted = None
    if given[0] is not None or config.significance.file:
        counted = significance.find(this, method, given[0] if isinstance(given[0], networks.Trained) else None)
    write_json(folder / 'config.json', settings.as_dict(config))
    for name in _given(config).keys() - method.hyperparameters:
        say(f'{config.method} has no {name}; the one given is not used')
    _say_of_ramp('student', method, config.student.epochs)
    for name, part, one in zip(teachers.names(len(given)), this.teachers, given, strict=True):
        if one is None:
            _say_of_ramp(name, teachers.resolve_method(part), part.epochs)

    taught = teachers.obtain(this, given)
    counted = counted or significance.find(this, method, taught.networks[0])
    if counted is not None:
        significance.keep(this, counted)
    (aux, live) = teachers.prepare(this, method, taught)
    if 'significance' in method.needs:
        aux['significance'] = significance.weights(this, counted)
    student = networks.train_network(
        this, 'student', config.student, method, method_name=config.method, aux=aux, live=live
    )
    if separate is None:
        separate = student
        if not _is_separate(config):
            separate = networks.train_network(this, 'separate', config.student, METHODS['separate'])
    found = results.evaluate(this, method, taught, student, separate)
    found['significance'] = counted and significance.describe(this, method, counted, taught.outputs, student)
    write_json(folder / 'results.json', found)
    write_text(folder / 'report.md', report.render(found))
    say(f'the report is in {folder / "report.md"}')
    return found


def _given(config: ConfigDict) -> dict[str, Any]:
    return {name: config[name] for name in _HYPERPARAMETERS if config[name] is not None}


def _say_of_ramp(name: str, method: Method, epochs: int) -> None:
    grown = method.hyperparameters.get('warm_up', 0) + method.hyperparameters.get('ramp', 0)
    if grown >= epochs:
        say(f'{name}: what grows over the epochs reaches its value in epoch {grown + 1}, and there are {epochs}')


def _is_separate(config: ConfigDict) -> bool:
    same_rate = config.student.learning_rate == config.separate.learning_rate
    return config.method == 'separate' and not config.self_regulate and same_rate

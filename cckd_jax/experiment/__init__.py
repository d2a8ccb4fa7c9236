"""The whole walk of a run: data, teachers, their outputs, the student, evaluation, report."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cckd_jax import config as settings, config_check, data, methods, models, training
from cckd_jax.console import say
from cckd_jax.errors import InputError
from cckd_jax.experiment import around, networks, results, significance, teachers
from cckd_jax.experiment.workdir import lock_workdir
from cckd_jax.io import write_json, write_text
from cckd_jax.methods import Method
from cckd_jax.reporting import report
from cckd_jax.training import optimizers
from cckd_jax.training.teacher_outputs import TeacherOutputs


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
    with lock_workdir(folder, config):
        if all((folder / name).exists() for name in ('results.json', 'report.md')):
            say(f'{folder} is complete: {folder / "report.md"}')
            return json.loads((folder / 'results.json').read_text(encoding='utf-8'))
        return _run(config, method, folder, list(devices or jax.local_devices()))


def check(config: ConfigDict) -> Method:
    """The method of a config that a run could begin with, as far as its settings tell.

    Raises:
      InputError: a value cannot be used; its message names it and the way out.
    """
    config_check.check(config)
    method = resolve_method(config)
    optimizer = config.optimizer
    optimizers.create(optimizer.name, 1e-3, schedule=optimizer.schedule, steps=1, weight_decay=optimizer.weight_decay)
    parts = settings.teachers(config)
    teachers.check(config, method, parts)
    significance.check(config, method)
    around.check(config, method, parts)
    for part in (config.student, *(part for part in parts if not part.logits)):
        networks.create_model(config, part, num_classes=2)
    return method


def resolve_method(config: ConfigDict) -> Method:
    """The method's row with the config's gate, hyper-parameters and learning rate.

    Raises:
      InputError: there is no such method or gate, or the two do not go together.
    """
    method = methods.get(config.method)
    if config.gate is not None and config.self_regulate is not None:
        raise InputError(
            f'gate={config.gate} and self_regulate={str(config.self_regulate).lower()} are both set; set one of them'
        )
    if config.gate is not None:
        method = method.with_gate(methods.get_gate(config.gate))
    elif config.self_regulate is not None:
        method = method.with_gate(methods.SELF_REGULATED if config.self_regulate else None)
    if config.recheck:
        method = _rechecked(config, method)
    values = {name: config.get(name) for name in method.hyperparameters}
    method = method.override(**{name: value for name, value in values.items() if value is not None})
    return dataclasses.replace(method, learning_rate=config.student.learning_rate or method.learning_rate, check=False)


def baseline_method(config: ConfigDict) -> Method:
    """How the student that is trained without a teacher learns."""
    method = methods.METHODS['separate']
    return dataclasses.replace(method, learning_rate=config.separate.learning_rate or method.learning_rate, check=False)


def _rechecked(config: ConfigDict, method: Method) -> Method:
    if method.gate is None:
        raise InputError(f'recheck=true needs a gate, and {config.method} has none; add --config.self_regulate=true')
    if method.gate is methods.SELF_REGULATED:
        return method.with_gate(methods.SELF_REGULATED_RECHECK)
    if not method.skips_samples:
        raise InputError(f'recheck=true needs a gate with next_epoch, and {config.gate} has none; set recheck=false')
    return method


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
    teachers.check_features(this, method, modules[0], modules[1:])
    around.check_layers(this, method)
    separate = None
    if config.attack.checkpoint:
        separate = networks.restore(this, config.attack.checkpoint, config.student, method='separate')
    counted = None
    if given[0] is not None or config.significance.file:
        counted = significance.find(this, method, given[0] if isinstance(given[0], networks.Trained) else None)
    write_json(folder / 'config.json', settings.as_dict(config))
    _say_of_ramp('student', method, config.student.epochs)
    for name, part, one in zip(teachers.names(len(given)), this.teachers, given, strict=True):
        if one is None:
            _say_of_ramp(name, teachers.resolve_method(part), part.epochs)

    taught = teachers.obtain(this, given)
    counted = counted or significance.find(this, method, taught.networks[0])
    if counted is not None:
        significance.keep(this, counted)
    (aux, live) = teachers.student_aux(this, method, taught)
    if method.weighting is not None:
        aux['significance'] = significance.weights(this, counted)
    student = networks.train_network(
        this, 'student', config.student, method, method_name=config.method, aux=aux, live_teachers=live
    )
    if separate is None:
        separate = student
        if not _is_separate(config):
            separate = networks.train_network(this, 'separate', config.student, baseline_method(config))
    found = results.evaluate(this, method, taught, student, separate)
    found['significance'] = counted and significance.describe(this, method, counted, taught.outputs, student)
    write_json(folder / 'results.json', found)
    write_text(folder / 'report.md', report.render(found))
    say(f'the report is in {folder / "report.md"}')
    return found


def _say_of_ramp(name: str, method: Method, epochs: int) -> None:
    if not method.schedules:
        return
    full = method.hyperparameters.get('warm_up', 0) + method.hyperparameters.get('ramp', 0) + 1
    if full > epochs:
        names = ' and '.join(method.schedules)
        say(
            f'warning: {name}: {names} reach full value in epoch {full}, but training stops after epoch {epochs}; '
            'lower --config.ramp'
        )


def _is_separate(config: ConfigDict) -> bool:
    method = resolve_method(config)
    same_rate = method.learning_rate == baseline_method(config).learning_rate
    return config.method == 'separate' and method.gate is None and same_rate

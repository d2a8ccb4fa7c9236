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
from cckd_jax.experiment import directory, networks, results, significance
from cckd_jax.methods import METHODS, Method, everyone, once_reached, self_regulated
from cckd_jax.reporting import report
from cckd_jax.reporting.files import write_json, write_text
from cckd_jax.training import optimizers

_HYPERPARAMETERS = (
    'temperature',
    'confidence_temperature',
    'margin_temperature',
    'alpha',
    'hard_weight',
    'longest_rest',
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
    settings.check(config)
    method = resolve_method(config)
    lookup(optimizers.OPTIMIZERS, config.optimizer.name, 'optimizer')
    lookup(optimizers.SCHEDULES, config.optimizer.schedule, 'schedule')
    significance.check(config, method)
    for part in _networks_wanted(config):
        networks.create_model(config, part, num_classes=2)
    folder = Path(workdir).expanduser()
    with directory.opened(folder, config):
        if (folder / 'report.md').exists():
            say(f'{folder} is complete: {folder / "report.md"}')
            return json.loads((folder / 'results.json').read_text(encoding='utf-8'))
        return _run(config, method, folder, list(devices or jax.local_devices()))


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


def resolve_teacher_method(config: ConfigDict) -> Method:
    """What a teacher is trained by: the labels alone, with its own gate where `teacher.self_regulate` asks for it.

    Its gate looks at every sample in every epoch, whatever `recheck` says: significance is how often a sample takes
    part, and one that the teacher forgets unseen would not be counted.
    """
    method = dataclasses.replace(METHODS['separate'], learning_rate=config.teacher.learning_rate)
    if not config.teacher.self_regulate:
        return method
    gate = {name: config.teacher[name] for name in ('alpha', 'margin_temperature') if config.teacher[name] is not None}
    return dataclasses.replace(method, select=self_regulated).configured(**gate)


def _run(config: ConfigDict, method: Method, folder: Path, devices: list[jax.Device]) -> dict[str, Any]:
    dataset = data.load(
        config.dataset.name,
        data_dir=config.dataset.data_dir,
        image_shape=tuple(config.dataset.image_shape),
        examples=config.dataset.examples,
        validation_fraction=config.validation_fraction,
        seed=config.seed,
    )
    this = networks.Run(config, folder, dataset, devices)
    training.check_batch(config.batch_size, len(dataset.train), devices)
    for part in _networks_wanted(config):
        module = networks.create_model(config, part, dataset.num_classes)
        models.check_fits(part.model, module, dataset.image_shape, dataset.num_classes)
    # Whatever is given is read before anything is trained, and before the workdir becomes this config's.
    logits = teacher = separate = None
    if config.teacher.logits:
        logits = networks.read_given_logits(this)
    if config.teacher.checkpoint:
        teacher = networks.restore(this, config.teacher.checkpoint, config.teacher)
    if config.attack.checkpoint:
        separate = networks.restore(this, config.attack.checkpoint, config.student, method='separate')
    counted = None
    if teacher or config.teacher.logits or config.significance.file:
        counted = significance.find(this, method, teacher)
    write_json(folder / 'config.json', json.loads(config.to_json()))
    for name in _given(config).keys() - method.hyperparameters:
        say(f'{config.method} has no {name}; the one given is not used')

    if logits is not None:
        teachers, outputs = [], networks.keep_given_logits(this, logits)
    else:
        teachers = [teacher or networks.train_network(this, 'teacher', resolve_teacher_method(config))]
        outputs = networks.obtain_outputs(this, teachers)
        counted = counted or significance.find(this, method, teachers[0])
    if counted is not None:
        significance.keep(this, counted)
    constants = {'significance': significance.weights(this, counted)} if 'significance' in method.needs else {}
    student = networks.train_network(
        this, 'student', method, method_name=config.method, teachers=teachers, outputs=outputs, constants=constants
    )
    if separate is None:
        separate = student if _is_separate(config) else networks.train_network(this, 'separate', METHODS['separate'])
    found = results.evaluate(this, method, teachers, outputs, student, separate)
    found['significance'] = counted and significance.describe(this, method, counted, outputs, student)
    write_json(folder / 'results.json', found)
    write_text(folder / 'report.md', report.render(found))
    say(f'the report is in {folder / "report.md"}')
    return found


def _networks_wanted(config: ConfigDict) -> list[ConfigDict]:
    return [config.student] if config.teacher.logits else [config.teacher, config.student]


def _given(config: ConfigDict) -> dict[str, float]:
    return {name: config[name] for name in _HYPERPARAMETERS if config[name] is not None}


def _is_separate(config: ConfigDict) -> bool:
    return config.method == 'separate' and not config.self_regulate and config.student.learning_rate is None

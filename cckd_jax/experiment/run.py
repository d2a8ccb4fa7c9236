"""A run from its config to its report: load, train teachers, distil, train the baseline, evaluate, report."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from cckd_jax import config as settings, config_check, data, evaluators, models, processes, provenance, training
from cckd_jax.console import log
from cckd_jax.evaluators import FinishedRun, Results, Significance, Teachers, TrainedNetwork
from cckd_jax.experiment import (
    network_training,
    networks,
    preflight,
    significance,
    stages,
    students,
    teachers,
    transfer,
)
from cckd_jax.experiment.networks import Run
from cckd_jax.experiment.resolve import baseline_method, resolve_method
from cckd_jax.experiment.results import measure, read, summary, write_report
from cckd_jax.experiment.workdir import lock_workdir
from cckd_jax.io import write_json
from cckd_jax.methods import Method
from cckd_jax.paths import expand, network_names
from cckd_jax.report import stages as stage_names, tracking
from cckd_jax.synthesis import TransferSet
from cckd_jax.training import optimizers
from cckd_jax.training.teacher_outputs import TeacherOutputs

# Settings that may change when a run directory is reused. A change of EVALUATION evaluates the run again; the others do
# not affect results. Data may move: the key of the teacher outputs shows whether its content changed.
EVALUATION = ('evaluate', 'attack.epsilon', 'attack.samples')
WITHOUT_EFFECT = settings.WITHOUT_EFFECT


class Pretrained(NamedTuple):
    """What a run loads from files.

    Attributes:
      teachers: for each teacher its network, its logits, or None if the run trains it.
      baseline: the student trained without a teacher, or None.
      significance: counts of `significance.file` or of a restored teacher, or None.
    """

    teachers: Sequence[teachers.Loaded]
    baseline: TrainedNetwork | None
    significance: Significance | None


def run(config: ConfigDict, workdir: str | Path, *, devices: Sequence[jax.Device] | None = None) -> Results:
    """Runs a config to its report, and resumes an earlier run in the same workdir.

    A finished run does not change. If settings of the evaluation differ, it is evaluated again, without training.

    Args:
      config: of `config.default`, changed.
      workdir: the run directory; created if it does not exist.
      devices: those of this process when None.

    Returns:
      What `results.json` holds.

    Raises:
      InputError: a value cannot be used; its message names it and the way out.
    """
    method = check(config)
    folder = expand(workdir)
    devices = list(devices or jax.local_devices())
    processes.check_same(lambda: _facts(config, devices))
    processes.connect_devices()
    with contextlib.ExitStack() as stack:
        finished = processes.from_process_0(lambda: _lock(folder, config, stack))
        return finished or _walk(config, folder, devices, method)


def check(config: ConfigDict) -> Method:
    """Checks the settings of a run, as far as possible without data and files, and returns its method.

    Raises:
      InputError: a value cannot be used; its message names it and the way out.
    """
    config_check.check(config)
    method = resolve_method(config)
    optimizer = config.optimizer
    optimizers.create(optimizer.name, 1e-3, schedule=optimizer.schedule, steps=1, weight_decay=optimizer.weight_decay)
    teacher_configs = settings.teachers(config)
    teachers.check(config, method, teacher_configs)
    students.check(config, method)
    significance.check(config, method)
    preflight.check(config, method, teacher_configs)
    transfer.check(config, method, teacher_configs)
    evaluators.check(config.evaluate)
    tracking.check(config.tracker)
    teacher_networks = [teacher for teacher in teacher_configs if not settings.logits_source(teacher)]
    for network_config in (*settings.students(config), *teacher_networks):
        networks.create_model(config, network_config, num_classes=2)
    return method


def _facts(config: ConfigDict, devices: Sequence[jax.Device]) -> dict[str, Any]:
    """What all processes must share: settings that affect results, devices and versions."""
    values = flatten_dict(settings.as_dict(config), sep='.')
    for name in WITHOUT_EFFECT:
        del values[name]
    kinds = {'devices': [device.device_kind for device in devices]}
    return {**values, **kinds, **provenance.versions(('cckd-jax', 'jax', 'flax', 'optax'))}


def _lock(folder: Path, config: ConfigDict, stack: contextlib.ExitStack) -> Results | None:
    """Locks the run directory until the stack closes; returns the results of a run that is complete."""
    changed = stack.enter_context(lock_workdir(folder, config, may_differ=EVALUATION + WITHOUT_EFFECT))
    finished = read(folder)
    if finished is None or not all((folder / name).exists() for name in ('report.md', 'config.json')):
        return None
    effective = sorted(changed.difference(WITHOUT_EFFECT))
    if effective:
        log(f'evaluating {folder} again, with other {", ".join(effective)}')
        return None
    log(f'{folder} is complete: {folder / "report.md"}')
    return finished


def begin(config: ConfigDict, workdir: Path, devices: list[jax.Device], method: Method) -> tuple[Run, Pretrained]:
    """Reads the data and what the config names as files, and writes the config into the run directory."""
    run = _open(config, workdir, devices)
    pretrained = load_pretrained(run, method)
    processes.from_process_0(lambda: _record_settings(run, method, pretrained))
    return run, pretrained


def _walk(config: ConfigDict, workdir: Path, devices: list[jax.Device], method: Method) -> Results:
    (run, pretrained) = begin(config, workdir, devices, method)
    trained_alone = trains_baseline(run, pretrained)
    run = run._replace(stages=stages.plan(run, method, pretrained.teachers, trains_baseline=trained_alone))
    (train, test) = (run.dataset.train, run.dataset.test)
    log(f'{run.config.method} on {run.config.dataset.name}: {len(train):,} training images, {len(test):,} test images')
    run.stages.announce()
    tracker_name = run.config.tracker if processes.is_process_0() else None
    with tracking.opened(tracker_name, run.workdir, settings.as_dict(run.config)) as tracker:
        results = _walk_stages(run._replace(tracker=tracker), method, pretrained)
    log(summary(run.workdir, results))
    return results


def _walk_stages(run: Run, method: Method, pretrained: Pretrained) -> Results:
    teachers = train_teachers(run, pretrained)
    counts = count_significance(run, method, pretrained, teachers)
    samples = processes.from_process_0(lambda: transfer.make(run, teachers))
    trained = distil(run, method, teachers, counts, samples)
    baseline = train_baseline(run, pretrained, trained[0] if samples is None else None)
    run.stages.begin(stage_names.EVALUATION)

    def evaluate_and_report() -> Results:
        results = evaluate(run, method, teachers, trained, baseline, counts, samples)
        run.stages.begin(stage_names.REPORT)
        write_report(run.workdir, results)
        return results

    return processes.from_process_0(evaluate_and_report)


def load_pretrained(run: Run, method: Method) -> Pretrained:
    """Reads what the config names as files, and rejects everything that can be rejected before any training.

    Raises:
      InputError: a file cannot be read or does not fit, or a network does not fit the images or the method.
    """
    config, dataset = run.config, run.dataset
    loaded = teachers.load_pretrained(run)
    configs = list(run.students)
    configs += [
        teacher for teacher, source in zip(run.teachers, loaded, strict=True) if not isinstance(source, TeacherOutputs)
    ]
    modules = [networks.create_model(config, network_config, dataset.num_classes) for network_config in configs]
    for network_config, module in zip(configs, modules, strict=True):
        models.check_image_shape(network_config.model, module, dataset.image_shape, dataset.num_classes)
    teachers.check_features(run, method, modules[0], modules[len(run.students) :])
    preflight.check_layers(run, method)
    students.check_memory(run, method)
    transfer.check_teacher(run)

    baseline = None
    if config.attack.checkpoint:
        baseline = networks.restore(run, config.attack.checkpoint, run.students[0], method='separate')
    counts = None
    first = loaded[0] if loaded else None
    if first is not None or config.significance.file:
        counts = significance.load_or_count(run, method, None if isinstance(first, TeacherOutputs) else first)
    return Pretrained(loaded, baseline, counts)


def train_teachers(run: Run, pretrained: Pretrained) -> Teachers:
    """Trains the teachers that are not pretrained, and computes the logits of all of them."""
    return teachers.train_teachers(run, pretrained.teachers)


def count_significance(run: Run, method: Method, pretrained: Pretrained, teachers: Teachers) -> Significance | None:
    """Counts how often each training example trained the (first) teacher, and writes `significance.npz`.

    Returns:
      The counts, or None if they are unknown.

    Raises:
      InputError: the method needs counts that the teacher does not have, or the workdir holds other counts.
    """
    counts = pretrained.significance
    if counts is None and teachers.networks:
        counts = significance.load_or_count(run, method, teachers.networks[0])
    if counts is not None:
        processes.from_process_0(lambda: significance.save_counts(run, counts))
    return counts


def distil(
    run: Run, method: Method, trained: Teachers, counts: Significance | None, samples: TransferSet | None = None
) -> tuple[TrainedNetwork, ...]:
    """Trains the student, or several of them together, on the transfer set if there is one."""
    if samples is not None:
        (run, trained) = transfer.in_place_of_training_set(run, trained, samples)
    (aux, live) = teachers.student_aux(run, method, trained)
    if method.weighting is not None and counts is not None:
        aux['significance'] = significance.weights(run, counts)
    if samples is not None and samples.targets is not None:
        aux['label_distribution'] = samples.targets
    return students.train(run, method, method_name=run.config.method, aux=aux, live_teachers=live)


def train_baseline(run: Run, pretrained: Pretrained, student: TrainedNetwork | None) -> TrainedNetwork | None:
    """Trains the student without a teacher on the training set, of several students the first.

    Args:
      run: the run.
      pretrained: what `load_pretrained` returned.
      student: the distilled student, or None if it did not learn from the training set.

    Returns:
      The trained network; the distilled student itself if its method and learning rate are the baseline's; None if the
      run omits it.
    """
    config = run.config
    if pretrained.baseline is not None:
        return pretrained.baseline
    if student is not None and _student_is_baseline(run):
        return student
    if not config.separate.enabled:
        return None
    return network_training.train_network(plan_baseline(run))


def plan_baseline(run: Run) -> network_training.Plan:
    """How a run trains the (first) student without a teacher."""
    seed = networks.seeds(run.config, run.students)[0]
    return network_training.Plan(
        run, 'separate', run.students[0], baseline_method(run.config), seed=seed, is_student=True
    )


def trains_baseline(run: Run, pretrained: Pretrained) -> bool:
    """Whether `train_baseline` trains a network, instead of returning another one or None."""
    config = run.config
    is_student = config.transfer.name is None and _student_is_baseline(run)
    return pretrained.baseline is None and config.separate.enabled and not is_student


def evaluate(
    run: Run,
    method: Method,
    teachers: Teachers,
    trained: tuple[TrainedNetwork, ...],
    baseline: TrainedNetwork | None,
    counts: Significance | None,
    samples: TransferSet | None = None,
) -> Results:
    """Computes every number of the report and writes `results.json`."""
    return measure(
        FinishedRun(
            config=run.config,
            dataset=run.dataset,
            workdir=run.workdir,
            devices=run.devices,
            method=method,
            teachers=teachers,
            students=trained,
            baseline=baseline,
            # Participation of transfer samples says nothing about the training examples that were counted.
            significance=counts if samples is None else None,
            transfer=samples,
        )
    )


def load_dataset(config: ConfigDict, devices: Sequence[jax.Device] = ()) -> data.Dataset:
    """Reads the data set of a run, whose images will be on these devices.

    Raises:
      InputError: it cannot be read.
    """
    return data.load(
        config.dataset.name,
        data_dir=config.dataset.data_dir,
        image_shape=config.dataset.image_shape and tuple(config.dataset.image_shape),
        test_fraction=config.dataset.test_fraction,
        split_seed=config.dataset.split_seed,
        skip_unreadable=config.dataset.skip_unreadable,
        examples=config.dataset.examples,
        validation_fraction=config.validation_fraction,
        seed=config.seed,
        memory_gib=config.dataset.memory_gib,
        devices=devices,
    )


def _student_is_baseline(run: Run) -> bool:
    """Whether the (first) student learns as the baseline does, if both learn from the training set."""
    config = run.config
    baseline = baseline_method(config)
    # With several students, the first may have a learning rate of its own, which the method lacks.
    has_its_rate = run.students[0].learning_rate in (None, baseline.learning_rate)
    return config.method == 'separate' and resolve_method(config) == baseline and has_its_rate


def _open(config: ConfigDict, workdir: Path, devices: list[jax.Device]) -> Run:
    dataset = processes.process_0_first(lambda: load_dataset(config, devices))
    processes.check_same(lambda: _data_facts(dataset))
    training.check_batch(config.batch_size, len(dataset.train), processes.all_devices(devices))
    if config.compaction:
        training.check_compaction(devices, is_stored=dataset.train.is_stored)
    return Run(config, workdir, dataset, devices)


def _data_facts(dataset: data.Dataset) -> dict[str, Any]:
    splits = {'training data': dataset.train, 'validation data': dataset.validation, 'test data': dataset.test}
    # Each process compares the size of the images with its own free memory, unless dataset.memory_gib is set.
    return {
        **{name: split.fingerprint() for name, split in splits.items()},
        'images on the disk': dataset.train.is_stored,
    }


def _record_settings(run: Run, method: Method, pretrained: Pretrained) -> None:
    """Writes the config into the workdir, and warns of settings without effect."""
    # A report of other settings must not count as a finished run of the current settings.
    for name in ('report.md', 'report.html'):
        (run.workdir / name).unlink(missing_ok=True)
    write_json(run.workdir / 'config.json', settings.as_dict(run.config))
    _warn_of_ramp('student', method, run.config.student.epochs, '--config.ramp')
    names = network_names('teacher', len(run.teachers))
    for name, teacher, loaded in zip(names, run.teachers, pretrained.teachers, strict=True):
        if loaded is None:
            _warn_of_ramp(name, teachers.resolve_method(teacher), teacher.epochs, '--config.teacher.ramp')


def _warn_of_ramp(name: str, method: Method, epochs: int, setting: str) -> None:
    full = method.hyperparameters.get('warm_up', 0) + method.hyperparameters.get('ramp', 0) + 1
    if method.schedules and full > epochs:
        log(
            f'warning: {name}: {" and ".join(method.schedules)} reach full value in epoch {full}, but training stops '
            f'after epoch {epochs}; lower {setting}'
        )

"""Training of the networks of a run, from their first step or from a checkpoint."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from cckd_jax import data, evaluation, models, processes, training
from cckd_jax.evaluators import TrainedNetwork
from cckd_jax.experiment.networks import Run, create_model, training_facts
from cckd_jax.methods import Method
from cckd_jax.report.metrics import MetricsWriter
from cckd_jax.report.progress import Progress
from cckd_jax.training import optimizers
from cckd_jax.training.loop import Observer, State, StateCheckpoints
from cckd_jax.training.totals import EpochTotals, Row, Totals


class Writer(Observer, Protocol):
    """Writes the rows of the loop."""

    def close(self) -> None:
        """Called after the last row, or an error."""


class Plan(NamedTuple):
    """How a run trains one network, in `<workdir>/<name>`.

    Attributes:
      run: the run.
      name: name of the folder.
      network_config: the settings of a teacher or a student.
      method: how the network learns, with its learning rate.
      method_name: the method's name in the checkpoint.
      seed: seed of the initial weights and of the example order; the run's if None.
      is_student: whether its initial weights are those of the student of that seed.
      labels: int `[N]`, which replace those of the training set.
      aux: per-example constants `[N, ...]` that the method reads, by name.
      live_teachers: teachers that run inside the step.
    """

    run: Run
    name: str
    network_config: ConfigDict
    method: Method
    method_name: str = 'separate'
    seed: int | None = None
    is_student: bool = False
    labels: np.ndarray | None = None
    aux: Mapping[str, Any] = MappingProxyType({})
    live_teachers: Sequence[models.Network] = ()


class Prepared(NamedTuple):
    """A network before its first step, and everything that its training reads.

    Attributes:
      module: the network.
      teachers: modules of the live teachers.
      optimizer: receives the gradients.
      schedule: epochs, batches and order.
      state: before the first step.
      data: the training set.
      facts: which a checkpoint must share to be resumed.
    """

    module: nn.Module
    teachers: tuple[nn.Module, ...]
    optimizer: optax.GradientTransformation
    schedule: training.Schedule
    state: training.TrainState
    data: training.TrainData
    facts: dict[str, Any]


def prepare(plan: Plan) -> Prepared:
    """Creates the network of a plan, its optimizer, and the order of its batches."""
    (run, method) = (plan.run, plan.method)
    seed = run.config.seed if plan.seed is None else plan.seed
    split = run.dataset.train
    facts = training_facts(run, plan.network_config, method, plan.method_name)
    if plan.labels is not None:
        facts['label_noise'] = plan.network_config.label_noise
        split = data.Split(split.images, plan.labels)
    module = create_model(run.config, plan.network_config, run.dataset.num_classes)
    teachers = tuple(teacher.module for teacher in plan.live_teachers)
    schedule = create_schedule(run, plan.network_config.epochs, seed, method, split, plan.aux)
    optimizer = create_optimizer(run, method.learning_rate, schedule.steps)
    key = network_key(seed, is_student=plan.is_student)
    state = training.initial_state(method, module, teachers, optimizer, split, key)
    variables = tuple(teacher.variables for teacher in plan.live_teachers)
    return Prepared(
        module, teachers, optimizer, schedule, state, training.train_data(split, plan.aux, key, variables), facts
    )


def train_network(plan: Plan) -> TrainedNetwork:
    """Trains a network to its last epoch, or resumes."""
    (run, prepared) = (plan.run, prepare(plan))
    step = training.choose_step(
        plan.method,
        prepared.module,
        prepared.teachers,
        prepared.optimizer,
        prepared.state,
        devices=run.devices,
        augment=create_augmentation(run),
        compaction=run.config.compaction,
        is_stored=run.dataset.train.is_stored,
    )
    folder = run.workdir / plan.name
    (state, rows) = train_to_end(
        run,
        plan.name,
        step,
        prepared.state,
        prepared.data,
        prepared.schedule,
        checkpoints=training.shared_checkpoints(lambda: training.Checkpoints(folder, prepared.facts)),
        writers=create_writers(run, plan.name),
        measures=_validation(run, prepared.module),
    )
    (variables, participation) = jax.device_get((state.student, state.participation))
    meta = {**prepared.facts, 'epochs': plan.network_config.epochs}
    return TrainedNetwork(models.Network(prepared.module, variables), meta, rows, np.asarray(participation))


def train_to_end(
    run: Run,
    name: str,
    step: Callable[..., Any],
    state: State,
    train_data: training.TrainData,
    schedule: training.Schedule,
    *,
    checkpoints: contextlib.AbstractContextManager[StateCheckpoints[State]],
    writers: Sequence[Writer],
    measures: Callable[[State], Row],
    totals: Callable[[], EpochTotals] = Totals,
) -> tuple[State, list[Row]]:
    """Trains with a progress bar to the last epoch, or resumes, and closes checkpoints and writers.

    Args:
      run: the run.
      name: of the stage.
      step: of `make_step` or `make_peer_step`.
      state: before the first step.
      train_data: the training set.
      schedule: epochs and batches.
      checkpoints: not entered yet.
      writers: of the rows.
      measures: further columns of a row, from the state after its epoch.
      totals: sums of an epoch.

    Returns:
      The state after the last epoch, and the rows of all epochs.
    """
    observers: list[Any] = []
    if processes.is_process_0():
        observers = [*writers, Progress(name, schedule.epochs, len(schedule.subset), run.stages)]
    with contextlib.ExitStack() as stack:
        entered = stack.enter_context(checkpoints)
        for observer in observers:
            stack.enter_context(contextlib.closing(observer))
        return training.train(
            step,
            state,
            train_data,
            schedule,
            checkpoints=entered,
            observers=observers,
            devices=run.devices,
            measures=measures,
            save_seconds=run.config.save_seconds,
            totals=totals,
            stream=training.make_stream(run.dataset.train.images, run.devices),
        )


def create_writers(run: Run, name: str) -> list[Writer]:
    """The writers of a network's rows: its files in `<workdir>/<name>`, and the tracker of the run if it has one."""
    files = MetricsWriter(run.workdir / name)
    return [files] if run.tracker is None else [files, run.tracker.writer(name)]


def create_schedule(
    run: Run, epochs: int, seed: int, method: Method, split: data.Split, aux: Mapping[str, Any]
) -> training.Schedule:
    """The epochs, batches and order of examples of a network, or of several that train together."""
    subset = method.epoch_subset(split.labels, aux)
    steps = training.steps_per_call(method, run.devices, is_stored=split.is_stored)
    return training.Schedule(epochs, run.config.batch_size, seed, subset, steps)


def create_optimizer(run: Run, learning_rate: float, steps: int) -> optax.GradientTransformation:
    """The optimizer of `config.optimizer`, whose schedule takes that many steps."""
    optimizer = run.config.optimizer
    return optimizers.create(
        optimizer.name,
        learning_rate,
        schedule=optimizer.schedule,
        steps=steps,
        weight_decay=optimizer.weight_decay,
    )


def create_augmentation(run: Run) -> data.Augment | None:
    """The run's own augmentation, otherwise that of `config.augmentation`, or None."""
    augmentation = run.config.augmentation
    return run.augment or data.augmentation(
        crop=augmentation.crop, flip=augmentation.flip, image_shape=run.dataset.image_shape
    )


def network_key(seed: int, *, is_student: bool) -> jax.Array:
    """The key of a network's initial weights, dropout and augmentation.

    A student and its baseline start from equal weights, for a fair comparison; a teacher does not.
    """
    return jax.random.fold_in(jax.random.key(seed), int(is_student))


def _validation(run: Run, module: nn.Module) -> Callable[[training.TrainState], dict[str, float]]:
    """Returns the function that measures accuracy on the validation split, if there is one."""
    if not len(run.dataset.validation):
        return lambda state: {}
    measure = validation_accuracy(run, module)
    return lambda state: {'validation_accuracy': measure(state.student)}


def validation_accuracy(run: Run, module: nn.Module) -> Callable[[Any], float]:
    """Returns the function from a network's variables to its accuracy on the validation split."""
    validation = run.dataset.validation
    predict = evaluation.make_predict(module, devices=run.devices)

    def measure(variables: Any) -> float:
        logits = predict(jax.device_get(variables), validation.images)
        return float(evaluation.correct(logits, validation.labels).mean())

    return measure

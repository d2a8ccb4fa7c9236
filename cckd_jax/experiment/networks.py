"""The networks of a run: made, trained or picked up, and restored."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import data, evaluation, models, training
from cckd_jax.methods import Method, every_epoch, everyone
from cckd_jax.reporting.metrics import MetricsWriter, read_rows
from cckd_jax.reporting.progress import Progress
from cckd_jax.training import optimizers

# Calls of an accelerator are this many steps long, so that progress is still seen.
_STEPS_AT_ONCE = 100


class Run(NamedTuple):
    """What every part of a run looks at; `teachers` are the settings of each teacher."""

    config: ConfigDict
    teachers: Sequence[ConfigDict]
    workdir: Path
    dataset: data.Dataset
    devices: Sequence[jax.Device]


class Trained(NamedTuple):
    """A network and how it came about; one that was restored from elsewhere has no rows and took no time.

    `participation` int32 `[N]` is how often each example of the network's own training set took part, or None for one
    that was restored and had no gate.
    """

    network: models.Network
    meta: dict[str, Any]
    rows: list[dict[str, Any]]
    participation: np.ndarray | None

    @property
    def seconds(self) -> float:
        """Time spent in its epochs."""
        return sum(row['epoch_seconds'] for row in self.rows)


def create_model(config: ConfigDict, part: ConfigDict, num_classes: int) -> nn.Module:
    """The network of a teacher's settings or of `config.student`."""
    # Modules are hashed, and a config file may give a list.
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in part.options.items()}
    if config.precision != 'float32':
        options['dtype'] = jnp.dtype(config.precision)
    return models.create(part.model, num_classes, **options)


def restore(this: Run, given: str, part: ConfigDict, **expected: Any) -> Trained:
    """A network from a checkpoint folder, checked to be what the config says.

    Args:
      this: the run.
      given: the folder, such as RUN/teacher.
      part: the settings of a teacher or `config.student`, which the network must fit.
      **expected: further facts that must hold of it, such as the method it was trained by.

    Raises:
      InputError: there is no readable checkpoint, or it holds another network or was made for another data set.
    """
    folder = Path(given).expanduser()
    (meta, variables) = training.load_network(folder)
    training.check_meta(meta, {**_network_facts(this, part), **expected}, folder)
    module = create_model(this.config, part, this.dataset.num_classes)
    participation = training.load_participation(folder, meta['epochs']) if meta.get('gate') else None
    return Trained(models.Network(module, variables), meta, [], participation)


def train_network(
    this: Run,
    name: str,
    part: ConfigDict,
    method: Method,
    *,
    method_name: str = 'separate',
    seed: int | None = None,
    labels: np.ndarray | None = None,
    aux: Mapping[str, Any] = MappingProxyType({}),
    live: Sequence[models.Network] = (),
) -> Trained:
    """Trains a network to its last epoch in `<workdir>/<name>`, or picks it up there.

    Args:
      this: the run.
      name: of its folder.
      part: the settings of a teacher, or `config.student`.
      method: what it is trained by.
      method_name: how the checkpoint calls it.
      seed: of its start and its order; the run's when None.
      labels: int `[N]`, to learn in place of the training set's.
      aux: constants of the training examples `[N, ...]`, by the names that the method needs.
      live: the teachers that compute inside the step.
    """
    config = this.config
    folder = this.workdir / name
    folder.mkdir(exist_ok=True)
    seed = config.seed if seed is None else seed
    split = this.dataset.train
    # A checkpoint is of these images and no others: on other data it would resume in silence.
    facts = {
        **_network_facts(this, part),
        'method': method_name,
        'gate': method.gate,
        'epsilon': method.hyperparameters.get('epsilon'),
        'train_data': split.fingerprint(),
    }
    if labels is not None:
        facts['label_noise'] = part.label_noise
        split = data.Split(split.images, labels)
    augment = data.augmentation(crop=config.augmentation.crop, flip=config.augmentation.flip)
    modules = tuple(teacher.module for teacher in live)
    weights = tuple(teacher.variables for teacher in live)
    layout = method.layout(split.labels, aux)
    rests = method.again is not every_epoch
    steps_at_once = 1 if _on_cpu(this) or rests else _STEPS_AT_ONCE
    schedule = training.Schedule(part.epochs, config.batch_size, seed, layout, rests, steps_at_once)
    rate = config[name].learning_rate if part is config.student else None
    optimizer = optimizers.create(
        config.optimizer.name,
        rate or method.learning_rate,
        schedule=config.optimizer.schedule,
        steps=schedule.steps,
        weight_decay=config.optimizer.weight_decay,
    )
    module = create_model(config, part, this.dataset.num_classes)
    # Student and separate student start alike, so that the two are compared on equal terms; a teacher does not.
    key = jax.random.fold_in(jax.random.key(seed), 1 if part is config.student else 0)
    state = training.initial_state(method, module, modules, optimizer, split, key)
    scan = {'scan': True} if steps_at_once > 1 else {}
    make_step = _step_maker(this, method, module, state)
    step = make_step(method, module, modules, optimizer, devices=this.devices, augment=augment, **scan)
    frozen = training.frozen_data(split, aux, key, weights)
    writer, progress = MetricsWriter(folder), Progress(name, part.epochs, len(layout))
    predict = evaluation.predictor(module, devices=this.devices)

    def measures(state: training.TrainState) -> dict[str, float]:
        if not len(this.dataset.validation):
            return {}
        logits = predict(jax.device_get(state.student), this.dataset.validation.images)
        return {'validation_accuracy': float(evaluation.correct(logits, this.dataset.validation.labels).mean())}

    with training.Checkpoints(folder, facts) as checkpoints:
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
    (variables, participation) = jax.device_get((state.student, state.participation))
    meta = {**facts, 'epochs': part.epochs}
    return Trained(models.Network(module, variables), meta, read_rows(folder), np.asarray(participation))


def _step_maker(
    this: Run, method: Method, module: nn.Module, state: training.TrainState
) -> Callable[..., training.Step]:
    exact = isinstance(module, models.Classifier) and not jax.tree.leaves(state.batch_stats)
    compacts = this.config.compaction
    if compacts is None:
        compacts = method.select is not everyone and exact and _on_cpu(this)
    if not compacts:
        return training.make_step
    return training.make_compact_step if _on_cpu(this) else training.make_compact_step_on_device


def _on_cpu(this: Run) -> bool:
    return this.devices[0].platform == 'cpu'


def _network_facts(this: Run, part: ConfigDict) -> dict[str, Any]:
    return {
        'model': part.model,
        'options': json.loads(part.options.to_json()),
        'dataset': this.dataset.name,
        'num_classes': this.dataset.num_classes,
        'image_shape': list(this.dataset.image_shape),
    }

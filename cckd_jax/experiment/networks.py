"""The networks of a run: created, or restored from checkpoints."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import config as settings, data, models, processes, training
from cckd_jax.errors import InputError
from cckd_jax.evaluators import TrainedNetwork
from cckd_jax.methods import Method
from cckd_jax.paths import expand
from cckd_jax.report.stages import Stages
from cckd_jax.report.tracking import Tracker


class Run(NamedTuple):
    """What all steps of a run share.

    Attributes:
      config: the settings.
      workdir: the run directory.
      dataset: its train, validation and test split.
      devices: the devices of this process. Training runs on those of all processes.
      augment: changes the student's images in place of `config.augmentation`.
      stages: for the progress of training.
      tracker: receives the rows of all networks.
    """

    config: ConfigDict
    workdir: Path
    dataset: data.Dataset
    devices: Sequence[jax.Device]
    augment: data.Augment | None = None
    stages: Stages = Stages()
    tracker: Tracker | None = None

    @property
    def teachers(self) -> Sequence[ConfigDict]:
        """The settings of each teacher."""
        return settings.teachers(self.config)

    @property
    def students(self) -> Sequence[ConfigDict]:
        """The settings of each student."""
        return settings.students(self.config)


def seeds(config: ConfigDict, network_configs: Sequence[ConfigDict]) -> list[int]:
    """The seed of each network: its own, or the run's for the first and one derived from it for each of the others."""
    derived = lambda index: int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0])
    defaults = [config.seed, *(derived(index) for index in range(1, len(network_configs)))]
    return [
        default if network_config.seed is None else network_config.seed
        for network_config, default in zip(network_configs, defaults, strict=True)
    ]


def create_model(config: ConfigDict, network_config: ConfigDict, num_classes: int) -> nn.Module:
    """Creates the module that a teacher's settings or `config.student` describe."""
    options = dict(network_config.options.items())
    if config.precision != 'float32':
        options['dtype'] = jnp.dtype(config.precision)
    module = models.create(network_config.model, num_classes, **options)
    # A network that was trained in PyTorch, on standardized images.
    standardization = {
        name: tuple(network_config[f'input_{name}'])
        for name in ('mean', 'std')
        if network_config.get(f'input_{name}') is not None
    }
    for name in standardization:
        if not hasattr(module, name):
            raise InputError(
                f'input_{name} needs a network with the option {name}, such as resnet18, and {network_config.model} '
                'has none; remove it'
            )
    return models.create(network_config.model, num_classes, **options, **standardization)


def restore(run: Run, path: str, network_config: ConfigDict, **expected: Any) -> TrainedNetwork:
    """Restores a network from a checkpoint folder, or from weights of PyTorch, and checks it against the config.

    Args:
      run: the run.
      path: the folder, such as RUN/teacher, or a file such as resnet18.safetensors.
      network_config: the settings of a teacher or `config.student`, which the network must match.
      **expected: further facts of the checkpoint, such as the method that trained the network.

    Raises:
      InputError: there is no readable checkpoint, or it is of another network or data set.
    """
    folder = expand(path)
    if settings.is_weights_file(path):
        return _restore_weights(run, folder, network_config, expected)
    (meta, variables) = processes.from_process_0(lambda: training.load_network(folder))
    training.check_meta(meta, {**_network_facts(run, network_config), **expected}, folder)
    module = create_model(run.config, network_config, run.dataset.num_classes)
    training.check_variables(variables, module, run.dataset.image_shape, folder)
    participation = None
    if meta.get('gate'):
        participation = processes.from_process_0(lambda: training.load_participation(folder, meta['epochs']))
    return TrainedNetwork(models.Network(module, variables), meta, [], participation)


def _restore_weights(run: Run, path: Path, network_config: ConfigDict, expected: Mapping[str, Any]) -> TrainedNetwork:
    meta = {**_network_facts(run, network_config), 'epochs': None, 'method': None}
    training.check_meta(meta, expected, path)
    module = create_model(run.config, network_config, run.dataset.num_classes)

    def read() -> Any:
        try:
            return models.from_state_dict(module, models.read_state_dict(path), run.dataset.image_shape)
        except InputError as error:
            raise InputError(f'{network_config.model} from {path}: {error}') from None

    variables = processes.from_process_0(read)
    return TrainedNetwork(models.Network(module, variables), meta, [], None)


def training_facts(run: Run, network_config: ConfigDict, method: Method, method_name: str) -> dict[str, Any]:
    """Facts that a checkpoint must share with a run that resumes from it."""
    return {
        **_network_facts(run, network_config),
        'method': method_name,
        'gate': method.gate_hyperparameters,
        'epsilon': method.hyperparameters.get('epsilon'),
        # On other images it would resume silently.
        'train_data': run.dataset.train.fingerprint(),
    }


def _network_facts(run: Run, network_config: ConfigDict) -> dict[str, Any]:
    return {
        'model': network_config.model,
        'options': json.loads(network_config.options.to_json()),
        'dataset': run.dataset.name,
        'num_classes': run.dataset.num_classes,
        'image_shape': list(run.dataset.image_shape),
    }

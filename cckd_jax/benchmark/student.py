"""A student as measuring jobs train it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cckd_jax import data, models, training
from cckd_jax.methods import Method
from cckd_jax.training.state import TrainData, TrainState


class Student:
    """A network, its data on the devices, and the step of a method.

    Args:
      network: name of the network.
      arrays: an `.npz` file with images, labels, test images, test labels and logits of a teacher.
      method: what the student is trained by.
      mode: `masked`, `compact` or `recheck`.
      precision: `float32` or `bfloat16`, of the network's computation.
      examples: number of training examples; None for all.
    """

    def __init__(
        self, network: str, arrays: str, method: Method, mode: str, precision: str, examples: int | None = None
    ):
        loaded = np.load(arrays)
        self.split = data.Split(loaded['images'][:examples], loaded['labels'][:examples])
        self.test = data.Split(loaded['test_images'], loaded['test_labels'])
        self.method, self.devices = method, jax.local_devices()
        options = {} if precision == 'float32' else {'dtype': jnp.dtype(precision)}
        self.module = models.create(network, loaded['teacher_logits'].shape[-1], **options)
        self.optimizer = optax.adam(method.learning_rate)
        self.aux = {'teacher_logits': loaded['teacher_logits'][:examples, None]}
        self.steps_per_call = training.steps_per_call(method, self.devices)
        self.step = training.choose_step(
            method,
            self.module,
            (),
            self.optimizer,
            self._initial_state(seed=0),
            devices=self.devices,
            compaction=mode != 'masked',
        )

    def begin(self, seed: int = 0) -> tuple[TrainState, TrainData]:
        """Returns the state of a new student, and its data."""
        train_data = training.train_data(self.split, self.aux, jax.random.key(seed))
        return training.replicate(self._initial_state(seed), self.devices), training.replicate(train_data, self.devices)

    def _initial_state(self, seed: int) -> TrainState:
        key = jax.random.key(seed)
        return training.initial_state(self.method, self.module, (), self.optimizer, self.split, key)

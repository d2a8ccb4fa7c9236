"""Independent reference maths in numpy float64, and small things that several tests build."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cckd_jax import models, training
from cckd_jax.data import Split
from cckd_jax.methods import METHODS
from cckd_jax.models import layers


def softmax(logits, temperature=1.0):
    scaled = np.asarray(logits, np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def random_case(seed, batch=6, classes=5, scale=8.0):
    """Student logits, teacher logits, labels."""
    random = np.random.default_rng(seed)
    student, teacher = (random.normal(scale=scale, size=(2, batch, classes))).astype(np.float32)
    return jnp.asarray(student), jnp.asarray(teacher), jnp.asarray(random.integers(0, classes, batch))


def random_split(count, seed=0, shape=(28, 28, 1)):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, *shape)).astype(np.uint8)
    return Split(images, random.integers(0, 10, count).astype(np.int32))


def method_named(name, **changes):
    return dataclasses.replace(METHODS[name].configured(), **changes)


class Tiny(models.Classifier):
    """Every layer that minds devices, masks or modes, small enough to compile at once; for 8x8x3 images."""

    def setup(self):
        self.conv = layers.conv(6, 3, padding=1)
        self.norms = [layers.BatchNorm() for _ in range(2)]
        self.dense = nn.Dense(16)
        self.drop = layers.Dropout(0.5)
        self.output = nn.Dense(self.num_classes)

    def stages(self):
        return ((self.conv, nn.relu, layers.LocalResponseNorm(), layers.MaxPool(3, 2), self.norms[0]),)

    def classifier(self):
        return (layers.flatten, self.dense, nn.relu, self.drop, self.norms[1], self.output)


class Bench:
    """A method's step over random images, on a chosen number of devices."""

    def __init__(
        self,
        method,
        *,
        devices,
        count=32,
        optimizer=None,
        module=None,
        shape=(28, 28, 1),
        teachers=(),
        augment=None,
        make=training.make_step,
        **options,
    ):
        self.devices = jax.devices()[:devices]
        self.split = random_split(count, shape=shape)
        self.optimizer = optimizer or optax.sgd(0.1)
        module = module or models.create('lenet5_half')
        logits = 5.0 * np.random.default_rng(1).normal(size=(count, 1, 10)).astype(np.float32)
        aux = {} if teachers else {'teacher_logits': logits}
        key = jax.random.key(0)
        modules = tuple(teacher.module for teacher in teachers)
        weights = tuple(teacher.variables for teacher in teachers)
        state = training.initial_state(method, module, modules, self.optimizer, self.split, key)
        self.state = training.replicate(state, self.devices)
        self.frozen = training.replicate(training.frozen_data(self.split, aux, key, weights), self.devices)
        self.step = make(method, module, modules, self.optimizer, devices=self.devices, augment=augment, **options)

    def run(self, batches, epoch=0):
        metrics = []
        self.state = self.state.replace(epoch=training.replicate(jnp.int32(epoch), self.devices))
        for indices in batches:
            indices = np.asarray(indices, np.int32).reshape(len(self.devices), -1)
            self.state, measured = self.step(self.state, self.frozen, indices)
            metrics.append(jax.device_get(measured))
        return jax.device_get(self.state), metrics


def assert_trees_close(first, second, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), first, second)


def assert_trees_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)

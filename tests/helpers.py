"""Independent reference maths in numpy float64, and small configs, networks and steps that several tests build."""

import contextlib
import dataclasses
import functools
import re
from html.parser import HTMLParser

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cckd_jax import config as settings, models, processes, training
from cckd_jax.data import Split
from cckd_jax.methods import METHODS, Gate
from cckd_jax.models import layers
from cckd_jax.studies.jobs import override


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


def method_named(name, keep=None, **changes):
    """A row of the table with other columns; `keep` alone is a gate of these inputs."""
    if keep is not None:
        changes['gate'] = Gate(keep)
    return dataclasses.replace(METHODS[name], check=False, **changes)


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
        aux=None,
        **options,
    ):
        self.devices = jax.local_devices()[:devices]
        self.split = random_split(count, shape=shape)
        self.optimizer = optimizer or optax.sgd(0.1)
        module = module or models.create('lenet5_half')
        logits = 5.0 * np.random.default_rng(1).normal(size=(count, 1, 10)).astype(np.float32)
        aux = {**({} if teachers else {'teacher_logits': logits}), **(aux or {})}
        key = jax.random.key(0)
        modules = tuple(teacher.module for teacher in teachers)
        weights = tuple(teacher.variables for teacher in teachers)
        state = training.initial_state(method, module, modules, self.optimizer, self.split, key)
        self.state = training.replicate(state, self.devices)
        self.train_data = training.replicate(training.train_data(self.split, aux, key, weights), self.devices)
        self.step = make(method, module, modules, self.optimizer, devices=self.devices, augment=augment, **options)

    def run(self, batches, epoch=0):
        metrics = []
        self.state = self.state.at_epoch(epoch, self.devices)
        for indices in batches:
            indices = np.asarray(indices, np.int32).reshape(len(processes.all_devices(self.devices)), -1)
            self.state, measured = self.step(self.state, self.train_data, indices)
            metrics.append(jax.device_get(measured))
        return jax.device_get(self.state), metrics


class PeerBench(Bench):
    """The step of several students over random images; keys and initial weights are those of their indices."""

    def __init__(
        self,
        method,
        modules,
        *,
        devices,
        count=32,
        optimizers=None,
        shape=(28, 28, 1),
        teacher=True,
        seeds=None,
        **options,
    ):
        self.devices = jax.devices()[:devices]
        self.split = random_split(count, shape=shape)
        optimizers = optimizers or [optax.sgd(0.1)] * len(modules)
        logits = 5.0 * np.random.default_rng(1).normal(size=(count, 1, 10)).astype(np.float32)
        keys = [jax.random.key(seed) for seed in seeds or range(len(modules))]
        peers = [
            training.initial_state(method, module, (), optimizer, self.split, key)
            for module, optimizer, key in zip(modules, optimizers, keys, strict=True)
        ]
        data = training.train_data(self.split, {'teacher_logits': logits} if teacher else {}, jnp.stack(keys))
        self.state = training.replicate(training.PeerState(tuple(peers)), self.devices)
        self.train_data = training.replicate(data, self.devices)
        self.step = training.make_peer_step(method, modules, (), optimizers, devices=self.devices, **options)


def assert_trees_close(first, second, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), first, second)


def assert_trees_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


@functools.partial(jax.jit, static_argnums=0)
def _forward(module, variables, images):
    return models.Network(module, variables)(images)


def forward(network, images):
    """Logits, compiled once for each module and shape."""
    return _forward(network.module, network.variables, images)


class Blocks(models.Classifier):
    """Two convolutions with pools between, so that boxes inside are worth tightening; for 10x10x1 images."""

    def setup(self):
        self.convs = [layers.conv(3, 3, padding=1), layers.conv(4, 3)]
        self.norm = layers.BatchNorm()
        self.denses = [nn.Dense(7), nn.Dense(self.num_classes)]

    def stages(self):
        pool = layers.MaxPool(2, 2)
        return ((self.convs[0], nn.relu, pool), (self.convs[1], self.norm, nn.relu, layers.MaxPool(2, 1)))

    def classifier(self):
        return (layers.flatten, self.denses[0], nn.relu, self.denses[1])


class Flat(models.Classifier):
    """No more than one hidden layer, or none at width 0."""

    def setup(self):
        self.hidden = nn.Dense(6)
        self.output = nn.Dense(self.num_classes)

    def stages(self):
        return ((layers.flatten, *((self.hidden, nn.relu) if self.width else ())),)

    def classifier(self):
        return (self.output,)


_init = jax.jit(lambda module, key, images: module.init(key, images), static_argnums=0)


def random_network(module, shape, seed=0, scale=1.0):
    """A network all of whose variables are random, biases and running statistics too; `scale` is of its logits."""
    variables = _init(module, jax.random.key(seed), jnp.zeros((1, *shape)))
    random = np.random.default_rng(seed)

    def drawn(path, leaf):
        name = path[-1].key
        if name == 'kernel':
            return leaf * (scale if 'output' in str(path) or 'denses_1' in str(path) else 1.3)
        noise = random.normal(scale=0.3, size=leaf.shape).astype(np.float32)
        signs = {'var': 1, 'scale': random.choice([-1, 1], leaf.shape)}
        return jnp.asarray(signs[name] * np.exp(noise) if name in signs else noise, jnp.float32)

    return models.Network(module, jax.tree.map_with_path(drawn, variables))


def points_in_ball(images, epsilon, count, seed=0):
    """`[count, B, H, W, C]`: random points and random corners of the ball, cut to the range of pixels."""
    random = np.random.default_rng(seed)
    offsets = random.uniform(-1, 1, (count, *images.shape))
    offsets[::2] = np.sign(offsets[::2])
    return jnp.asarray(np.clip(np.asarray(images) + epsilon * offsets, 0, 1), jnp.float32)


@contextlib.contextmanager
def optimised():
    """For what trains so long that running programs takes more time than compiling them."""
    before = jax.config.read('jax_disable_most_optimizations')
    jax.config.update('jax_disable_most_optimizations', False)
    try:
        yield
    finally:
        jax.config.update('jax_disable_most_optimizations', before)


def digits_config(**fields):
    """A small run on digits that learns; fields by dotted name, those of a teacher by its index."""
    small = {
        'batch_size': 64,
        'alpha': 0.05,
        'teacher.epochs': 15,
        'student.epochs': 16,
        'attack.samples': 200,
        'evaluate.calibration': False,
    }
    return override(settings.default(), {**small, **fields})


def tiny_config(**fields):
    """A run of a second on digits, whose networks hardly learn."""
    tiny = {
        'teacher.model': 'helpers:Flat',
        'student.model': 'helpers:Flat',
        'dataset.examples': 128,
        'batch_size': 32,
        'teacher.epochs': 1,
        'student.epochs': 1,
        'attack.samples': 16,
    }
    return digits_config(**{**tiny, **fields})


_VOID = {'meta', 'img', 'br', 'hr', 'link', 'input', 'source'}


class Page(HTMLParser):
    """Collects tags, and refuses ones that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in _VOID:
            assert self.open.pop() == tag

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def check_report(workdir):
    """The page of a run holds all sections, tables and figures of `report.md`, and loads nothing."""
    text = (workdir / 'report.md').read_text(encoding='utf-8')
    tags = Page((workdir / 'report.html').read_text(encoding='utf-8'))
    assert len(tags.all('table')) == len(re.findall(r'^\|(?:---\|)+$', text, re.MULTILINE)) > 1
    images = re.findall(r'^!\[(.*)\]', text, re.MULTILINE)
    assert [image['alt'] for image in tags.all('img')] == images
    assert all(image['src'].startswith('data:image/png;base64,iVBOR') for image in tags.all('img'))
    assert len(tags.all('h2')) == len(re.findall('^## ', text, re.MULTILINE))
    assert not [attributes for _, attributes in tags.tags if attributes.get('src', 'data:')[:5] != 'data:']

"""Steps that are taught by several networks. SGD throughout, because Adam hides a gradient that is off by a factor."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Bench, assert_trees_close, assert_trees_equal, method_named

from cckd_jax import losses, models, training
from cckd_jax.data import to_unit
from cckd_jax.methods import METHODS
from cckd_jax.models import layers
from cckd_jax.training import step
from cckd_jax.training.step import teacher_outputs

ALL = np.arange(32)
SHAPE = (8, 8, 3)
KEPT = np.r_[0:5, 20]


class Small(models.Classifier):
    """Two stages and no batch norm; for 8x8x3 images."""

    size: int = 3

    def setup(self):
        self.convs = [layers.conv(self.scaled(4), self.size), layers.conv(self.scaled(5), 3)]
        self.output = nn.Dense(self.num_classes)

    def stages(self):
        return tuple((conv, nn.relu) for conv in self.convs)

    def classifier(self):
        return (layers.global_average, self.output)


def drawn(module, seed):
    """A network of random variables, made without computing anything."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    random = np.random.default_rng(seed)
    return models.Network(module, jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes))


# Their last maps have more channels than the student's, or are smaller, 2x2 in place of 4x4.
TEACHERS = (drawn(Small(width=2), 0), drawn(Small(size=5), 1))


def bench(method, *, devices=1, **options):
    return Bench(method, devices=devices, module=Small(), shape=SHAPE, teachers=TEACHERS, **options)


def keep_few(inputs):
    return (inputs.batch.index < 5) | (inputs.batch.index == 20)


def test_steps_do_not_depend_on_the_device_count():
    # What crosses devices in any of the methods: the mean of the gradients, and batch norm beside the student.
    both = lambda inputs: METHODS['aekd'].loss(inputs) + METHODS['ca_mkd'].loss(inputs)
    values = {**METHODS['aekd'].hyperparameters, **METHODS['ca_mkd'].hyperparameters, 'feature_weight': 5.0}
    weights = METHODS['aekd'].teacher_weights
    method = method_named('ca_mkd', keep_few, loss=both, hyperparameters=values, teacher_weights=weights)
    # Kept unevenly over devices, and a last batch that leaves some without a valid row.
    batches = [ALL, np.r_[3:25, [-1] * 10]]
    runs = [bench(method, devices=devices).run(batches, epoch=1) for devices in (1, 4)]
    ((one, one_metrics), (many, many_metrics)) = runs
    for part in ('params', 'batch_stats'):
        assert_trees_close(getattr(many, part), getattr(one, part), rtol=1e-3, atol=1e-4)
    for a, b in zip(many_metrics, one_metrics, strict=True):
        assert_trees_close(a, b, rtol=1e-4, atol=1e-4)


def test_aekd_mixes_the_gradients_of_the_kept_of_all_devices():
    run = bench(method_named('aekd', keep=keep_few), devices=4)
    before = jax.device_get(run.state)
    (after, (metrics,)) = run.run([ALL])
    images, labels = to_unit(jnp.asarray(run.split.images[KEPT])), jnp.asarray(run.split.labels[KEPT])
    mean = lambda values: values.mean(0)

    def mean_loss(params):
        teachers = jnp.stack([teacher(images) for teacher in TEACHERS])
        logits = Small().apply({'params': params['student']}, images)
        loss = losses.cross_entropy(logits, labels) + losses.aekd(logits, teachers, mean=mean)
        return loss.mean(), losses.aekd_weights(logits, teachers, mean=mean)

    ((loss, weights), gradient) = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))(before.params)
    np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-4)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, gradient)
    assert_trees_close(after.params, expected, rtol=1e-3, atol=1e-5)
    assert np.ptp(weights) > 0.05
    of_class = np.bincount(labels, minlength=10)
    np.testing.assert_allclose(metrics['teacher_weights']['logits'], of_class[:, None] * np.asarray(weights), atol=1e-3)


@pytest.mark.parametrize('make', [training.make_compact_step, training.make_compact_step_on_device])
def test_compaction_is_the_masked_step(make):
    few = lambda inputs: inputs.batch.index % 16 == 3
    run = lambda **how: bench(method_named('aekd', keep=few), devices=2, count=64, **how).run([np.arange(64)])
    ((packed, packed_metrics), (masked, metrics)) = (run(make=make), run())
    assert_trees_close(packed.params, masked.params, rtol=1e-3, atol=1e-5)
    assert_trees_close(packed_metrics, metrics, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', ['ca_mkd', 'fitnet_mkd'])
def test_feature_maps_join_in_the_second_epoch_and_move_the_student(name):
    # Nothing else has any weight, so that whatever moves is moved by the feature maps.
    method = METHODS[name].override(hard_weight=0.0, soft_weight=0.0)
    live = bench(method)
    before = jax.device_get(live.state.params)
    (after, _) = live.run([ALL], epoch=0)
    assert_trees_equal(after.params, before)
    (after, metrics) = live.run([ALL], epoch=1)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), after.params, before)
    assert moved['student']['convs_0']['kernel'] > 1e-4
    assert moved['student']['output']['kernel'] == 0
    assert max(jax.tree.leaves(moved['extra'])) > 1e-4
    # What is computed before teaches as what is computed in the step.
    cached = bench(method)
    images = to_unit(jnp.asarray(cached.split.images))
    aux = jax.jit(lambda images: teacher_outputs(method, TEACHERS, images, method.teacher_outputs_needed))(images)
    cached.train_data = cached.train_data.replace(aux=training.replicate(aux, cached.devices))
    cached.run([ALL], epoch=0)
    (same, same_metrics) = cached.run([ALL], epoch=1)
    assert_trees_close(same.params, after.params, rtol=1e-3, atol=1e-5)
    assert_trees_close(same_metrics, metrics, rtol=1e-4, atol=1e-4)


def test_without_weight_feature_maps_are_not_asked_for():
    for name in ('ca_mkd', 'fitnet_mkd'):
        assert METHODS[name].teacher_outputs_needed == {'teacher_logits', 'teacher_features'}
        method = METHODS[name].override(feature_weight=0.0)
        assert method.teacher_outputs_needed == {'teacher_logits'}
        assert method.adapter((), SHAPE) is None


def test_teacher_weights_are_counted_for_classes_beyond_the_dtype_of_the_labels():
    aux = types.SimpleNamespace(batch=types.SimpleNamespace(label=jnp.array([5], jnp.int8)), keep=jnp.array([True]))
    by_class = np.asarray(step._by_class(jnp.array([[3.0], [1.0]]), aux, jnp.zeros((1, 300))))
    np.testing.assert_allclose(by_class[5], [0.75, 0.25])
    assert np.count_nonzero(by_class) == 2

"""Backward passes over the kept alone are the masked step, and many steps at once are the same steps."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Bench, Tiny, assert_trees_close, assert_trees_equal, method_named

from cckd_jax import models, training
from cckd_jax.methods import SELF_REGULATED_RECHECK
from cckd_jax.models import layers
from cckd_jax.selection import next_visit
from cckd_jax.training.compaction import sizes

ALL = np.arange(128)
BATCHES = [ALL, ALL[::-1], np.r_[3:99, [-1] * 32]]
WAYS = [training.make_compact_step, training.make_compact_step_on_device]


class DropsAlone(models.Classifier):
    """Dropout and no batch norm, for 8x8x3 images: the packed must draw what the masked draw."""

    def setup(self):
        self.conv = layers.conv(6, 3)
        self.drop = layers.Dropout(0.5)
        self.output = nn.Dense(self.num_classes)

    def stages(self):
        return ((self.conv, nn.relu),)

    def classifier(self):
        return (layers.flatten, self.drop, self.output)


def bench(method, **options):
    return Bench(method, count=128, **{'module': DropsAlone(), 'shape': (8, 8, 3), **options})


def keep_few(inputs):
    return inputs.batch.index % 16 == 3


def keep_on_one_device(inputs):
    return inputs.batch.index < 20


def assert_same(found, expected):
    (state, metrics), (state_expected, metrics_expected) = found, expected
    assert_trees_close(state.params, state_expected.params, rtol=1e-4, atol=1e-6)
    assert_trees_equal((state.records, state.step), (state_expected.records, state_expected.step))
    for one, other in zip(metrics, metrics_expected, strict=True):
        assert one.keys() == other.keys()
        assert_trees_close(one, other, rtol=1e-5)


@pytest.mark.parametrize('make', WAYS)
@pytest.mark.parametrize(('devices', 'keep'), [(1, keep_few), (4, keep_few), (4, keep_on_one_device)])
def test_compaction_is_the_masked_step(make, devices, keep):
    method = method_named('kd', keep=keep)
    run = lambda **how: bench(method, devices=devices, **how).run(BATCHES)
    assert_same(run(make=make), run())


@pytest.mark.parametrize('make', WAYS)
def test_compaction_follows_the_gate_from_few_to_all(make):
    method = method_named('cckd_t_reg').override(alpha=0.05)
    run = lambda **how: [
        bench(method, devices=2, optimizer=optax.sgd(1.0), **how).run(BATCHES, epoch) for epoch in (0, 5000)
    ]
    for found, expected in zip(run(make=make), run(), strict=True):
        assert_same(found, expected)
    assert expected[1][0]['kept'] == 128


@pytest.mark.parametrize('make', WAYS)
def test_running_statistics_are_of_everyone(make):
    method = method_named('kd', keep=keep_few)
    run = lambda **how: bench(method, devices=2, module=Tiny(), **how).run([ALL])[0]
    (packed, masked) = (run(make=make), run())
    assert_trees_close(packed.batch_stats, masked.batch_stats, rtol=1e-5, atol=1e-7)
    # What is documented to differ: the packed are normalised by their own statistics.
    first = lambda state: state.params['student']['conv']['kernel']
    assert np.abs(first(packed) - first(masked)).max() > 1e-6


# Gradients of padding alone overflow through the batch norms of the residual network.
@pytest.mark.parametrize('module', [None, Tiny(), models.create('resnet8x4', width=0.125)])
@pytest.mark.parametrize('make', WAYS)
def test_nothing_kept_changes_nothing(make, module):
    none = lambda inputs: jnp.zeros_like(inputs.batch.valid)
    given = {} if module is None else {'module': module}
    idle = bench(method_named('kd', keep=none), devices=2, optimizer=optax.adam(0.1), make=make, **given)
    before = jax.device_get(idle.state)
    (after, (metrics,)) = idle.run([ALL])
    assert_trees_equal((after.params, after.opt_state), (before.params, before.opt_state))
    assert (after.step, metrics['kept'], metrics['presented'], metrics['finite']) == (1, 0, 128, True)


@pytest.mark.parametrize('make', [training.make_step, training.make_compact_step_on_device])
def test_many_steps_at_once_are_the_same_steps(make):
    method = method_named('cckd_t_reg').override(alpha=0.05)
    (state, metrics) = bench(method, devices=2, make=make).run(BATCHES, epoch=20)
    scanned = bench(method, devices=2, make=make, scan=True)
    begun = scanned.state.replace(epoch=training.replicate(jnp.int32(20), scanned.devices))
    at_once = np.stack([np.asarray(batch, np.int32).reshape(2, -1) for batch in BATCHES], axis=1)
    (found, measured) = jax.device_get(scanned.step(begun, scanned.train_data, at_once))
    each = [{name: values[step] for name, values in measured.items()} for step in range(3)]
    assert_same((found, each), (state, metrics))


def test_sizes_end_with_the_whole_and_begin_small():
    assert sizes(512) == [16, 32, 64, 128, 512]
    assert sizes(128) == [16, 32, 128]
    assert sizes(24) == [24]


def test_who_rests_is_due_when_the_threshold_could_reach_its_margin():
    method = method_named('cckd_t_reg').with_gate(SELF_REGULATED_RECHECK)
    method = method.override(alpha=0.1, temperature=1.0, longest_rest=1000)
    lenet = Bench(method, devices=2, count=128, optimizer=optax.sgd(0.0))
    (state, (metrics,)) = lenet.run([ALL], epoch=2)
    kept = state.participation > 0
    assert 0 < kept.sum() == metrics['kept']
    returns = state.records['next_epoch']
    np.testing.assert_array_equal(returns[kept], 3)
    assert (returns[~kept] >= 3).all()
    logits = np.asarray(
        models.create('lenet5_half').apply({'params': state.params['student']}, lenet.split.images / np.float32(255))
    )
    ordered = np.sort(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    margins = ordered[:, -1] - ordered[:, -2]
    threshold = lambda epoch: 1 - np.exp(-0.1 * epoch)
    assert (threshold(returns[~kept]) > margins[~kept] - 1e-6).all()
    late = ~kept & (returns > 3)
    assert (threshold(returns[late] - 1) <= margins[late] + 1e-6).all()


def test_nobody_rests_longer_than_the_longest_rest():
    logits = jnp.array([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 50.0, 0.0]])
    visit = lambda rest: next_visit(logits, 7, alpha=0.1, longest_rest=rest, temperature=1.0).tolist()
    # The middle margin is (e^2 - 1) / (e^2 + 2) = 0.68045, which the threshold exceeds from epoch 12 on.
    assert visit(1000) == [8, 12, 1008]
    assert visit(2) == [8, 10, 10]
    assert visit(0) == [8, 8, 8]

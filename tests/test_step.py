"""The update itself. SGD throughout, because Adam hides a gradient that is off by a factor."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Bench, Tiny, assert_trees_close, assert_trees_equal, method_named

from cckd_jax import models, training
from cckd_jax.data import to_unit
from cckd_jax.losses import cckd_t
from cckd_jax.methods import Record, Weighting

ALL = np.arange(32)


def keep_even(inputs):
    return inputs.batch.index % 2 == 0


def keep_one_device_more(inputs):
    return (inputs.batch.index < 8) | (inputs.batch.index == 20)


def keep_none(inputs):
    return jnp.zeros_like(inputs.batch.valid)


@pytest.mark.parametrize(
    ('devices', 'keep'),
    [(2, keep_one_device_more), (4, keep_one_device_more), (8, keep_one_device_more), (4, None), (4, keep_even)],
)
def test_the_first_steps_do_not_depend_on_the_device_count(devices, keep):
    method = method_named('cckd_t', keep)
    batches = [ALL, ALL[::-1], np.r_[3:27, [-1] * 8]]
    (one, one_metrics) = Bench(method, devices=1).run(batches)
    (many, many_metrics) = Bench(method, devices=devices).run(batches)
    assert_trees_close(many.params, one.params, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(many.participation, one.participation)
    for a, b in zip(many_metrics, one_metrics, strict=True):
        assert_trees_close(a, b, rtol=1e-5)


def test_a_step_is_gradient_descent_on_the_mean_over_the_kept():
    bench = Bench(method_named('cckd_t', keep=keep_even), devices=4)
    before = jax.device_get(bench.state)
    (after, (metrics,)) = bench.run([ALL])
    kept = ALL[ALL % 2 == 0]

    def mean_loss(params):
        logits = models.create('lenet5_half').apply(
            {'params': params['student']}, to_unit(jnp.asarray(bench.split.images[kept]))
        )
        teacher = jnp.asarray(jax.device_get(bench.train_data.aux['teacher_logits'])[kept, 0])
        return cckd_t(logits, teacher, jnp.asarray(bench.split.labels[kept])).mean()

    (loss, gradient) = jax.value_and_grad(mean_loss)(before.params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, gradient)
    assert_trees_close(after.params, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-5)
    assert (metrics['kept'], metrics['presented']) == (16, 32)


def test_a_mask_is_the_same_as_leaving_out():
    (masked, _) = Bench(method_named('kd', keep=keep_even), devices=1).run([ALL])
    (left_out, _) = Bench(method_named('kd'), devices=1).run([np.r_[ALL[::2], [-1] * 16]])
    assert_trees_close(masked.params, left_out.params, rtol=1e-5, atol=1e-7)


def test_the_order_within_a_batch_does_not_matter():
    (plain, _) = Bench(method_named('kd'), devices=1).run([ALL])
    (shuffled, _) = Bench(method_named('kd'), devices=1).run([np.random.default_rng(0).permutation(ALL)])
    assert_trees_close(plain.params, shuffled.params, rtol=1e-4, atol=1e-6)


def test_weights_multiply_and_the_kept_divide():
    method = method_named('kd', weighting=Weighting(lambda batch: jnp.where(batch.index < 4, 1.0, 0.0)))
    (weighted, _) = Bench(method, devices=2).run([ALL])
    (few, _) = Bench(method_named('kd'), devices=2, optimizer=optax.sgd(0.1 * 4 / 32)).run([np.r_[0:4, [-1] * 28]])
    assert_trees_close(weighted.params, few.params, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('devices', [1, 4])
def test_nothing_kept_changes_nothing(devices):
    bench = Bench(method_named('cckd_t', keep=keep_none), devices=devices, optimizer=optax.adam(0.1))
    before = jax.device_get(bench.state)
    (after, (metrics,)) = bench.run([ALL])
    assert_trees_equal(after.params, before.params)
    assert_trees_equal(after.opt_state, before.opt_state)
    assert after.participation.sum() == 0
    assert after.step == 1
    assert (metrics['kept'], metrics['loss'], metrics['finite']) == (0, 0.0, True)


def test_participation_is_counted_by_example_over_devices():
    bench = Bench(method_named('cckd_t', keep=keep_even), devices=4)
    (state, _) = bench.run([ALL, np.r_[0:8, [-1] * 24]])
    expected = np.where(ALL % 2 == 0, 1, 0) + np.where((ALL % 2 == 0) & (ALL < 8), 1, 0)
    np.testing.assert_array_equal(state.participation, expected)


def test_the_gate_follows_the_epoch_without_compiling_again():
    method = method_named('cckd_t_reg').override(alpha=0.01)
    bench = Bench(method, devices=1, optimizer=optax.sgd(0.0))
    (_, first) = bench.run([ALL], epoch=0)
    (_, later) = bench.run([ALL], epoch=5000)
    wrong = 32 - first[0]['correct']
    assert first[0]['kept'] == wrong
    assert later[0]['kept'] == 32


def test_the_mean_given_to_a_loss_is_over_the_kept_of_all_devices():
    seen = lambda inputs: jnp.full(inputs.labels.shape, inputs.mean(inputs.batch.index.astype(jnp.float32)))
    for devices in (1, 4):
        method = method_named('kd', loss=seen, keep=keep_one_device_more)
        (_, (metrics,)) = Bench(method, devices=devices).run([ALL])
        np.testing.assert_allclose(metrics['loss'], np.mean([*range(8), 20]), rtol=1e-6)


def test_keys_depend_on_seed_epoch_and_example_alone():
    def keyed(inputs):
        drawn = jax.vmap(lambda key: jax.random.uniform(key))(inputs.keys)
        return drawn * (inputs.batch.index + 1)

    losses = [
        Bench(method_named('kd', loss=keyed), devices=devices).run([order], epoch=epoch)[1][0]['loss']
        for devices, order, epoch in ((1, ALL, 3), (4, ALL[::-1], 3), (1, ALL, 4))
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert abs(losses[0] - losses[2]) > 1e-3


def test_a_loss_that_is_not_finite_is_flagged():
    broken = lambda inputs: inputs.logits[:, 0] * jnp.nan
    (_, (metrics,)) = Bench(method_named('kd', loss=broken), devices=1).run([ALL])
    assert not metrics['finite']


def test_a_loss_that_reduces_is_refused():
    reduced = lambda inputs: jnp.mean(inputs.logits)
    with pytest.raises(AssertionError):
        Bench(method_named('kd', loss=reduced), devices=1).run([ALL])


@pytest.mark.parametrize('devices', [2, 8])
def test_batch_norm_and_dropout_do_not_depend_on_the_device_count(devices):
    # The last batch leaves some devices without a single valid row.
    batches = [ALL, np.r_[5:17, [-1] * 20]]
    build = lambda devices: Bench(method_named('kd'), devices=devices, module=Tiny(), shape=(8, 8, 3))
    (one, one_metrics) = build(1).run(batches)
    (many, many_metrics) = build(devices).run(batches)
    for name in ('params', 'batch_stats'):
        assert_trees_close(getattr(many, name), getattr(one, name), rtol=1e-4, atol=1e-5)
    for a, b in zip(many_metrics, one_metrics, strict=True):
        assert_trees_close(a, b, rtol=1e-4)


def test_batch_statistics_move_once_a_step_and_not_when_nothing_is_kept():
    bench = Bench(method_named('kd'), devices=2, module=Tiny(), shape=(8, 8, 3))
    before = jax.device_get(bench.state.batch_stats)
    (after, _) = bench.run([ALL])
    moved = after.batch_stats['student']['norms_0']['mean']
    assert np.abs(moved).max() > 0
    bench = Bench(method_named('kd', keep=keep_none), devices=2, module=Tiny(), shape=(8, 8, 3))
    (after, _) = bench.run([ALL])
    assert_trees_equal(after.batch_stats, before)


def test_dropout_differs_by_epoch_and_example_and_not_by_place():
    sizes = {'module': Tiny(), 'shape': (8, 8, 3), 'optimizer': optax.sgd(0.0)}
    runs = [
        Bench(method_named('kd'), devices=1, **sizes).run([order], epoch=epoch)[1][0]['loss']
        for order, epoch in ((ALL, 0), (ALL[::-1], 0), (ALL, 1))
    ]
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-5)
    assert abs(runs[0] - runs[2]) > 1e-4


def test_a_live_teacher_teaches_what_its_cached_outputs_do():
    module = models.create('lenet5')
    teacher = models.Network(module, module.init(jax.random.key(5), jnp.zeros((1, 28, 28, 1))))
    same = lambda keys, images: images
    live = Bench(method_named('cckd_t'), devices=2, teachers=(teacher,), augment=same)
    cached = Bench(method_named('cckd_t'), devices=2)
    logits = teacher(to_unit(jnp.asarray(cached.split.images)))[:, None]
    cached.train_data = cached.train_data.replace(aux=training.replicate({'teacher_logits': logits}, cached.devices))
    assert_trees_close(live.run([ALL])[0].params, cached.run([ALL])[0].params, rtol=1e-4, atol=1e-6)


def test_augmented_images_are_what_student_and_teacher_see():
    module = models.create('lenet5')
    teacher = models.Network(module, module.init(jax.random.key(5), jnp.zeros((1, 28, 28, 1))))
    black = lambda keys, images: jnp.zeros_like(images)
    seen = lambda inputs: jnp.abs(inputs.images).sum((1, 2, 3)) + jnp.std(inputs.teacher_logits[:, 0])
    (_, (metrics,)) = Bench(method_named('kd', loss=seen), devices=1, teachers=(teacher,), augment=black).run([ALL])
    np.testing.assert_allclose(metrics['loss'], 0.0, atol=1e-6)


def test_a_module_of_ones_own_trains_with_its_own_dropout_and_batch_norm():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, images, train: bool):
            values = nn.Dense(8)(images.reshape(len(images), -1))
            values = nn.BatchNorm(use_running_average=not train)(values)
            return nn.Dense(10)(nn.Dropout(0.5, deterministic=not train)(nn.relu(values)))

    bench = Bench(method_named('cckd_t_reg'), devices=2, module=Own())
    before = jax.device_get(bench.state)
    (after, metrics) = bench.run([ALL] * 3)
    assert all(each['finite'] for each in metrics)
    for name in ('params', 'batch_stats'):
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), getattr(after, name), getattr(before, name))
        assert max(jax.tree.leaves(moved)) > 0


@pytest.mark.parametrize('make', [training.make_step, training.make_compact_step, training.make_compact_step_on_device])
def test_a_method_keeps_records_of_examples_between_steps(make):
    # A bank of the logits that each example had when it was last presented, read by the loss of the next step.
    bank = Record(lambda inputs: inputs.logits, initial=1.0, shape=(10,))
    change = lambda inputs: jnp.sum((inputs.logits - inputs.records['bank']) ** 2, -1)
    method = method_named('kd', keep_even, loss=change, records={'bank': bank})
    bench = Bench(method, devices=2, make=make, optimizer=optax.sgd(0.0))
    (first, _) = bench.run([np.r_[:24, [-1] * 8]])
    (state, (metrics,)) = bench.run([ALL])
    # Without a step in between, only examples that were not presented before differ from the bank.
    logits = state.records['bank']
    np.testing.assert_allclose(metrics['loss'], np.sum((logits[24::2] - 1) ** 2) / 16, rtol=1e-4)
    np.testing.assert_allclose(first.records['bank'][:24], logits[:24], rtol=1e-4, atol=1e-5)
    assert (first.records['bank'][24:] == 1).all()

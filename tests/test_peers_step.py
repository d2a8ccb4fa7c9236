"""The step of students that train together. SGD throughout, because Adam hides a gradient that is off by a factor."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Bench, Flat, PeerBench, Tiny, assert_trees_close, assert_trees_equal, method_named

from cckd_jax import losses
from cckd_jax.data import augmentation, to_unit
from cckd_jax.methods import METHODS

ALL = np.arange(32)
SHAPE = (8, 8, 3)
MIXED = (Tiny(), Flat())
FLAT = (Flat(), Flat(width=2.0))


def keep_by_student(inputs):
    """A different half of the examples for each student."""
    return inputs.batch.index % 2 == inputs.peer % 2


def bench(method, modules=FLAT, devices=1, **options):
    return PeerBench(method, modules, devices=devices, shape=SHAPE, **options)


def test_steps_do_not_depend_on_the_device_count():
    # Batch norm, dropout, a gate, trust in a teacher, and a last batch that leaves some devices without a valid row.
    method = method_named('cckd_online_t', keep_by_student)
    batches = [ALL, ALL[::-1], np.r_[5:17, [-1] * 20]]
    ((one, one_metrics), (many, many_metrics)) = (
        bench(method, MIXED, devices=devices).run(batches) for devices in (1, 4)
    )
    for first, second in zip(one.peers, many.peers, strict=True):
        for name in ('params', 'batch_stats'):
            assert_trees_close(getattr(second, name), getattr(first, name), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(second.participation, first.participation)
    for first, second in zip(one_metrics, many_metrics, strict=True):
        assert_trees_close(second, first, rtol=1e-4, atol=1e-4)


def test_a_step_of_each_is_gradient_descent_on_the_mean_over_its_own_kept():
    run = bench(method_named('cckd_online_t', keep_by_student), devices=4)
    before = jax.device_get(run.state)
    (after, (metrics,)) = run.run([ALL])
    images, labels = to_unit(jnp.asarray(run.split.images)), jnp.asarray(run.split.labels)
    teacher = jnp.asarray(jax.device_get(run.train_data.aux['teacher_logits'])[:, 0])
    logits = jnp.stack(
        [m.apply({'params': p.params['student']}, images) for m, p in zip(FLAT, before.peers, strict=True)]
    )
    for index, module in enumerate(FLAT):
        kept = np.flatnonzero(index == ALL % 2)

        def mean_loss(params, index=index, module=module, kept=kept):
            own = logits.at[index].set(module.apply({'params': params['student']}, images))
            return losses.cckd_online_t(own, labels, teacher_logits=teacher)[index][kept].mean()

        (loss, gradient) = jax.value_and_grad(mean_loss)(before.peers[index].params)
        expected = jax.tree.map(lambda p, g: p - 0.1 * g, before.peers[index].params, gradient)
        assert_trees_close(after.peers[index].params, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(metrics['peers'][index]['loss'], loss, rtol=1e-5)
        assert (metrics['peers'][index]['kept'], metrics['presented']) == (16, 32)
        np.testing.assert_array_equal(after.peers[index].participation, index == ALL % 2)


def test_a_student_that_keeps_nothing_does_not_move_and_still_teaches():
    only_second = lambda inputs: jnp.full(inputs.batch.valid.shape, inputs.peer == 1)
    (after, (metrics,)) = bench(method_named('dml', only_second)).run([ALL])
    together = bench(method_named('dml'))
    before = jax.device_get(together.state)
    (all_kept, _) = together.run([ALL])
    assert_trees_equal(after.peers[0].params, before.peers[0].params)
    assert_trees_close(after.peers[1].params, all_kept.peers[1].params, rtol=1e-6)
    assert [own['kept'] for own in metrics['peers']] == [0, 32]


def test_students_of_an_ordinary_method_train_as_if_each_were_alone():
    modules = (Tiny(), Flat())
    (together, (metrics,)) = bench(method_named('kd'), modules).run([ALL])
    for index, module in enumerate(modules):
        alone = PeerBench(method_named('kd'), [module], devices=1, shape=SHAPE, seeds=[index])
        # The step of a single student is the reference.
        single = Bench(method_named('kd'), devices=1, module=module, shape=SHAPE)
        single.state = alone.state.peers[0]
        single.train_data = single.train_data.replace(key=alone.train_data.key[0])
        (state, (own,)) = single.run([ALL])
        assert_trees_close(together.peers[index].params, state.params, rtol=1e-5, atol=1e-6)
        assert_trees_close(together.peers[index].batch_stats, state.batch_stats, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(metrics['peers'][index]['loss'], own['loss'], rtol=1e-5)


def test_permuted_students_take_permuted_steps():
    method = METHODS['cckd_online_l']
    (forward, (metrics,)) = bench(method, FLAT, seeds=[3, 5]).run([ALL])
    (backward, (reversed_metrics,)) = bench(method, FLAT[::-1], seeds=[5, 3]).run([ALL])
    for first, second in zip(forward.peers, reversed(backward.peers), strict=True):
        assert_trees_close(first.params, second.params, rtol=1e-5, atol=1e-7)
    pairs = zip(metrics['peers'], reversed(reversed_metrics['peers']), strict=True)
    for first, second in pairs:
        np.testing.assert_allclose(first['loss'], second['loss'], rtol=1e-5)
        # The teacher comes first, then the students in their order.
        weights = [own['teacher_weights']['logits'] for own in (first, second)]
        np.testing.assert_allclose(weights[0], weights[1][:, [0, 2, 1]], rtol=1e-4, atol=1e-5)


def test_measures_are_sums_over_the_presented():
    run = bench(method_named('cckd_online_t', teachers='none'), teacher=False, optimizers=[optax.sgd(0.0)] * 2)
    (state, (metrics,)) = run.run([np.r_[:24, [-1] * 8]])
    images, labels = to_unit(jnp.asarray(run.split.images[:24])), run.split.labels[:24]
    logits = [m.apply({'params': p.params['student']}, images) for m, p in zip(FLAT, state.peers, strict=True)]
    (targets, trust) = losses.online_targets(jnp.stack(logits), jnp.asarray(labels))
    for index in range(2):
        values = np.asarray(logits[index])
        label = values[np.arange(24), labels]
        expected = {
            'agreement': np.sum(values.argmax(-1) == np.asarray(logits[1 - index]).argmax(-1)),
            'logit_gap': np.sum(label - (values.sum(-1) - label) / 9),
            'trust': np.sum(trust[index]),
            'soft_mass': np.sum(1 - targets[index][np.arange(24), labels]),
        }
        assert metrics['peers'][index]['measures'].keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(metrics['peers'][index]['measures'][name], value, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize('own', [False, True])
def test_students_see_the_same_augmentation_unless_each_has_its_own(own):
    seen = lambda inputs: jnp.sum(inputs.images, (1, 2, 3))
    shown = bench(
        method_named('kd', loss=seen),
        augment=augmentation(crop=3),
        own_augmentation=own,
        optimizers=[optax.sgd(0.0)] * 2,
    )
    (_, (metrics,)) = shown.run([ALL])
    (first, second) = (peer['loss'] for peer in metrics['peers'])
    assert (abs(first - second) > 1e-3) == own


def test_a_loss_that_reads_the_others_moves_its_own_student_alone():
    all_logits = lambda inputs: jnp.sum(inputs.peer_logits, (0, 2))
    own_logits = lambda inputs: jnp.sum(inputs.logits, -1)
    ((read, _), (own, _)) = (bench(method_named('dml', loss=loss)).run([ALL]) for loss in (all_logits, own_logits))
    assert_trees_close(read.params, own.params, rtol=1e-6)

"""Methods that look around a sample, through the step: SGD throughout, because Adam hides a factor."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Bench, Flat, assert_trees_close, assert_trees_equal, random_network

from cckd_jax import losses, models, robustness, training
from cckd_jax.data import to_unit
from cckd_jax.methods import METHODS, ROBUST_TRAINING, SELF_REGULATED
from cckd_jax.models import layers

ALL = np.arange(32)
SHAPE = (6, 6, 1)
TEACHER = random_network(Flat(), SHAPE, 1)


class Small(Flat):
    """All that minds devices, masks or modes, and little else."""

    def setup(self):
        super().setup()
        self.norm = layers.BatchNorm()
        self.drop = layers.Dropout(0.3)

    def stages(self):
        return ((layers.flatten, self.hidden, self.norm, jax.nn.relu, self.drop),)


def bench(method, devices=1, **options):
    return Bench(method, devices=devices, **{'module': Flat(), 'shape': SHAPE, 'teachers': (TEACHER,), **options})


def of(params):
    return models.Network(Flat(), {'params': params})


def worst(objective, images, epsilon=0.1):
    """Four steps from each example's own start."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(jax.random.key(0), 1), jnp.arange(32))
    (points, _) = robustness.ascend(
        objective,
        images,
        ball=robustness.BALLS['linf'],
        epsilon=epsilon,
        steps=4,
        step_size=epsilon * 2.5 / 4,
        keys=keys,
    )
    return jax.lax.stop_gradient(points)


@jax.jit
def rslad(params, images, labels):
    """By hand: where the student is furthest from the teacher at x."""
    (student, taught) = of(params), TEACHER(images)
    points = worst(lambda points: losses.kl_divergence(student(points), taught), images)
    return losses.rslad(student(images), student(points), taught)


@jax.jit
def iad(params, images, labels):
    """By hand, past its warm-up: where the label loses most; the teacher is asked there how far it is to be trusted."""
    student = of(params)
    points = worst(lambda points: robustness.exact_cross_entropy(student(points), labels), images)
    logits = (student(images), student(points), TEACHER(images), TEACHER(points))
    return losses.iad(*logits, labels, trust_power=0.5)


@jax.jit
def faithful(params, images, labels):
    """By hand: where the two disagree most, both asked there."""
    student = of(params)
    points = worst(lambda points: losses.kl_divergence(student(points), TEACHER(points)), images)
    return losses.faithful_adversarial(student(images), student(points), TEACHER(images), TEACHER(points), rho=0.8)


@jax.jit
def adversarial(params, images, labels):
    """By hand: the label, at the point where it loses most; in epoch 1 of a ramp of 4 the radius is at two fifths."""
    student = of(params)
    points = worst(lambda points: robustness.exact_cross_entropy(student(points), labels), images, epsilon=0.04)
    return losses.cross_entropy(student(points), labels)


@jax.jit
def ibp(params, images, labels):
    """By hand: in epoch 1 of a ramp of 4 both the radius and rho are at two fifths."""
    (_, upper) = robustness.difference_bounds(of(params), images, labels, 0.04, method='ibp')
    return losses.certified_cross_entropy(of(params)(images), upper, labels, rho=0.2)


@jax.jit
def certified(params, images, labels):
    """By hand: in epoch 1 of a ramp of 4 both the radius and rho are at two fifths."""
    student = of(params)
    gap = robustness.log_odds_gap_bounds(TEACHER, student, images, labels, 0.04, method='ibp') / 4
    return losses.faithful_certified(student(images), TEACHER(images), gap, rho=0.32)


@pytest.mark.parametrize(
    ('name', 'settings', 'by_hand'),
    [
        ('rslad', {'attack_steps': 4}, rslad),
        ('faithful_certified', {'rho': 0.8, 'ramp': 4}, certified),
        ('iad', {'attack_steps': 4, 'trust_power': 0.5, 'warm_up': 0}, iad),
        ('faithful_adversarial', {'attack_steps': 4, 'rho': 0.8, 'ramp': 0}, faithful),
        ('adversarial', {'attack_steps': 4, 'ramp': 4}, adversarial),
        ('ibp', {'rho': 0.5, 'ramp': 4}, ibp),
    ],
)
def test_a_step_is_gradient_descent_on_the_loss_around_on_any_number_of_devices(name, settings, by_hand):
    method = {**METHODS, **ROBUST_TRAINING}[name].override(epsilon=0.1, **settings)
    (alone, split) = (bench(method, devices) for devices in (1, 4))
    before = jax.device_get(alone.state).params['student']
    images, labels = to_unit(jnp.asarray(alone.split.images)), jnp.asarray(alone.split.labels)
    (loss, gradient) = jax.value_and_grad(lambda params: by_hand(params, images, labels).mean())(before)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before, gradient)
    for each in (alone, split):
        (after, (metrics,)) = each.run([ALL], epoch=1)
        assert_trees_close(after.params['student'], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-5)
    # The last batch leaves some devices without a single valid row.
    (one, many) = (each.run([ALL[::-1], np.r_[5:17, [-1] * 20]], epoch=1) for each in (alone, split))
    assert_trees_close(many[0].params, one[0].params, rtol=1e-3, atol=1e-5)
    assert_trees_close(many[1][1], one[1][1], rtol=1e-3)
    assert one[1][1]['kept'] == 12


def test_looking_around_leaves_batch_statistics_to_the_one_forward_pass():
    # With a rate of 0 only the statistics move, and they do not depend on where the method looks.
    still = {'optimizer': optax.sgd(0.0), 'module': Small()}
    (around, _) = bench(METHODS['ard'].override(epsilon=0.3), devices=2, **still).run([ALL])
    (plain, _) = bench(METHODS['separate'], devices=2, **still).run([ALL])
    assert_trees_equal(around.batch_stats, plain.batch_stats)
    assert np.abs(plain.batch_stats['student']['norm']['mean']).max() > 0


def test_a_gated_method_packs_to_the_same_update():
    method = METHODS['ard'].with_gate(SELF_REGULATED).override(epsilon=0.1, alpha=0.0)
    batches = [np.arange(64), np.arange(96)[::-1][:64]]
    (masked, metrics) = bench(method, count=96).run(batches)
    (packed, measured) = bench(method, 2, count=96, make=training.make_compact_step).run(batches)
    assert 0 < metrics[0]['kept'] < 64
    assert_trees_close(packed.params, masked.params, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(packed.participation, masked.participation)
    np.testing.assert_allclose(measured[0]['loss'], metrics[0]['loss'], rtol=1e-4)

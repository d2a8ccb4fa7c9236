from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_split, softmax
from hypothesis import given, settings, strategies as st

from cckd_jax import evaluation, models
from cckd_jax.data import to_unit


def lenet(seed=0):
    module = models.create('lenet5_half')
    return models.Network(module, module.init(jax.random.key(seed), jnp.zeros((1, 28, 28, 1))))


def test_transfer_rates_by_hand():
    teacher = np.array([1, 1, 1, 0, 0, 0, 0], bool)
    student = np.array([1, 0, 1, 1, 1, 1, 0], bool)
    assert evaluation.transfer_rates(teacher, student) == (3 / 4, 1 / 3)
    assert evaluation.transfer_rates(np.ones(3, bool), student[:3]) == (None, 1 / 3)
    assert evaluation.transfer_rates(np.zeros(3, bool), student[:3]) == (2 / 3, None)
    with pytest.raises(ValueError, match=r'both must be \[N\]'):
        evaluation.transfer_rates(teacher, student[:3])


@pytest.mark.parametrize('devices', [1, 3, 8])
@pytest.mark.parametrize('count', [1, 7, 40])
def test_every_example_is_counted_whatever_their_number(devices, count):
    network, split = lenet(), random_split(count)
    result = evaluation.predict(network, split.images, devices=jax.devices()[:devices])
    np.testing.assert_allclose(result, network(to_unit(jnp.asarray(split.images))), rtol=1e-4, atol=1e-5)


class Counting(nn.Module):
    """Sums of pixels, which says when it is traced; of a field that may have a hash, or not."""

    seen: Any

    def __call__(self, images):
        TRACED.append(images.shape)
        return jnp.sum(images, (1, 2, 3), keepdims=False)[:, None] * jnp.asarray(self.seen)[None, :]


TRACED = []


@pytest.mark.parametrize(('of', 'traces'), [(tuple, 1), (np.array, 2)])
def test_equal_networks_are_compiled_once_where_they_can_be_told_equal(of, traces, one_device):
    images = random_split(5).images
    TRACED.clear()
    for field in ((1.0, 2.0), (1.0, 2.0), (3.0, 4.0)):
        result = evaluation.predict(models.Network(Counting(of(field)), {}), images, devices=one_device)
        expected = images.sum((1, 2, 3))[:, None] / 255 * np.array(field)
        np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert len(TRACED) == traces + 1


def test_batches_do_not_change_the_result():
    rows = np.arange(23, dtype=np.float32)
    apply = evaluation.map_dataset(
        lambda scale, x: {'scaled': x * scale, 'twice': jnp.stack([x, x], -1)},
        batch_size=4,
        devices=jax.devices()[:2],
    )
    result = apply(jnp.float32(3.0), rows)
    np.testing.assert_array_equal(result['scaled'], rows * 3)
    np.testing.assert_array_equal(result['twice'], np.stack([rows, rows], -1))


def test_fgsm_by_hand():
    # A linear network: the gradient of the cross entropy is W (p - y), whose sign is known.
    weights = jnp.array([[1.0, -1.0], [-2.0, 0.5], [0.5, 3.0]])
    images = jnp.array([0.5, 0.01, 0.98]).reshape(1, 1, 3, 1)
    logits = lambda x: x.reshape(-1, 3) @ weights
    p = softmax(logits(images))[0]
    direction = np.sign(np.asarray(weights) @ (p - [1, 0]))
    expected = np.clip(np.array([0.5, 0.01, 0.98]) + 0.1 * direction, 0, 1)
    result = evaluation.fgsm(logits, images, jnp.array([0]), epsilon=0.1)
    np.testing.assert_allclose(result.ravel(), expected, rtol=1e-6)


@given(epsilon=st.floats(0.0, 1.0), seed=st.integers(0, 100), start=st.booleans())
@settings(max_examples=10, deadline=None)
def test_fgsm_stays_in_the_ball_and_among_pixels(epsilon, seed, start):
    split = random_split(4, seed)
    images = to_unit(jnp.asarray(split.images))
    key = jax.random.key(seed) if start else None
    moved = evaluation.fgsm(lenet(), images, jnp.asarray(split.labels), epsilon=epsilon, key=key)
    assert jnp.abs(moved - images).max() <= epsilon + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1


def test_fgsm_raises_the_loss():
    split = random_split(16)
    network, images, labels = lenet(), to_unit(jnp.asarray(split.images)), jnp.asarray(split.labels)
    from cckd_jax.losses import cross_entropy

    moved = evaluation.fgsm(network, images, labels, epsilon=0.02)
    assert (cross_entropy(network(moved), labels) > cross_entropy(network(images), labels)).all()


@pytest.mark.parametrize('epsilon', [-0.1, 1.5])
def test_an_epsilon_outside_the_pixels_is_refused(epsilon):
    with pytest.raises(ValueError, match=r'epsilon must be in \[0, 1\]'):
        evaluation.fgsm(lenet(), jnp.zeros((1, 28, 28, 1)), jnp.zeros(1, int), epsilon=epsilon)

"""The generator of KegNet: its diversity loss, its decoder, its images, and how it fails."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Flat, random_network

from cckd_jax import synthesis
from cckd_jax.errors import InputError
from cckd_jax.synthesis import generator, kegnet


class Memory:
    """A `Partial` in memory that stops after a number of saves."""

    def __init__(self, stop=None):
        self.state, self.stop, self.saves = None, stop, 0

    def load(self):
        return self.state

    def save(self, state):
        self.state = state
        self.saves += 1
        if self.saves == self.stop:
            raise KeyboardInterrupt


def problem(partial=None, **settings):
    network = random_network(Flat(num_classes=3, width=1.0), (8, 8, 1), scale=4.0)
    values = {**kegnet.KEGNET.defaults, 'images': 100, 'batch_size': 24, 'steps': 110, **settings}
    return synthesis.Problem(network, (8, 8, 1), 3, values, jax.random.key(0), partial or Memory())


def test_diversity_counts_all_pairs_whatever_the_blocks():
    random = np.random.default_rng(0)
    noise, images = random.normal(size=(70, 3)), random.uniform(size=(70, 4, 4, 1))
    total = 0.0
    for i in range(70):
        for j in range(70):
            total += np.mean((noise[i] - noise[j]) ** 2) * np.mean(np.abs(images[i] - images[j]))
    expected = np.exp(-total / 70**2)
    assert float(kegnet.diversity_loss(jnp.asarray(noise), jnp.asarray(images))) == pytest.approx(expected, rel=1e-4)
    assert float(kegnet.diversity_loss(jnp.asarray(noise), jnp.zeros((70, 4, 4, 1)))) == 1.0


def test_the_teacher_recognises_most_images_as_the_class_they_were_made_for():
    samples = kegnet.generate(problem(diversity_weight=1.0, learning_rate=1e-2))
    assert samples.images.shape == (100, 8, 8, 1)
    assert samples.images.dtype == np.uint8
    assert set(samples.labels) == {0, 1, 2}
    network = problem().teacher
    assert (np.asarray(network(samples.images / np.float32(255))).argmax(-1) == samples.labels).mean() > 0.7


def train(partial):
    """Three parameters after 110 steps towards random numbers."""
    return generator.train_generator(
        problem(),
        {'x': jnp.zeros(3)},
        lambda params, variables, key: jnp.sum((params['x'] - jax.random.normal(key, (3,))) ** 2),
        title='generator',
        key=jax.random.key(0),
        state=partial.load(),
        save=lambda state, params, done: partial.save(state),
    )


def test_an_interrupted_training_ends_with_the_same_parameters():
    partial = Memory(stop=1)
    with pytest.raises(KeyboardInterrupt):
        train(partial)
    np.testing.assert_array_equal(train(partial)['x'], train(Memory())['x'])
    assert partial.saves == 3  # after 50, 100 and 110 steps


def test_a_loss_that_becomes_nan_names_its_step_and_keeps_the_state_before_it():
    partial = Memory()
    loss = lambda params, variables, key: jnp.where(params['x'] < -0.55, jnp.nan, params['x'])
    with pytest.raises(synthesis.NonFiniteSynthesis, match='generator became NaN or infinite in step 57;'):
        # Each step subtracts 0.01: the 57th is the first below -0.55.
        generator.train_generator(
            problem(learning_rate=0.01),
            {'x': jnp.float32(0)},
            loss,
            title='generator',
            key=jax.random.key(0),
            save=lambda state, params, done: partial.save(state),
        )
    assert partial.saves == 1
    assert float(partial.state['0']) == pytest.approx(-0.5, abs=1e-3)


def test_batch_norm_leaves_zero_mean_and_unit_variance():
    values = jax.random.normal(jax.random.key(0), (64, 5)) * 3 + 2
    normed = generator.BatchNorm(affine=False).apply({}, values)
    np.testing.assert_allclose(normed.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(normed.std(0), 1, atol=1e-3)
    assert float(optax.tree.norm(normed)) == pytest.approx(np.sqrt(64 * 5), rel=1e-3)


def test_a_transposed_convolution_spreads_each_pixel_over_4x4():
    layer = kegnet.TransposedConvolution(1)
    image = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(1.0)
    variables = layer.init(jax.random.key(0), image)
    output = np.asarray(layer.apply(variables, image))[0, :, :, 0]
    assert output.shape == (10, 10)
    assert np.count_nonzero(output) == np.count_nonzero(output[3:7, 3:7]) == 16
    moved = np.asarray(layer.apply(variables, jnp.roll(image, 1, axis=1)))[0, :, :, 0]
    np.testing.assert_allclose(moved, np.roll(output, 2, axis=0), atol=1e-6)


def test_large_images_are_refused():
    with pytest.raises(InputError, match='kegnet makes images up to 32x32, and the data set has 64x48'):
        kegnet.check_shape(None, (64, 48, 3))

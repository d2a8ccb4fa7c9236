"""The generator of DAFL: its terms by hand, and images that a teacher classifies with certainty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Flat, Tiny, random_network

from cckd_jax import synthesis
from cckd_jax.errors import InputError
from cckd_jax.synthesis import dafl, last_layer


def test_terms_by_hand():
    logits, features = np.log(np.float32([[0.8, 0.2], [0.4, 0.6]])), np.float32([[1, -2, 3], [0, 4, 0]])
    entropy = -2 * (0.6 * np.log(0.6) + 0.4 * np.log(0.4)) / 2
    certainty = -(np.log(0.8) + np.log(0.6)) / 2
    np.testing.assert_allclose(
        dafl.generator_terms(logits, features, constants='paper'), (certainty, -5, -entropy / 2), rtol=1e-5
    )
    np.testing.assert_allclose(
        dafl.generator_terms(logits, features, constants='code'), (certainty, -5 / 3, -entropy / np.log(10)), rtol=1e-5
    )
    with pytest.raises(InputError, match=r"unknown transfer.constants 'text'"):
        dafl.generator_terms(logits, features, constants='text')


def test_balance_is_least_for_equal_classes_and_finite_for_one():
    balance = lambda logits: dafl.generator_terms(logits, jnp.ones((10, 1)), constants='paper')[2]
    assert float(balance(jnp.eye(10) * 1000)) == pytest.approx(-np.log(10) / 10, rel=1e-4)
    single = jnp.zeros((10, 10)).at[:, 0].set(1000.0)
    assert float(balance(single)) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(jax.grad(balance)(single)).all()


def test_the_features_are_the_input_of_the_last_layer():
    network = random_network(Tiny(num_classes=4), (8, 8, 3))
    images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    logits, features = last_layer.logits_and_features(network, images)
    output = network.variables['params']['output']
    np.testing.assert_allclose(logits, network(images), atol=1e-5)
    np.testing.assert_allclose(
        np.asarray(features @ last_layer.kernel(network)) + np.asarray(output['bias']), logits, atol=1e-4
    )


def test_images_of_all_classes_are_certain_after_an_interruption():
    class Interrupted:
        state = None

        def load(self):
            return self.state

        def save(self, state):
            if self.state is None:
                self.state = state
                raise KeyboardInterrupt

    network = random_network(Flat(num_classes=3, width=1.0), (8, 6, 1), scale=4.0)
    values = {**dafl.DAFL.defaults, 'images': 90, 'batch_size': 24, 'steps': 90, 'width': 8, 'learning_rate': 1e-2}
    problem = synthesis.Problem(network, (8, 6, 1), 3, values, jax.random.key(0), Interrupted())
    with pytest.raises(KeyboardInterrupt):
        dafl.generate(problem)
    assert problem.partial.state['images'].shape == (50, 8, 6, 1)
    images = dafl.generate(problem).images
    assert images.shape == (90, 8, 6, 1)
    np.testing.assert_array_equal(images[:50], problem.partial.state['images'])
    probabilities = np.asarray(jax.nn.softmax(network(images[50:] / np.float32(255))))
    assert probabilities.max(1).mean() > 0.75
    assert np.bincount(probabilities.argmax(1), minlength=3).min() >= 4

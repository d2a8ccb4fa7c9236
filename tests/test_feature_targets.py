"""Impressions whose targets are drawn in the teacher's feature space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Flat, random_network

from cckd_jax import models, synthesis
from cckd_jax.errors import InputError
from cckd_jax.synthesis import feature_targets, last_layer, zskd


@pytest.fixture(scope='module')
def lenet():
    return random_network(models.create('lenet5', num_classes=4, width=0.2), (28, 28, 1), scale=4.0)


def test_features_have_the_covariance_of_the_incoming_weights():
    kernel = jnp.array([[1.0, 1.0, -2.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    features = feature_targets.draw_features(jax.random.key(0), kernel, 1.5, 40_000)
    half = 1.5 * np.sqrt(0.5)
    covariance = [[1.5, half, -1.5, 0], [half, 1.5, -half, 0], [-1.5, -half, 1.5, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(np.cov(features.T), covariance, atol=0.03)
    np.testing.assert_allclose(features.mean(0), 0, atol=0.02)


def test_the_layers_behind_turn_features_into_targets(lenet):
    key, count = jax.random.key(1), 50
    labels, targets = feature_targets.draw_targets(key, lenet, variance=30.0, temperature=2.0, count=count)
    params = lenet.variables['params']
    features = jax.nn.relu(feature_targets.draw_features(key, params['dense2']['kernel'], 30.0, count))
    logits = features @ params['dense3']['kernel'] + params['dense3']['bias'][None]
    np.testing.assert_allclose(targets, jax.nn.softmax(logits / 2.0), atol=1e-5)
    assert labels.tolist() == np.argmax(logits, 1).tolist()
    assert len(set(labels.tolist())) > 1


def impressions(network, **settings):
    values = {**zskd.ZSKD.defaults, 'images': 12, 'batch_size': 12, 'steps': 60, 'learning_rate': 0.05, **settings}
    partial = synthesis.Partial('unused', 'key', seconds=1e9)
    return zskd.generate(synthesis.Problem(network, (28, 28, 1), 4, values, jax.random.key(0), partial))


def test_impressions_of_features_are_of_their_class_and_a_weight_raises_the_activation(lenet):
    settings = {'space': 'features', 'variance': 30.0, 'temperature': 2.0}
    activations = []
    for weight in (0.0, 4.0):
        samples = impressions(lenet, **settings, activation_weight=weight)
        logits, features = last_layer.logits_and_features(lenet, samples.images / np.float32(255))
        activations.append(float(jnp.abs(features).mean()))
        if not weight:
            assert (logits.argmax(1) == samples.labels).mean() > 0.7
    assert activations[1] > 1.2 * activations[0]


def test_the_activation_loss_does_not_decide_the_class_at_the_temperature_of_the_paper(lenet):
    samples = impressions(lenet, space='features', variance=30.0)
    assert (lenet(samples.images / np.float32(255)).argmax(1) == samples.labels).mean() > 0.7


def test_the_activation_weight_belongs_to_the_feature_space(lenet):
    images = [impressions(lenet, steps=3, activation_weight=weight).images for weight in (0.0, 5.0)]
    np.testing.assert_array_equal(*images)


@pytest.mark.parametrize(
    ('space', 'message'),
    [
        ('features', 'Flat has none; set --config.transfer.space=softmax'),
        ('feature', "unknown transfer.space 'feature'"),
    ],
)
def test_spaces_that_a_teacher_lacks_are_refused(space, message):
    request = synthesis.Request(Flat(num_classes=2), None, 2, {'space': space})
    with pytest.raises(InputError, match=message):
        zskd.check(request._replace(train=type('Train', (), {'images': np.zeros((1, 4, 4, 1))})))

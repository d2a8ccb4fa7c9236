"""Arguments that certified bounds reject, each with one line."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from helpers import Flat, random_network
from test_bounds import METHODS, case

from cckd_jax import evaluation, models
from cckd_jax.errors import InputError
from cckd_jax.models import layers
from cckd_jax.robustness.bounds import layer_rules


@pytest.mark.parametrize('method', METHODS)
def test_labels_of_no_class_have_no_bounds(method):
    network, images, _ = case('flat', batch=2)
    for labels in (jnp.array([0, 4]), jnp.array([-1, 0])):
        for bound in (evaluation.difference_bounds, evaluation.confidence_bounds):
            with pytest.raises(InputError, match='labels must be from 0 to 3, not from'):
                bound(network, images, labels, 0.1, method=method)
        with pytest.raises(InputError, match='labels must be from 0 to 3, not from'):
            evaluation.confidence_gap_bounds(network, network, images, labels, 0.1, method=method)


class Unknown(Flat):
    def setup(self):
        super().setup()
        self.norm = nn.GroupNorm(1)

    def stages(self):
        return ((layers.flatten, self.hidden, self.norm, jnp.tanh),)


class OwnDense(nn.Dense):
    pass


def test_what_cannot_be_bounded_is_named():
    images = jnp.zeros((2, 4, 4, 1))
    known = (
        'Conv, Dense, relu, Standardize, MaxPool, ConvMaxPool, flatten, global_average, BatchNorm, LocalResponseNorm, '
        'Dropout, BasicBlock'
    )
    with pytest.raises(InputError, match=f"no rule for the layer 'GroupNorm'; there are rules for: {known}"):
        evaluation.logit_bounds(random_network(Unknown(), (4, 4, 1)), images, 0.1)
    with pytest.raises(InputError, match="'tanh'"):
        layer_rules.find_rule(jnp.tanh)
    with pytest.raises(InputError, match="'OwnDense'"):
        layer_rules.find_rule(OwnDense(3))
    module = nn.Sequential([layers.flatten, nn.Dense(3)])
    network = models.Network(module, module.init(jax.random.key(0), images))
    with pytest.raises(InputError, match='Sequential does not provide; derive it from cckd_jax'):
        evaluation.logit_bounds(network, images, 0.1)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'epsilon': -0.1}, r'epsilon must be in \[0, 1\], not -0.1'),
        ({'epsilon': 1.1}, r'epsilon must be in \[0, 1\], not 1.1'),
        ({'images': 255 * jnp.ones((2, 4, 4, 1))}, r'images must be in \[0, 1\], not from 255 to 255'),
        ({'images': jnp.ones((2, 4, 5, 1))}, 'the network cannot take images of 4x5x1'),
        ({'method': 'ipb'}, r"unknown method 'ipb' \(did you mean 'ibp'\?\); there are: ibp, crown_ibp, crown"),
    ],
)
def test_bad_balls_are_refused(options, message):
    network, images, labels = case('flat', batch=2)
    options = {'epsilon': 0.1, 'images': images, **options}
    with pytest.raises(InputError, match=message):
        evaluation.logit_bounds(network, **options)
    with pytest.raises(InputError, match=message):
        evaluation.confidence_bounds(network, labels=labels, **options)
    with pytest.raises(AssertionError):
        evaluation.difference_bounds(network, images, labels[:1], 0.1)

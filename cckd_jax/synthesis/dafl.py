r"""DAFL: a generator whose images a teacher classifies with certainty, activates strongly on, and spreads over classes.

With logits z and features f of the last layer's input, averaged over a batch, the generator minimizes

$-\log \max_c p_T(c | x) - \alpha \|f\| + \beta \sum_c \bar p_c \log \bar p_c$, where $\bar p$ is the mean of p_T.

Source: Chen et al., "Data-Free Learning of Student Networks" (ICCV 2019). The scales of the last two terms differ
between the paper and its published code, see `generator_terms`. Readings of ours: pixels are a sigmoid in place of a
batch norm that meets the statistics of the teacher's standardized inputs. The paper trains the student beside the
generator; no term depends on the student, so here the transfer set takes as many images from the generator after every
50 steps of its training. A student of the paper sees each image once, here once per epoch.
"""

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cckd_jax.errors import lookup
from cckd_jax.models import Network
from cckd_jax.synthesis import last_layer
from cckd_jax.synthesis.generator import BatchNorm, crop, sample, train_generator
from cckd_jax.synthesis.system import Problem, Samples, System

# The published code passes 0.8 where the momentum was meant.
_EPSILON = 0.8
# What the sums of the paper are divided by in `generator_terms`: of the features, and of the entropy.
_CONSTANTS = {
    'paper': lambda features, classes: (1.0, classes),
    'code': lambda features, classes: (features, math.log(10.0)),
}


class Generator(nn.Module):
    """A dense layer and convolutions between two enlargements, from noise to an image in [0, 1].

    Attributes:
      side: of the image, rounded up to a multiple of 4.
      channels: of the image.
      width: feature maps of the first convolution; the second has half as many.
    """

    side: int
    channels: int
    width: int = 128

    @nn.compact
    def __call__(self, noise: chex.Array) -> chex.Array:
        side = self.side // 4
        values = nn.Dense(self.width * side * side)(noise).reshape(-1, side, side, self.width)
        values = BatchNorm()(values)
        for features in (self.width, max(1, self.width // 2)):
            values = nn.Conv(features, (3, 3))(values.repeat(2, axis=1).repeat(2, axis=2))
            values = nn.leaky_relu(BatchNorm(epsilon=_EPSILON)(values), 0.2)
        return nn.sigmoid(nn.Conv(self.channels, (3, 3))(values))


def generator_terms(
    logits: chex.Array, features: chex.Array, *, constants: str = 'code'
) -> tuple[chex.Array, chex.Array, chex.Array]:
    r"""The three terms of the generator's loss, without their weights.

    $\frac{1}{n} \sum_i -\log \max_c p_{ic}$, $-\frac{1}{a n} \sum_{ij} |f_{ij}|$ and
    $\frac{1}{b} \sum_c \bar p_c \log \bar p_c$. The paper has a = 1 and b = C; its code a = F and b = log 10.

    Args:
      logits: float `[B, C]`, of the teacher.
      features: float `[B, F]`, of the teacher.
      constants: `paper` or `code`.

    Returns:
      The terms of certainty, activation and balance, scalars.

    Raises:
      InputError: there are no such constants.

    >>> one_hot, activation, balance = generator_terms(jnp.eye(10) * 100, jnp.ones((10, 4)))
    >>> round(float(balance), 3), float(activation)
    (-1.0, -1.0)
    """
    chex.assert_rank([logits, features], 2)
    (units, scale) = lookup(_CONSTANTS, constants, 'transfer.constants')(features.shape[-1], logits.shape[-1])
    certainty = optax.softmax_cross_entropy_with_integer_labels(logits, logits.argmax(-1)).mean()
    activation = -jnp.abs(features).sum(-1).mean() / units
    # The gradient of the entropy is infinite at 0.
    mean = jnp.maximum(jax.nn.softmax(logits).mean(0), jnp.finfo(jnp.float32).tiny)
    balance = -jax.scipy.special.entr(mean).sum() / scale
    return certainty, activation, balance


def generate(problem: Problem) -> Samples:
    """Trains the generator, and draws images from it along the way."""
    settings, shape = problem.settings, problem.image_shape
    lookup(_CONSTANTS, settings['constants'], 'transfer.constants')
    (init_key, train_key, sample_key) = jax.random.split(problem.key, 3)
    generator = Generator(-(-max(shape[:2]) // 4) * 4, shape[-1], settings['width'])
    (count, size, steps) = (settings['images'], settings['batch_size'], settings['steps'])

    def draw(params: chex.ArrayTree, key: chex.PRNGKey) -> tuple[chex.Array, None]:
        noise = jax.random.normal(key, (size, settings['noise_units']))
        return crop(generator.apply(params, noise), shape), None

    def loss(params: chex.ArrayTree, variables: chex.ArrayTree, key: chex.PRNGKey) -> chex.Array:
        network = Network(problem.teacher.module, variables)
        (certainty, activation, balance) = generator_terms(
            *last_layer.logits_and_features(network, draw(params, key)[0]), constants=settings['constants']
        )
        return certainty + settings['activation_weight'] * activation + settings['balance_weight'] * balance

    drawn = jax.jit(draw)
    unfinished = problem.partial.load()
    chunks = [] if unfinished is None else [unfinished['images']]

    def keep(state: dict[str, np.ndarray], params: chex.ArrayTree, done: int) -> None:
        missing = round(count * done / steps) - sum(map(len, chunks))
        if missing > 0:
            (images, _) = sample(drawn, params, jax.random.fold_in(sample_key, done), missing, size)
            chunks.append(images)
        problem.partial.save({'generator': state, 'images': np.concatenate(chunks)})

    train_generator(
        problem,
        jax.jit(generator.init)(init_key, jnp.zeros((2, settings['noise_units']))),
        loss,
        title='generator',
        key=train_key,
        state=None if unfinished is None else unfinished['generator'],
        save=keep,
    )
    return Samples(np.concatenate(chunks))


DAFL = System(
    generate,
    {
        'images': 24_000,
        'steps': 24_000,
        'batch_size': 512,
        'learning_rate': 1e-3,
        'width': 128,
        'noise_units': 100,
        'constants': 'code',
        'activation_weight': 0.1,
        'balance_weight': 5.0,
    },
    check=lambda request: last_layer.check(request.module, request.image_shape),
)

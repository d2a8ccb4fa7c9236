r"""KegNet: a generator conditioned on classes, whose images a decoder can tell apart.

The generator makes an image x from a class y and noise z; a decoder recovers z from x. The loss is
$-\log p_T(y | x) + \alpha \|\hat z - z\|^2 / d + \beta L_{div}$ with the mean over a batch, where $L_{div}$ is
`diversity_loss`.

Source: Yoo et al., "Knowledge Extraction with No Observable Data" (NeurIPS 2019), by its published code. Readings of
ours: pixels are a sigmoid in place of a tanh whose output is standardized by image, so that they are in [0, 1] without
any statistic; images of 32x32 are cropped; one generator in place of five; batch norm uses the batch at hand; nothing
is selected on real images. The student of the paper is a compressed copy of the teacher; here it starts from its own
weights.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cckd_jax.errors import InputError
from cckd_jax.models import Network
from cckd_jax.synthesis.generator import BatchNorm, crop, sample, train_generator
from cckd_jax.synthesis.system import Problem, Samples, System

_NOISE = 10  # dimensions of z
_SIDE = 32
_ROWS = 32  # pairs of images are compared in blocks of this many rows


class Generator(nn.Module):
    """Dense layers and transposed convolutions from class and noise to a 32x32 image.

    Attributes:
      channels: of the image.
    """

    channels: int

    @nn.compact
    def __call__(self, labels: chex.Array, noise: chex.Array) -> chex.Array:
        values = jnp.concatenate([labels, noise], axis=-1)
        for units in (256, 128):
            values = nn.relu(BatchNorm()(nn.Dense(units)(values)))
        # A transposed 4x4 convolution of one pixel is a dense layer.
        values = nn.Dense(4 * 4 * 64, use_bias=False)(values).reshape(-1, 4, 4, 64)
        for features in (16, 4, self.channels):
            values = TransposedConvolution(features)(nn.relu(BatchNorm()(values)))
        return nn.sigmoid(values)


class TransposedConvolution(nn.Module):
    """A 4x4 transposed convolution of stride 2 that doubles the side, without a bias.

    Every output pixel depends on 2x2 input pixels, with other weights for odd and even positions. XLA:CPU computes this
    form several times faster than a dilated convolution.

    Attributes:
      features: number of channels.
    """

    features: int

    @nn.compact
    def __call__(self, values: chex.Array) -> chex.Array:
        (count, height, width, _) = values.shape
        phases = nn.Conv(4 * self.features, (2, 2), padding=1, use_bias=False)(values)
        phases = phases.reshape(count, height + 1, width + 1, 2, 2, self.features)
        rows = [jnp.stack([phases[:, p : p + height, q : q + width, p, q] for q in (0, 1)], axis=3) for p in (0, 1)]
        return jnp.stack(rows, axis=2).reshape(count, 2 * height, 2 * width, self.features)


class Decoder(nn.Module):
    """Dense layers from an image to its noise.

    Attributes:
      layers: number of hidden layers after the first.
    """

    layers: int

    @nn.compact
    def __call__(self, images: chex.Array) -> chex.Array:
        values = images.reshape(len(images), -1)
        for _ in range(self.layers + 1):
            values = BatchNorm()(nn.elu(nn.Dense(120)(values)))
        return nn.Dense(_NOISE)(values)


def diversity_loss(noise: chex.Array, images: chex.Array) -> chex.Array:
    r"""How alike images of different noise are.

    $L_{div} = \exp(-\frac{1}{n^2} \sum_{ij} d_z(z_i, z_j) d_x(x_i, x_j))$, with the mean square difference of the noise
    as d_z and the mean absolute difference of the pixels as d_x. All n^2 pairs count, also an image with itself.

    Args:
      noise: float `[n, d]`.
      images: float `[n, ...]`.

    Returns:
      A scalar in (0, 1].

    >>> diversity_loss(jnp.array([[0.0], [2.0]]), jnp.array([[0.0], [0.5]])).round(4).item()
    0.3679
    """
    flat = images.reshape(len(images), -1)

    @jax.checkpoint
    def from_one(row: tuple[chex.Array, chex.Array]) -> chex.Array:
        (noise_row, image_row) = row
        noise_distance = jnp.mean((noise_row[None] - noise) ** 2, -1)
        return jnp.sum(noise_distance * jnp.mean(jnp.abs(image_row[None] - flat), -1))

    # All pairs at once would take 268 MB for 256 images of 32x32.
    return jnp.exp(-jnp.sum(jax.lax.map(from_one, (noise, flat), batch_size=_ROWS)) / len(flat) ** 2)


def check_shape(module: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """Raises InputError for images that are larger than those of the generator."""
    if max(image_shape[:2]) > _SIDE:
        raise InputError(
            f'kegnet makes images up to {_SIDE}x{_SIDE}, and the data set has {image_shape[0]}x{image_shape[1]}; set '
            '--config.transfer.name=zskd'
        )


def generate(problem: Problem) -> Samples:
    """Trains generator and decoder, then draws images of all classes."""
    settings, classes, shape = problem.settings, problem.num_classes, problem.image_shape
    (init_key, train_key, sample_key) = jax.random.split(problem.key, 3)
    (generator, decoder) = (Generator(shape[-1]), Decoder(settings['decoder_layers']))
    size = settings['batch_size']

    def draw(params: chex.ArrayTree, key: chex.PRNGKey) -> tuple[chex.Array, tuple[chex.Array, chex.Array]]:
        (label_key, noise_key) = jax.random.split(key)
        labels = jax.random.randint(label_key, (size,), 0, classes)
        noise = jax.random.normal(noise_key, (size, _NOISE))
        images = crop(generator.apply(params['generator'], jax.nn.one_hot(labels, classes), noise), shape)
        return images, (labels, noise)

    def loss(params: chex.ArrayTree, variables: chex.ArrayTree, key: chex.PRNGKey) -> chex.Array:
        images, (labels, noise) = draw(params, key)
        logits = Network(problem.teacher.module, variables)(images)
        total = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        total += settings['decoder_weight'] * jnp.mean((decoder.apply(params['decoder'], images) - noise) ** 2)
        if settings['diversity_weight']:
            total += settings['diversity_weight'] * diversity_loss(noise, images)
        return total

    @jax.jit
    def initial(key: chex.PRNGKey) -> dict[str, chex.ArrayTree]:
        (generator_key, decoder_key) = jax.random.split(key)
        return {
            'generator': generator.init(generator_key, jnp.zeros((2, classes)), jnp.zeros((2, _NOISE))),
            'decoder': decoder.init(decoder_key, jnp.zeros((2, *shape))),
        }

    params = train_generator(
        problem,
        initial(init_key),
        loss,
        title='generator',
        key=train_key,
        state=problem.partial.load(),
        save=lambda state, params, done: problem.partial.save(state),
    )
    images, (labels, _) = sample(draw, params, sample_key, settings['images'], size)
    return Samples(images, labels.astype(np.int32))


KEGNET = System(
    generate,
    {
        'images': 32_000,
        'steps': 20_000,
        'batch_size': 256,
        'learning_rate': 1e-3,
        'decoder_weight': 1.0,
        'diversity_weight': 0.0,
        'decoder_layers': 1,
    },
    labels=('nominal', 'teacher'),
    check=lambda request: check_shape(request.module, request.image_shape),
)

"""Activation records: what each layer of a teacher outputs for the training images of each class, as statistics.

The records stand for the training set where it cannot go: a file of them has means and covariances, and no image.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax import io
from cckd_jax.data import Images, Split, consecutive_batches, to_unit
from cckd_jax.errors import InputError
from cckd_jax.models import Network
from cckd_jax.models.layers import ConvMaxPool
from cckd_jax.synthesis.inputs import progress

# Arrays by name: `LAYER.mean` and `LAYER.factor` or `LAYER.deviation` of each layer, and `pixels`.
Records = Mapping[str, np.ndarray]

LOGITS = 'logits'
_JITTER = 1e-6  # of the mean variance; units without variance make a covariance singular
_BATCH = 500


def layer_outputs(network: Network, images: chex.Array, *, hidden: bool) -> dict[str, chex.Array]:
    """Logits, and what the hidden dense and convolutional layers of any Flax Linen network output.

    Args:
      network: the network.
      images: float `[B, H, W, C]` in [0, 1].
      hidden: whether to return hidden layers too.

    Returns:
      float32 `[B, ...]` by the name of the layer, before any pool or activation function, in the order of the layers;
      the logits come last. A last dense layer is no hidden layer, because its outputs are the logits.

    >>> from cckd_jax import models
    >>> images, lenet = jnp.zeros((2, 28, 28, 1)), models.create('lenet5_half')
    >>> network = Network(lenet, lenet.init(jax.random.key(0), images))
    >>> {name: values.shape[1:] for name, values in layer_outputs(network, images, hidden=True).items()}
    {'conv1': (28, 28, 3), 'conv2': (10, 10, 8), 'dense1': (120,), 'dense2': (84,), 'logits': (10,)}
    """
    outputs: dict[str, chex.Array] = {}

    def collect(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        values = call(*arguments, **options)
        layer = context.module
        # A network that is a single layer has no hidden one, and neither has the convolution that is called below.
        if isinstance(layer, (nn.Dense, nn.Conv)) and context.method_name == '__call__' and layer.path:
            name = '.'.join(layer.path)
            recorded = values
            if isinstance(layer, ConvMaxPool):
                (conv, _) = layer.separate()
                recorded = conv.apply(layer.variables, *arguments)
            # A layer that runs several times has several outputs.
            outputs[name if name not in outputs else f'{name}.{len(outputs)}'] = recorded.astype(jnp.float32)
        return values

    with nn.intercept_methods(collect):
        logits = network(images)
    if outputs and next(reversed(outputs.values())).shape == logits.shape:
        outputs.popitem()
    return {**(outputs if hidden else {}), LOGITS: logits.astype(jnp.float32)}


def cholesky_factor(covariance: np.ndarray) -> np.ndarray:
    r"""The lower factor L of a covariance, $L L^T = \Sigma + 10^{-6} \bar\sigma^2 I$, with the mean variance.

    The addition makes it possible for units without variance, whose draws then hardly leave their mean.

    Args:
      covariance: float `[..., F, F]`, symmetric.

    Returns:
      float64 `[..., F, F]`.

    >>> cholesky_factor(np.array([[4.0, 2.0], [2.0, 2.0]])).round(3).tolist()
    [[2.0, 0.0], [1.0, 1.0]]
    """
    covariance = np.asarray(covariance, np.float64)
    size = covariance.shape[-1]
    variance = np.trace(covariance, axis1=-2, axis2=-1) / size
    # A class of equal images has no variance at all.
    jitter = np.maximum(_JITTER * variance, np.finfo(np.float32).tiny)
    return np.linalg.cholesky(covariance + jitter[..., None, None] * np.eye(size))


def measure(network: Network, train: Split, num_classes: int, *, hidden: bool) -> dict[str, np.ndarray]:
    """Records a network's layers over a training set.

    Layers whose outputs are vectors get the Cholesky factor of their covariance, and feature maps the standard
    deviation of each unit, because their covariance would take gigabytes.

    Args:
      network: the teacher.
      train: images and labels.
      num_classes: C.
      hidden: whether to record hidden layers, or the logits alone.

    Returns:
      float32: for each layer `LAYER.mean` `[C, ...]`, and `LAYER.factor` `[C, F, F]` or `LAYER.deviation` `[C, ...]`;
      `pixels` `[2, channels]`, mean and standard deviation of the pixels in [0, 1].

    Raises:
      InputError: a class has no image.

    Source: Lopes et al., "Data-Free Knowledge Distillation for Deep Neural Networks" (arXiv:1710.07535). That feature
    maps are recorded unit by unit is our choice.
    """
    counts = np.bincount(train.labels, minlength=num_classes)
    if not counts.all():
        raise InputError(f'class {counts.argmin()} has no training image, so that its activations cannot be recorded')
    outputs = jax.jit(
        lambda variables, images: layer_outputs(Network(network.module, variables), to_unit(images), hidden=hidden)
    )
    sums: dict[str, np.ndarray] = {}
    for start in progress(range(0, len(train), _BATCH), 'activation records', 'batch'):
        labels = train.labels[start : start + _BATCH]
        images = train.images[start : start + _BATCH]
        # The last batch is padded, so that all have one shape.
        padded = np.pad(images, [(0, min(_BATCH, len(train)) - len(images)), (0, 0), (0, 0), (0, 0)])
        for layer, values in outputs(network.variables, padded).items():
            wide = np.asarray(values, np.float64)[: len(images)]
            shape = wide.shape[1:]
            square = (*shape, *shape) if len(shape) == 1 else shape
            first = sums.setdefault(f'{layer}.first', np.zeros((num_classes, *shape)))
            second = sums.setdefault(f'{layer}.second', np.zeros((num_classes, *square)))
            for label in np.unique(labels):
                rows = wide[labels == label]
                first[label] += rows.sum(0)
                second[label] += rows.T @ rows if len(shape) == 1 else np.square(rows).sum(0)
    records: dict[str, np.ndarray] = {'pixels': _pixels(train.images)}
    for layer in (name.removesuffix('.first') for name in sums if name.endswith('.first')):
        mean = np.stack([total / count for total, count in zip(sums[f'{layer}.first'], counts, strict=True)])
        second = np.stack([total / count for total, count in zip(sums[f'{layer}.second'], counts, strict=True)])
        records[f'{layer}.mean'] = mean.astype(np.float32)
        if mean.ndim == 2:
            covariance = second - mean[:, :, None] * mean[:, None, :]
            records[f'{layer}.factor'] = cholesky_factor(covariance).astype(np.float32)
        else:
            records[f'{layer}.deviation'] = np.sqrt(np.maximum(second - mean**2, 0)).astype(np.float32)
    return records


def draw(key: chex.PRNGKey, records: Mapping[str, chex.Array], labels: chex.Array) -> dict[str, chex.Array]:
    r"""Draws layer outputs from the records of classes: $\mu_y + L_y \epsilon$ with standard normal noise.

    Layers are drawn independently of each other.

    Args:
      key: typed PRNG key.
      records: of `measure`.
      labels: int `[B]`.

    Returns:
      float32 `[B, ...]` by the name of the layer.

    >>> records = {'logits.mean': jnp.array([[1.0, 2.0]]), 'logits.factor': jnp.zeros((1, 2, 2))}
    >>> draw(jax.random.key(0), records, jnp.array([0, 0]))['logits'].tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    drawn = {}
    for index, layer in enumerate(layers(records)):
        mean = records[f'{layer}.mean'][labels]
        noise = jax.random.normal(jax.random.fold_in(key, index), mean.shape)
        if f'{layer}.factor' in records:
            noise = jnp.einsum('bij,bj->bi', records[f'{layer}.factor'][labels], noise)
        else:
            noise *= records[f'{layer}.deviation'][labels]
        drawn[layer] = mean + noise
    return drawn


def layers(records: Mapping[str, Any]) -> list[str]:
    """The names of the recorded layers.

    >>> layers({'pixels': 0, 'logits.mean': 0, 'logits.factor': 0})
    ['logits']
    """
    return [name.removesuffix('.mean') for name in records if name.endswith('.mean')]


def save(path: Path, records: Records, teacher: str) -> None:
    """Writes records to an `.npz` atomically, with a digest of the teacher's weights."""
    io.save_arrays(path, teacher=np.array(teacher), **records)


def load(path: Path, teacher: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Reads the records of a teacher.

    Args:
      path: the file.
      teacher: digest of the teacher's weights.
      shapes: of the means `[C, ...]` by layer.

    Returns:
      The records of these layers, and `pixels`.

    Raises:
      InputError: the file is damaged, belongs to another teacher, or lacks a layer.
    """
    arrays = io.load_arrays(path, description='activation records', default_key='records')
    if str(arrays.get('teacher')) != teacher:
        raise InputError(
            f'{path} has the activation records of another teacher; give those of this one, or remove the file and '
            '--config.transfer.records, and the run records its own'
        )
    names = {'pixels'}
    for layer, shape in shapes.items():
        spread = f'{layer}.factor' if len(shape) == 2 else f'{layer}.deviation'
        if {f'{layer}.mean', spread} - arrays.keys() or arrays[f'{layer}.mean'].shape != shape:
            raise InputError(
                f'{path} has no activation records of {layer}; set --config.transfer.layers=top, which needs those of '
                f'the {LOGITS} alone, or record all layers'
            )
        names |= {f'{layer}.mean', spread}
    return {name: values for name, values in arrays.items() if name in names}


def _pixels(images: Images) -> np.ndarray:
    """Mean and standard deviation by channel, float32 `[2, channels]`, from counts: no float copy of the images."""
    channels = images.shape[-1]
    counts = np.zeros((channels, 256))
    for batch in consecutive_batches(images, _BATCH):
        counts += [np.bincount(batch[..., channel].ravel(), minlength=256) for channel in range(channels)]
    levels = np.arange(256) / 255
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]) ** 2).sum(1)
    return np.stack([mean, np.sqrt(variance)]).astype(np.float32)

"""Modules that bring a student's feature maps to its teachers' shapes; they train beside the student and do not ship.

After the code of CA-MKD (arXiv:2201.00007), for maps of any two sizes: there they are square and one divides the other.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.models.base import Mode
from cckd_jax.models.layers import BatchNorm

Shape = tuple[int, int, int]


class Alignments(nn.Module):
    """The student's last feature map brought to each teacher's: CA-MKD's r_k.

    Resampled to the teacher's height and width, then a 1x1 convolution with bias, batch norm and ReLU.

    Attributes:
      shapes: `(H, W, C)` of each teacher's last feature map.
    """

    shapes: tuple[Shape, ...]

    @nn.compact
    def __call__(self, features: tuple[chex.Array, ...], train: Mode = False) -> tuple[chex.Array, ...]:
        last = features[-1]
        aligned = []
        for height, width, channels in self.shapes:
            values = nn.Conv(channels, (1, 1), dtype=last.dtype)(resampled(last, height, width))
            aligned.append(nn.relu(BatchNorm(dtype=last.dtype)(values, train)))
        return tuple(aligned)


class Regressors(nn.Module):
    """The student's feature map after a stage brought to each teacher's: FitNet's convolutional regressors.

    By the sizes s of the student's and t of the teacher's: a 3x3 convolution with stride 2 where s = 2 t, a transposed
    4x4 one where 2 s = t, one of kernel 1 + s - t where t is otherwise no larger, and else a 3x3 one after resampling;
    then batch norm and ReLU.

    Attributes:
      shapes: `(H, W, C)` of each teacher's feature map after that stage.
      stage: counted from 0.
    """

    shapes: tuple[Shape, ...]
    stage: int

    @nn.compact
    def __call__(self, features: tuple[chex.Array, ...], train: Mode = False) -> tuple[chex.Array, ...]:
        maps = features[self.stage]
        regressed = [_regress(maps, *shape) for shape in self.shapes]
        return tuple(nn.relu(BatchNorm(dtype=maps.dtype)(values, train)) for values in regressed)


def resampled(maps: chex.Array, height: int, width: int) -> chex.Array:
    """Maps `[B, H, W, C]` in another size: averaged over overlapping windows where smaller, bilinear where larger.

    Both as PyTorch has them: adaptive average pooling, and interpolation between the centres of pixels.

    >>> resampled(jnp.arange(5.0).reshape(1, 1, 5, 1), 1, 2)[0, 0, :, 0].tolist()
    [1.0, 3.0]
    >>> resampled(jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1), 1, 4)[0, 0, :, 0].tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    for axis, size in ((1, height), (2, width)):
        if maps.shape[axis] != size:
            matrix = jnp.asarray(_weights(maps.shape[axis], size), maps.dtype)
            moved = jnp.tensordot(maps, matrix, (axis, 1), precision='highest')
            maps = jnp.moveaxis(moved, -1, axis)
    return maps


def _weights(source: int, target: int) -> np.ndarray:
    """What each of `target` places takes from each of `source`, float64 `[target, source]`."""
    places = np.arange(source)
    if target < source:
        starts, stops = np.arange(target) * source // target, -(-(np.arange(target) + 1) * source // target)
        inside = (places >= starts[:, None]) & (places < stops[:, None])
        return inside / inside.sum(1, keepdims=True)
    centres = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - places))


def _regress(maps: chex.Array, height: int, width: int, channels: int) -> chex.Array:
    """Called inside a compact module."""
    (_, tall, wide, _) = maps.shape
    if (tall, wide) == (2 * height, 2 * width):
        return nn.Conv(channels, (3, 3), strides=2, padding=1, dtype=maps.dtype)(maps)
    if (2 * tall, 2 * wide) == (height, width):
        return nn.ConvTranspose(channels, (4, 4), strides=(2, 2), padding='SAME', dtype=maps.dtype)(maps)
    if tall >= height and wide >= width:
        kernel = (1 + tall - height, 1 + wide - width)
        return nn.Conv(channels, kernel, padding='VALID', dtype=maps.dtype)(maps)
    return nn.Conv(channels, (3, 3), padding=1, dtype=maps.dtype)(resampled(maps, height, width))


def feature_shapes(module: nn.Module, image_shape: Shape) -> tuple[tuple[int, ...], ...]:
    """The shape of one image's feature map after each stage, without computing anything.

    >>> from cckd_jax import models
    >>> models.feature_shapes(models.create('lenet5'), (28, 28, 1))
    ((14, 14, 6), (5, 5, 16))
    """

    def maps(images: chex.Array) -> tuple[chex.Array, ...]:
        variables = module.init(jax.random.key(0), images)
        return module.apply(variables, images, method='features')

    found = jax.eval_shape(maps, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return tuple(each.shape[1:] for each in found)

"""Adapters from a student's feature maps to the shapes of its teachers'; trained beside the student, not part of it.

After the code of CA-MKD (arXiv:2201.00007), extended to maps of any two sizes: there maps are square, and one size
divides the other.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.models.base import TrainMode
from cckd_jax.models.layers import BatchNorm

Shape = tuple[int, int, int]


class Alignments(nn.Module):
    """Maps the student's last feature map to each teacher's shape: CA-MKD's r_k.

    Resampling to the teacher's height and width, then a 1x1 convolution with bias, batch norm and ReLU.

    Attributes:
      shapes: `(H, W, C)` of each teacher's last feature map.
    """

    shapes: tuple[Shape, ...]

    @nn.compact
    def __call__(self, features: tuple[chex.Array, ...], train: TrainMode | bool = False) -> tuple[chex.Array, ...]:
        last = features[-1]
        aligned = []
        for height, width, channels in self.shapes:
            values = nn.Conv(channels, (1, 1), dtype=last.dtype)(resampled(last, height, width))
            aligned.append(nn.relu(BatchNorm(dtype=last.dtype)(values, train)))
        return tuple(aligned)


class Regressors(nn.Module):
    """Maps the student's feature map after a stage to each teacher's shape: FitNet's convolutional regressors.

    With s and t the sizes of the student's and the teacher's map: a 3x3 convolution with stride 2 if s = 2 t; a
    transposed 4x4 convolution if 2 s = t; a convolution with kernel size 1 + s - t if otherwise s >= t; else resampling
    and a 3x3 convolution. Batch norm and ReLU follow.

    Attributes:
      shapes: `(H, W, C)` of each teacher's feature map after the stage.
      stage: counted from 0.
    """

    shapes: tuple[Shape, ...]
    stage: int

    @nn.compact
    def __call__(self, features: tuple[chex.Array, ...], train: TrainMode | bool = False) -> tuple[chex.Array, ...]:
        feature_map = features[self.stage]
        regressed = [_regress(feature_map, *shape) for shape in self.shapes]
        return tuple(nn.relu(BatchNorm(dtype=feature_map.dtype)(values, train)) for values in regressed)


def resampled(maps: chex.Array, height: int, width: int) -> chex.Array:
    """Resamples maps `[B, H, W, C]`: adaptive average pooling to smaller sizes, bilinear interpolation to larger ones.

    Both as in PyTorch; the interpolation is between pixel centres (`align_corners=False`).

    >>> resampled(jnp.arange(5.0).reshape(1, 1, 5, 1), 1, 2)[0, 0, :, 0].tolist()
    [1.0, 3.0]
    >>> resampled(jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1), 1, 4)[0, 0, :, 0].tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    for axis, size in ((1, height), (2, width)):
        if maps.shape[axis] != size:
            matrix = jnp.asarray(_resampling_matrix(maps.shape[axis], size), maps.dtype)
            product = jnp.tensordot(maps, matrix, (axis, 1), precision='highest')
            maps = jnp.moveaxis(product, -1, axis)
    return maps


def _resampling_matrix(source: int, target: int) -> np.ndarray:
    """Weights of the source pixels in each target pixel, float64 `[target, source]`."""
    positions = np.arange(source)
    if target < source:
        starts, stops = np.arange(target) * source // target, -(-(np.arange(target) + 1) * source // target)
        inside = (positions >= starts[:, None]) & (positions < stops[:, None])
        return inside / inside.sum(1, keepdims=True)
    centres = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - positions))


def _regress(maps: chex.Array, height: int, width: int, channels: int) -> chex.Array:
    """The regressor to one shape; to be called inside a compact module."""
    (_, own_height, own_width, _) = maps.shape
    if (own_height, own_width) == (2 * height, 2 * width):
        return nn.Conv(channels, (3, 3), strides=2, padding=1, dtype=maps.dtype)(maps)
    if (2 * own_height, 2 * own_width) == (height, width):
        return nn.ConvTranspose(channels, (4, 4), strides=(2, 2), padding='SAME', dtype=maps.dtype)(maps)
    if own_height >= height and own_width >= width:
        kernel = (1 + own_height - height, 1 + own_width - width)
        return nn.Conv(channels, kernel, padding='VALID', dtype=maps.dtype)(maps)
    return nn.Conv(channels, (3, 3), padding=1, dtype=maps.dtype)(resampled(maps, height, width))


def feature_shapes(module: nn.Module, image_shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The shape `(H, W, C)` of the feature map after each stage; only shapes are evaluated.

    >>> from cckd_jax import models
    >>> models.feature_shapes(models.create('lenet5'), (28, 28, 1))
    ((14, 14, 6), (5, 5, 16))
    """

    def features(images: chex.Array) -> tuple[chex.Array, ...]:
        variables = module.init(jax.random.key(0), images)
        return module.apply(variables, images, method='features')

    feature_maps = jax.eval_shape(features, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return tuple(feature_map.shape[1:] for feature_map in feature_maps)

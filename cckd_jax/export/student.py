"""A trained student: images to logits and classes, with its preprocessing."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax import models
from cckd_jax.data import to_unit
from cckd_jax.errors import InputError

PREPROCESSING = 'float32(pixels) / 255'

_LARGEST_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Description:
    """What a student is, without its weights.

    Attributes:
      model: name or import path of the network.
      options: its options, such as `width`.
      dataset: name of the data set that it was trained on.
      class_names: C names.
      image_shape: `(H, W, C)`.
    """

    model: str
    options: Mapping[str, Any]
    dataset: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]

    def create(self) -> nn.Module:
        """The network, which computes in float32.

        Raises:
          InputError: there is no such network, or it has no such option.
        """
        return models.create(self.model, len(self.class_names), **self.options)


class Student:
    """A classifier of images; `student(images)` returns logits.

    It takes batches of any size. A batch is padded to a power of two up to 256, or split, so that few programs are
    compiled.

    >>> description = Description('lenet5_half', {}, 'digits', tuple('0123456789'), (28, 28, 1))
    >>> variables = models.init(description.create(), jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    >>> student = Student(description, variables)
    >>> student(np.zeros((3, 28, 28, 1), np.uint8)).shape
    (3, 10)

    Attributes:
      description: what the student is.
      network: the Flax module with its variables, which takes float images in [0, 1].
    """

    def __init__(self, description: Description, variables: Mapping[str, Any]):
        self.description = description
        self.network = models.Network(description.create(), jax.device_put(dict(variables)))
        self._logits = jax.jit(self.forward)

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names, in the order of the logits."""
        return self.description.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)`."""
        return self.description.image_shape

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits of images.

        Args:
          images: uint8 `[B, H, W, C]`, or float in [0, 1].

        Returns:
          float32 `[B, C]`.

        Raises:
          InputError: shape, dtype or values of the images are wrong.
        """
        images = self._checked(images)
        batches = [images[start : start + _LARGEST_BATCH] for start in range(0, len(images), _LARGEST_BATCH)]
        logits = [np.empty((0, len(self.class_names)), np.float32), *map(self._padded_logits, batches)]
        return np.concatenate(logits)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The class with the largest logit, int `[B]`; `class_names` has the names. Arguments as in `__call__`."""
        return self(images).argmax(-1)

    def forward(self, variables: Mapping[str, Any], images: chex.Array) -> chex.Array:
        """Logits as a pure function, which JAX can trace: uint8 pixels are scaled, floats are not."""
        unit = to_unit(images) if images.dtype == jnp.uint8 else images
        return models.Network(self.network.module, variables)(unit).astype(jnp.float32)

    def forward_any_batch(self, variables: Mapping[str, Any], images: chex.Array) -> chex.Array:
        """`forward` for a batch of symbolic size, of which a user's module may ask the length."""
        if isinstance(self.network.module, models.Classifier):
            return self.forward(variables, images)
        return jax.vmap(lambda image: self.forward(variables, image[None])[0])(images)

    def _padded_logits(self, images: np.ndarray) -> np.ndarray:
        count = len(images)
        size = 1 << (count - 1).bit_length()
        padded = np.pad(images, ((0, size - count), (0, 0), (0, 0), (0, 0)))
        return np.asarray(self._logits(self.network.variables, padded))[:count]

    def _checked(self, images: np.ndarray) -> np.ndarray:
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != self.image_shape:
            (height, width, channels) = self.image_shape
            raise InputError(f'images must be [B, {height}, {width}, {channels}], not {list(images.shape)}')
        if images.dtype == np.uint8:
            return images
        if not np.issubdtype(images.dtype, np.floating) and images.dtype != jnp.bfloat16:
            raise InputError(f'images must be uint8, or float in [0, 1], not {images.dtype}')
        images = images.astype(np.float32)
        if not ((images >= 0) & (images <= 1)).all():
            raise InputError('float images must be in [0, 1]; divide pixels by 255, or give uint8')
        return images

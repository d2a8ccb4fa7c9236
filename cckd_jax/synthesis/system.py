"""What a system that makes a transfer set receives, returns and declares."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from cckd_jax.models import Network
from cckd_jax.synthesis.partial import Partial

RealData = Literal['none', 'statistics', 'samples', 'validation', 'all']


class Problem(NamedTuple):
    """What a system makes samples from.

    Attributes:
      teacher: the trained network.
      image_shape: `(H, W, C)` of its images.
      num_classes: number of its classes.
      settings: values of the system's settings, with `images` and `steps` already scaled.
      key: typed PRNG key.
      partial: work that an interrupted run has done.
    """

    teacher: Network
    image_shape: tuple[int, int, int]
    num_classes: int
    settings: Mapping[str, Any]
    key: jax.Array
    partial: Partial


class Samples(NamedTuple):
    """What a system makes.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: int32 `[N]`, the class that each image was made for; None if it was made for none.
      targets: float32 `[N, C]`, the distribution that each image was made for; None if it was made for none.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    targets: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class System:
    """One way to make a transfer set.

    Attributes:
      generate: makes the samples.
      defaults: names and values of its settings under `config.transfer`; `images` is the number of samples.
      real_data: which real data it uses, apart from those that trained the teacher.
      labels: the sources of labels that it offers; the first is the default.
      check: raises InputError for a teacher's module that the system cannot use, or for images of a shape.
    """

    generate: Callable[[Problem], Samples]
    defaults: Mapping[str, Any]
    real_data: RealData = 'none'
    labels: tuple[str, ...] = ('teacher',)
    check: Callable[[nn.Module, tuple[int, int, int]], None] = lambda module, image_shape: None

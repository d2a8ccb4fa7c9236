"""What a system that makes a transfer set receives, returns and declares."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from cckd_jax.data import Split
from cckd_jax.models import Network
from cckd_jax.synthesis.partial import Partial

RealData = Literal['none', 'statistics', 'samples', 'validation', 'all']

# What each value of `RealData` stands for.
REAL_DATA: Mapping[str, str] = {
    'none': 'no real data',
    'statistics': 'statistics of the training set',
    'samples': 'a few labelled training samples',
    'validation': 'labelled validation samples',
    'all': 'the whole training set',
}


class Request(NamedTuple):
    """What a run asks of a system, before the teacher is trained.

    Attributes:
      module: of the teacher.
      train: the training set.
      num_classes: number of its classes.
      settings: values of the system's settings, with `images` and `steps` already scaled.
    """

    module: nn.Module
    train: Split
    num_classes: int
    settings: Mapping[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of the images."""
        (height, width, channels) = self.train.images.shape[1:]
        return height, width, channels


class Preparation(NamedTuple):
    """What a system reads real data from.

    Attributes:
      teacher: the trained network.
      digest: of its weights.
      train: the training set.
      num_classes: number of its classes.
      settings: values of the system's settings.
      files: paths by the name of the setting that gives them, or None.
      key: typed PRNG key.
      workdir: the run directory.
    """

    teacher: Network
    digest: str
    train: Split
    num_classes: int
    settings: Mapping[str, Any]
    files: Mapping[str, Path | None]
    key: jax.Array
    workdir: Path


class Problem(NamedTuple):
    """What a system makes samples from.

    Attributes:
      teacher: the trained network.
      image_shape: `(H, W, C)` of its images.
      num_classes: number of its classes.
      settings: values of the system's settings, with `images` and `steps` already scaled.
      key: typed PRNG key.
      partial: work that an interrupted run has done.
      real: arrays from real data, which the system prepared; none for most systems.
    """

    teacher: Network
    image_shape: tuple[int, int, int]
    num_classes: int
    settings: Mapping[str, Any]
    key: jax.Array
    partial: Partial
    real: Mapping[str, np.ndarray] = MappingProxyType({})


class Samples(NamedTuple):
    """What a system makes.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: int32 `[N]`, the class that each image was made for; None if it was made for none.
      targets: float32 `[N, C]`, the distribution that each image was made for; None if it was made for none.
      logits: float32 `[N, C]`, outputs of a reference that teaches in place of the teacher; None for the teacher's.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    targets: np.ndarray | None = None
    logits: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class System:
    """One way to make a transfer set.

    Attributes:
      generate: makes the samples.
      defaults: names and values of its settings under `config.transfer`; `images` is the number of samples.
      real_data: which real data it uses, apart from those that trained the teacher.
      labels: the sources of labels that it offers; the first is the default.
      check: raises InputError for a request that the system cannot meet.
      prepare: reads what the system needs of real data, before `generate`.
      own_outputs: whether a reference of the system teaches in place of the teacher.
      files: settings that name files. Their content, which `prepare` returns, decides about the samples.
    """

    generate: Callable[[Problem], Samples]
    defaults: Mapping[str, Any]
    real_data: RealData = 'none'
    labels: tuple[str, ...] = ('teacher',)
    check: Callable[[Request], None] = lambda request: None
    prepare: Callable[[Preparation], Mapping[str, np.ndarray]] = lambda preparation: {}
    own_outputs: bool = False
    files: tuple[str, ...] = ()

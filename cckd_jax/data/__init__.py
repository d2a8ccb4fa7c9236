"""Data sets by name as uint8 arrays, the order of an epoch, and its batches."""

from cckd_jax.data.augment import Augment as Augment, augmentation as augmentation
from cckd_jax.data.batches import PADDING as PADDING, epoch_batches as epoch_batches, to_unit as to_unit
from cckd_jax.data.datasets import Dataset as Dataset, load as load
from cckd_jax.data.noise import shuffled_labels as shuffled_labels
from cckd_jax.data.split import Split as Split

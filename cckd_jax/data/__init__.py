"""Data sets by name as uint8 arrays in memory or on the disk, the order of an epoch, and its batches."""

from cckd_jax.data.augment import Augment as Augment, augmentation as augmentation
from cckd_jax.data.batches import PADDING as PADDING, epoch_batches as epoch_batches, to_unit as to_unit
from cckd_jax.data.datasets import Dataset as Dataset, load as load, prepared_digits as prepared_digits
from cckd_jax.data.noise import shuffled_labels as shuffled_labels
from cckd_jax.data.split import Split as Split
from cckd_jax.data.stored import Images as Images, StoredImages as StoredImages
from cckd_jax.data.streaming import consecutive_batches as consecutive_batches, read_batches as read_batches

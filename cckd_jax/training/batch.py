"""What a step reads of one batch: the examples, their keys, and what the teachers say about them."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.data import PADDING, to_unit
from cckd_jax.methods import Batch, Method
from cckd_jax.models import Network
from cckd_jax.training.state import TrainData


class StreamedRows(NamedTuple):
    """Rows of a training set whose images are not on the devices.

    Attributes:
      indices: int32 `[..., B]`; -1 pads.
      images: uint8 `[..., B, H, W, C]`.
    """

    indices: chex.Array
    images: chex.Array


# What a step receives of a batch: indices int32 `[B]`, or with their images.
Rows = jax.Array | np.ndarray | StreamedRows


def select(rows: Rows, positions: chex.Array) -> Rows:
    """The rows at these positions, int32 `[...]` into `[B]`, of NumPy or of JAX; -1 pads.

    >>> select(np.array([7, 5, 3]), np.array([2, 0, -1])).tolist()
    [3, 7, -1]
    """
    selected = jax.tree.map(lambda values: values[positions.clip(0)], rows)
    where = np.where if isinstance(positions, np.ndarray) else jnp.where
    pad = lambda indices: where(positions < 0, np.int32(PADDING), indices)
    if isinstance(selected, StreamedRows):
        return selected._replace(indices=pad(selected.indices))
    return pad(selected)


def gather(data: TrainData, rows: Rows) -> Batch:
    """One device's slice of a batch.

    Args:
      data: the training set; its images are read unless the rows bring theirs.
      rows: `[B]`; the index -1 pads.
    """
    assert (data.images is None) == isinstance(rows, StreamedRows), 'images come from the data, or with the rows'
    (indices, images) = rows if isinstance(rows, StreamedRows) else (rows, None)
    indices = jnp.asarray(indices)
    valid = indices >= 0
    index = jnp.where(valid, indices, 0)
    take = lambda values: jnp.take(values, index, axis=0, mode='clip')
    return Batch(
        image=to_unit(take(data.images) if images is None else images),
        label=take(data.labels),
        index=jnp.where(valid, indices, len(data.labels)),
        valid=valid,
        aux=jax.tree.map(take, data.aux),
    )


def example_keys(key: chex.PRNGKey, epoch: chex.Array, index: chex.Array) -> chex.Array:
    """One key per example `[B]`, a function of (key, epoch, index)."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, epoch), index)


def teacher_outputs(
    method: Method, teachers: Sequence[Network], images: chex.Array, names: Collection[str]
) -> dict[str, Any]:
    """Outputs of the teachers for images: `teacher_logits` `[B, K, C]`, `teacher_features` as a tuple of maps.

    Args:
      method: its `matched_features` name the stage of the feature maps.
      teachers: K networks.
      images: float `[B, H, W, C]`.
      names: which of the two to compute.
    """
    outputs: dict[str, Any] = {}
    if 'teacher_logits' in names:
        outputs['teacher_logits'] = jnp.stack([teacher(images) for teacher in teachers], axis=1)
    if 'teacher_features' in names:
        if method.matched_features is None:
            raise ValueError('teacher_features are requested, and the method matches no features')
        stage = method.matched_features.stage
        outputs['teacher_features'] = tuple(teacher.features(images)[stage] for teacher in teachers)
    return outputs

"""Linear bounds of every value of a feature map, each from its receptive field in the input.

Propagated back to the whole input, one value of a feature map costs as much as a logit. It depends on a small window of
each earlier map, so the backward pass goes through windows, those of many positions at a time.
"""

import dataclasses
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from cckd_jax.robustness.bounds.operations import POINTWISE, AffineOp, Box, Operation, ReceptiveField, concretize


def receptive_fields(operations: tuple[Operation, ...]) -> list[ReceptiveField] | None:
    """The receptive field of the last output before each operation and after the last; None without feature maps.

    >>> from cckd_jax.robustness.bounds.operations import ReluOp
    >>> receptive_fields((ReluOp(),))
    [ReceptiveField(size=1, stride=1, offset=0), ReceptiveField(size=1, stride=1, offset=0)]
    """
    fields = [POINTWISE]
    for operation in reversed(operations):
        if operation.receptive_field is None:
            return None
        fields.append(fields[-1].through(operation.receptive_field))
    return fields[::-1]


def window_bounds(
    operations: tuple[Operation, ...], boxes: list[Box], fields: list[ReceptiveField], max_coefficients: int
) -> Box:
    """The box of the last operation's outputs `[B, H, W, C]`, by linear bounds in terms of the input.

    Args:
      operations: on feature maps.
      boxes: before each of them and after the last.
      fields: their `receptive_fields`.
      max_coefficients: number of coefficients to hold at a time.
    """
    (batch, rows, columns, channels) = boxes[-1].lower.shape
    crops = [_crop(box, field, rows, columns) for box, field in zip(boxes[:-1], fields[:-1], strict=True)]
    identity = jnp.eye(channels, dtype=jnp.float32).reshape(1, channels, 1, 1, channels)
    both_signs = jnp.concatenate([identity, -identity], 1)
    both_signs = jnp.broadcast_to(both_signs, (batch, 2 * channels, 1, 1, channels))

    def bound_position(position: chex.Array) -> Box:
        (coefficients, constants) = (both_signs, jnp.zeros(both_signs.shape[:2], both_signs.dtype))
        for operation, crop in reversed(list(zip(operations, crops, strict=True))):
            (box, inside) = crop(position)
            (coefficients, more) = _without_padding(operation).backward(coefficients, box)
            # Beyond the edge of the map there are no inputs, only zeros.
            coefficients *= inside.reshape((1,) * (coefficients.ndim - 3) + inside.shape)
            constants += more
        minimum = concretize(coefficients, constants, box)
        return Box(minimum[:, :channels], -minimum[:, channels:])

    values_per_pixel = lambda box: box.lower.size // (box.lower.shape[-3] * box.lower.shape[-2])
    largest = max(values_per_pixel(box) * field.size**2 for box, field in zip(boxes[:-1], fields[:-1], strict=True))
    at_a_time = max(1, max_coefficients // (2 * channels * largest))
    positions = jnp.stack(jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing='ij'), -1).reshape(-1, 2)
    bounds = jax.lax.map(bound_position, positions, batch_size=min(at_a_time, len(positions)))
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1).reshape(batch, rows, columns, channels), bounds)


def _without_padding(operation: Operation) -> Operation:
    if isinstance(operation, AffineOp) and operation.unpadded is not None:
        return dataclasses.replace(operation, forward=operation.unpadded)
    return operation


def _crop(box: Box, field: ReceptiveField, rows: int, columns: int) -> Callable[[chex.Array], tuple[Box, chex.Array]]:
    """From a position `[2]` to its window of the box, and a mask `[size, size, 1]` of what is inside the map."""
    (height, width) = box.lower.shape[-3:-1]
    before = max(0, -field.offset)
    after = [
        max(0, field.stride * (count - 1) + field.offset + field.size - extent)
        for count, extent in ((rows, height), (columns, width))
    ]
    padding = [(before, after[0]), (before, after[1]), (0, 0)]
    pad = lambda values: jnp.pad(values, [(0, 0)] * (values.ndim - 3) + padding)
    padded, inside = jax.tree.map(pad, box), pad(jnp.ones((height, width, 1), jnp.float32))

    def crop(position: chex.Array) -> tuple[Box, chex.Array]:
        start = field.stride * position + field.offset + before

        def cut(values: chex.Array) -> chex.Array:
            for axis in (0, 1):
                values = jax.lax.dynamic_slice_in_dim(values, start[axis], field.size, values.ndim - 3 + axis)
            return values

        return jax.tree.map(cut, padded), cut(inside)

    return crop

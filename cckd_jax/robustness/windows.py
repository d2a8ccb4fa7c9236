"""Linear bounds of every value of a feature map, each from the patch of the input that it depends on.

Back to the whole input, one value of a map costs as much as a logit. What it depends on is a small window of every map
before it, so the backward pass is taken through windows, those of many positions at a time.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from cckd_jax.robustness.operations import Affine, Box, Operation, concretised


class Field(NamedTuple):
    """The square that position (i, j) of a map looks at in an earlier one, from row `i * stride + offset` on."""

    stride: int
    offset: int
    size: int


def fields(operations: tuple[Operation, ...]) -> list[Field] | None:
    """The field in the input of each operation, and in the last output; None where one of them is not of maps.

    >>> from cckd_jax.robustness.operations import Relu
    >>> fields((Relu(), Relu()))
    [Field(stride=1, offset=0, size=1), Field(stride=1, offset=0, size=1), Field(stride=1, offset=0, size=1)]
    """
    found = [Field(1, 0, 1)]
    for operation in reversed(operations):
        if operation.reach is None:
            return None
        (stride, offset, size) = found[-1]
        reach = operation.reach
        found.append(
            Field(stride * reach.stride, offset * reach.stride - reach.padding, (size - 1) * reach.stride + reach.size)
        )
    return found[::-1]


def window_bounds(operations: tuple[Operation, ...], boxes: list[Box], looks: list[Field], held: int) -> Box:
    """The box of the last operation's outputs `[B, H, W, C]`, through linear bounds back to the input.

    Args:
      operations: of maps.
      boxes: before each of them and after the last.
      looks: their `fields`.
      held: how many coefficients to hold at a time.
    """
    (batch, rows, columns, channels) = boxes[-1].lower.shape
    crops = [_cropped(box, field, rows, columns) for box, field in zip(boxes[:-1], looks[:-1], strict=True)]
    each = jnp.eye(channels).reshape(1, channels, 1, 1, channels)
    both = jnp.broadcast_to(jnp.concatenate([each, -each], 1), (batch, 2 * channels, 1, 1, channels))

    def at(position: chex.Array) -> Box:
        (coefficients, constants) = (both, jnp.zeros(both.shape[:2]))
        for operation, crop in reversed(list(zip(operations, crops, strict=True))):
            (box, inside) = crop(position)
            (coefficients, more) = _windowed(operation).backward(coefficients, box)
            # Beyond the edge there is no value to look at, only zeros.
            coefficients *= inside.reshape((1,) * (coefficients.ndim - 3) + inside.shape)
            constants += more
        lowest = concretised(coefficients, constants, box)
        return Box(lowest[:, :channels], -lowest[:, channels:])

    along = lambda box: box.lower.size // (box.lower.shape[-3] * box.lower.shape[-2])
    largest = max(along(box) * look.size**2 for box, look in zip(boxes[:-1], looks[:-1], strict=True))
    together = max(1, held // (2 * channels * largest))
    positions = jnp.stack(jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing='ij'), -1).reshape(-1, 2)
    found = jax.lax.map(at, positions, batch_size=min(together, len(positions)))
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1).reshape(batch, rows, columns, channels), found)


def _windowed(operation: Operation) -> Operation:
    """The same on a window, around which nothing is padded."""
    if isinstance(operation, Affine) and operation.unpadded is not None:
        return dataclasses.replace(operation, forward=operation.unpadded)
    return operation


def _cropped(box: Box, field: Field, rows: int, columns: int) -> Callable[[chex.Array], tuple[Box, chex.Array]]:
    """`position [2]` to its window of the box, and where that is inside of the map, `[size, size, 1]`."""
    (height, width) = box.lower.shape[-3:-1]
    before = max(0, -field.offset)
    after = [
        max(0, field.stride * (count - 1) + field.offset + field.size - extent)
        for count, extent in ((rows, height), (columns, width))
    ]
    padding = [(before, after[0]), (before, after[1]), (0, 0)]
    pad = lambda values: jnp.pad(values, [(0, 0)] * (values.ndim - 3) + padding)
    padded, inside = jax.tree.map(pad, box), pad(jnp.ones((height, width, 1)))

    def crop(position: chex.Array) -> tuple[Box, chex.Array]:
        start = field.stride * position + field.offset + before

        def cut(values: chex.Array) -> Any:
            for axis in (0, 1):
                values = jax.lax.dynamic_slice_in_dim(values, start[axis], field.size, values.ndim - 3 + axis)
            return values

        return jax.tree.map(cut, padded), cut(inside)

    return crop

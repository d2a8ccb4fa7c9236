"""Bounds on linear functions of a network's outputs over boxes of inputs: IBP, CROWN-IBP and CROWN."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from cckd_jax.robustness.bounds.operations import Box, Operation, backward_chain, concretize, interval_boxes
from cckd_jax.robustness.bounds.receptive_fields import receptive_fields, window_bounds

Operations = tuple[Operation, ...]
Specification = Callable[[chex.Array], chex.Array]


class Propagation(NamedTuple):
    """A bounding method.

    Attributes:
      tighten: whether boxes inside the network are tightened with linear bounds.
      linear: whether outputs are bounded by linear functions of the network's inputs, or only of the inputs of the last
        affine layers.
    """

    tighten: bool
    linear: bool


PROPAGATIONS: Mapping[str, Propagation] = {
    'ibp': Propagation(tighten=False, linear=False),
    'crown_ibp': Propagation(tighten=False, linear=True),
    'crown': Propagation(tighten=True, linear=True),
}

# Number of coefficients in memory at a time: 32 MiB of float32. The backward step of an operation holds a few copies.
_MAX_COEFFICIENTS = 2**23


class BoundedOperations(NamedTuple):
    """Operations with the box before each of them and after the last."""

    operations: Operations
    boxes: list[Box]


def bound_operations(operations: Operations, box: Box, propagation: Propagation) -> BoundedOperations:
    """Bounds every value inside a network."""
    boxes = interval_boxes(operations, box)
    if propagation.tighten:
        for index in range(1, len(operations)):
            if operations[index - 1].dense and not _is_elementwise_affine(operations[: index - 1]):
                tight = _bound_last_output(BoundedOperations(operations[:index], boxes[: index + 1]))
                boxes[index:] = interval_boxes(operations[index:], boxes[index].intersect(tight))
    return BoundedOperations(operations, boxes)


def bound_linear_functions(
    bounded: BoundedOperations, specification: Specification, count: int, linear: bool = True
) -> Box:
    r"""Bounds on $\langle a_s, output \rangle$ for each of `count` specifications s, `[B, count]`.

    Args:
      bounded: operations with their boxes.
      specification: indices `[S]` to coefficients a `[B, S, *outputs]`.
      count: number of specifications, which are processed in as many chunks as memory requires.
      linear: whether to bound by linear functions of the inputs, intersected with the bounds from the last affine
        layers; otherwise only the latter.
    """

    def bound(indices: chex.Array) -> Box:
        coefficients = specification(indices)
        both_signs = jnp.concatenate([coefficients, -coefficients], 1)
        minimum = _minimum(bounded, both_signs, _last_affine(bounded.operations))
        if linear:
            minimum = jnp.maximum(minimum, _minimum(bounded, both_signs, 0))
        return box_from_minima(minimum)

    return map_in_chunks(bound, count, bounded.boxes)


def box_from_minima(minimum: chex.Array) -> Box:
    """The box of S functions from the minima `[B, 2 S]` of the functions and of their negatives."""
    (lower, negative) = jnp.split(minimum, 2, axis=1)
    return Box(lower, jnp.maximum(lower, -negative))


def map_in_chunks(function: Callable[[chex.Array], Box], count: int, boxes: list[Box]) -> Box:
    """Applies `function(indices [S]) -> Box [B, S]` to all of `count` indices, in chunks that fit in memory.

    Args:
      function: whose memory is S times that of the largest box, for both signs.
      count: number of indices.
      boxes: through which `function` propagates.
    """
    size = max(1, _MAX_COEFFICIENTS // (2 * max(box.lower.size for box in boxes)))
    if size >= count:
        return function(jnp.arange(count))
    chunks = -(-count // size)
    size = -(-count // chunks)
    indices = jnp.arange(chunks * size).reshape(chunks, size)
    join = lambda values: jnp.moveaxis(values, 0, 1).reshape(values.shape[1], -1)[:, :count]
    return jax.tree.map(join, jax.lax.map(function, indices))


def _bound_last_output(bounded: BoundedOperations) -> Box:
    """Linear bounds of every value of the last output."""
    (before, after) = (bounded.boxes[0], bounded.boxes[-1])
    fields = receptive_fields(bounded.operations)
    if fields is not None and fields[0].size < before.lower.shape[1]:
        return window_bounds(bounded.operations, bounded.boxes, fields, _MAX_COEFFICIENTS)
    flat = bound_linear_functions(bounded, *_identity(after))
    return jax.tree.map(lambda values, like: values.reshape(like.shape), flat, after)


def _is_elementwise_affine(operations: Operations) -> bool:
    """Whether each value depends on one input, so that the box after the next affine layer is exact."""
    return all(operation.linear and not operation.dense for operation in operations)


def _minimum(bounded: BoundedOperations, coefficients: chex.Array, start: int) -> chex.Array:
    operations, boxes = bounded.operations[start:], bounded.boxes[start:]
    return concretize(*backward_chain(operations, boxes, coefficients), boxes[0])


def _last_affine(operations: Operations) -> int:
    """Index of the first of the affine operations at the end of the network."""
    start = len(operations)
    while start > 0 and operations[start - 1].linear:
        start -= 1
    return start


def _identity(box: Box) -> tuple[Specification, int]:
    (batch, *shape) = box.lower.shape
    count = box.lower[0].size

    def specification(indices: chex.Array) -> chex.Array:
        rows = jax.nn.one_hot(indices, count, dtype=jnp.float32).reshape(1, -1, *shape)
        return jnp.broadcast_to(rows, (batch, *rows.shape[1:]))

    return specification, count

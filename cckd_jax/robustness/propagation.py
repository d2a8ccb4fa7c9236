"""Bounds on linear functions of a network's outputs, over boxes of inputs: intervals, CROWN-IBP and CROWN."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from cckd_jax.robustness.operations import Box, Operation, backward, boxes, concretised
from cckd_jax.robustness.windows import fields, window_bounds

Operations = tuple[Operation, ...]
Specification = Callable[[chex.Array], chex.Array]


class Propagation(NamedTuple):
    """A way to bound.

    Attributes:
      tighten: whether boxes inside the network come from linear bounds as well.
      linear: whether outputs are bounded by linear functions of the inputs; else of what enters the last affine layers.
    """

    tighten: bool
    linear: bool


PROPAGATIONS: Mapping[str, Propagation] = {
    'ibp': Propagation(tighten=False, linear=False),
    'crown_ibp': Propagation(tighten=False, linear=True),
    'crown': Propagation(tighten=True, linear=True),
}

# Coefficients held at a time, in float32: 32 MiB, of which an operation's backward step holds a few copies.
_HELD = 2**23


class Bounded(NamedTuple):
    """Operations with the box before each and after the last."""

    operations: Operations
    boxes: list[Box]


def bounded(operations: Operations, box: Box, propagation: Propagation) -> Bounded:
    """Bounds every value inside a network."""
    found = boxes(operations, box)
    if propagation.tighten:
        for place in range(1, len(operations)):
            if operations[place - 1].mixes and not _from_one(operations[: place - 1]):
                box = found[place].meet(_inside(Bounded(operations[:place], found[: place + 1])))
                found[place:] = boxes(operations[place:], box)
    return Bounded(operations, found)


def _inside(part: Bounded) -> Box:
    """Linear bounds of every value of the last output."""
    looks = fields(part.operations)
    if looks is not None and looks[0].size < part.boxes[0].lower.shape[1]:
        return window_bounds(part.operations, part.boxes, looks, _HELD)
    return _reshaped(functionals(part, *_identity(part.boxes[-1])), part.boxes[-1])


def _from_one(operations: Operations) -> bool:
    """Whether each value stands for one input, so that the box after the next affine layer is exact."""
    return all(operation.linear and not operation.mixes for operation in operations)


def functionals(part: Bounded, specification: Specification, count: int, linear: bool = True) -> Box:
    r"""Bounds on $\langle a_s, output \rangle$ for each of `count` specifications s, `[B, count]`.

    Args:
      part: operations with their boxes.
      specification: indices `[S]` to coefficients a `[B, S, *outputs]`.
      count: how many there are; they are taken in as many chunks as memory asks for.
      linear: back to the inputs, and met with what the last affine layers alone give; else the latter alone.
    """

    def some(indices: chex.Array) -> Box:
        coefficients = specification(indices)
        both = jnp.concatenate([coefficients, -coefficients], 1)
        lowest = _lowest(part, both, _last_affine(part.operations))
        if linear:
            lowest = jnp.maximum(lowest, _lowest(part, both, 0))
        (lower, negative) = jnp.split(lowest, 2, axis=1)
        return Box(lower, jnp.maximum(lower, -negative))

    return in_chunks(some, count, part.boxes)


def _lowest(part: Bounded, coefficients: chex.Array, floor: int) -> chex.Array:
    return concretised(*backward(part.operations[floor:], part.boxes[floor:], coefficients), part.boxes[floor])


def in_chunks(function: Callable[[chex.Array], Box], count: int, held: list[Box]) -> Box:
    """`function(indices [S]) -> Box [B, S]` for all of `count`, at a time as many as `_HELD` allows."""
    size = max(1, _HELD // (2 * max(box.lower.size for box in held)))
    if size >= count:
        return function(jnp.arange(count))
    chunks = -(-count // size)
    size = -(-count // chunks)
    indices = jnp.arange(chunks * size).reshape(chunks, size)
    together = lambda each: jnp.moveaxis(each, 0, 1).reshape(each.shape[1], -1)[:, :count]
    return jax.tree.map(together, jax.lax.map(function, indices))


def _last_affine(operations: Operations) -> int:
    floor = len(operations)
    while floor > 0 and operations[floor - 1].linear:
        floor -= 1
    return floor


def _identity(box: Box) -> tuple[Specification, int]:
    (batch, *shape) = box.lower.shape
    count = box.lower[0].size

    def specification(indices: chex.Array) -> chex.Array:
        rows = jax.nn.one_hot(indices, count).reshape(1, -1, *shape)
        return jnp.broadcast_to(rows, (batch, *rows.shape[1:]))

    return specification, count


def _reshaped(flat: Box, like: Box) -> Box:
    return jax.tree.map(lambda each, other: each.reshape(other.shape), flat, like)

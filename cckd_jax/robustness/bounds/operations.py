"""The operations that networks consist of, each with its interval arithmetic and its linear relaxation.

An operation maps `[B, ...]` to `[B, ...]`. Forwards, it propagates a box, the range of every value. Backwards, it
propagates linear bounds: coefficients on its outputs become coefficients on its inputs and constants, such that
everywhere in the box the linear function of the inputs is at most that of the outputs. All bounds hold in exact
arithmetic; float32 rounds them by parts in a million.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp


class Box(NamedTuple):
    """Ranges of values: `lower <= value <= upper`, both `[B, ...]`."""

    lower: chex.Array
    upper: chex.Array

    def intersect(self, other: 'Box') -> 'Box':
        """The intersection, which rounding never makes empty."""
        lower = jnp.maximum(self.lower, other.lower)
        return Box(lower, jnp.maximum(lower, jnp.minimum(self.upper, other.upper)))

    def plus(self, other: 'Box') -> 'Box':
        """The range of sums."""
        return Box(self.lower + other.lower, self.upper + other.upper)


class ReceptiveField(NamedTuple):
    """The rows (and columns alike) that row i of an output depends on: `size` of them, from `i * stride + offset`."""

    size: int
    stride: int = 1
    offset: int = 0

    def through(self, operation: 'ReceptiveField') -> 'ReceptiveField':
        """This field, in the outputs of an operation, as a field in the operation's inputs.

        >>> ReceptiveField(size=3, stride=2, offset=-1).through(ReceptiveField(size=3, offset=-1))
        ReceptiveField(size=5, stride=2, offset=-2)
        """
        return ReceptiveField(
            size=(self.size - 1) * operation.stride + operation.size,
            stride=self.stride * operation.stride,
            offset=self.offset * operation.stride + operation.offset,
        )


POINTWISE = ReceptiveField(1)


class Operation(Protocol):
    """The interface that `propagation` expects.

    Attributes:
      dense: whether an output depends on several inputs through weights, so that its box ignores their dependence.
      linear: whether the operation is affine, so that its backward step is exact.
      receptive_field: for an operation from feature maps to feature maps, whose rows and columns are the two axes
        before the last; None for others.
    """

    @property
    def dense(self) -> bool: ...
    @property
    def linear(self) -> bool: ...
    @property
    def receptive_field(self) -> ReceptiveField | None: ...

    def interval(self, box: Box) -> Box:
        """The box of the outputs."""
        ...

    def backward(self, coefficients: chex.Array, box: Box) -> tuple[chex.Array, chex.Array]:
        """From `[B, S, *outputs]` and the inputs' box to `[B, S, *inputs]` and constants `[B, S]`."""
        ...


# Intervals grow with every layer and would overflow float32; no activation is as large as this.
_MAX_VALUE = 1e30


@dataclasses.dataclass(frozen=True)
class AffineOp:
    r"""$y = Wx + b$, without materialising W.

    Attributes:
      forward: `x -> Wx + b`, for any number of rows.
      magnitude: `r -> |W| r`.
      dense: False if every output has one input.
      linear: True.
      receptive_field: for feature maps.
      unpadded: `forward` without its padding, if it has any.
    """

    forward: Callable[[chex.Array], chex.Array]
    magnitude: Callable[[chex.Array], chex.Array]
    dense: bool = True
    linear: bool = True
    receptive_field: ReceptiveField | None = None
    unpadded: Callable[[chex.Array], chex.Array] | None = None

    def interval(self, box: Box) -> Box:
        middle = self.forward((box.lower + box.upper) / 2)
        radius = self.magnitude((box.upper - box.lower) / 2)
        return Box(*(jnp.clip(bound, -_MAX_VALUE, _MAX_VALUE) for bound in (middle - radius, middle + radius)))

    def backward(self, coefficients: chex.Array, box: Box) -> tuple[chex.Array, chex.Array]:
        (batch, count) = coefficients.shape[:2]
        zeros = jnp.zeros((batch * count, *box.lower.shape[1:]), box.lower.dtype)
        # The map is affine: its derivative at 0 is W, and the pullback is the transpose of W.
        (_, transpose) = jax.vjp(self.forward, zeros)
        (pulled,) = transpose(coefficients.reshape(batch * count, *coefficients.shape[2:]))
        bias = self.forward(zeros[:1])[None]
        return pulled.reshape(batch, count, *box.lower.shape[1:]), _sum_outputs(coefficients * bias)


@dataclasses.dataclass(frozen=True)
class ReluOp:
    r"""$y = \max(x, 0)$.

    If the sign is undecided, the upper line is the chord, and the lower line is $y \ge x$ or $y \ge 0$, whichever
    leaves the smaller area (CROWN's adaptive lower bound, arXiv:1811.00866).
    """

    dense: bool = False
    linear: bool = False
    receptive_field: ReceptiveField | None = POINTWISE

    def interval(self, box: Box) -> Box:
        return Box(jax.nn.relu(box.lower), jax.nn.relu(box.upper))

    def backward(self, coefficients: chex.Array, box: Box) -> tuple[chex.Array, chex.Array]:
        (lower, upper) = box
        undecided = (lower < 0) & (upper > 0)
        chord = jnp.where(undecided, upper / jnp.where(undecided, upper - lower, 1.0), lower >= 0)
        offset = jnp.where(undecided, -chord * lower, 0.0)
        below = jnp.where(undecided, upper > -lower, lower >= 0).astype(lower.dtype)
        return _relax(coefficients, Line(below, jnp.zeros_like(lower)), Line(chord, offset))


@dataclasses.dataclass(frozen=True)
class MaxOp:
    r"""$y = \max_i x_i$ over axis 1.

    Let m be the entry with the largest lower bound t. The lower line is $y \ge x_m$. For the upper one, entries with an
    upper bound below t never win, and $y \le x_m + \sum_{i \ne m} \max(x_i - t, 0)$, with chords for the others; or the
    constant $y \le \max_i u_i$, if that is lower in the middle of the box.
    """

    dense: bool = False
    linear: bool = False
    receptive_field: ReceptiveField | None = POINTWISE

    def interval(self, box: Box) -> Box:
        return Box(box.lower.max(1), box.upper.max(1))

    def backward(self, coefficients: chex.Array, box: Box) -> tuple[chex.Array, chex.Array]:
        (lower, upper) = box
        first = jax.nn.one_hot(lower.argmax(1), lower.shape[1], axis=1, dtype=lower.dtype)
        rest = 1 - first
        floor = lower.max(1)
        excess = upper - floor[:, None]
        undecided = (excess > 0) & (rest > 0)
        # x_i <= u_i, and lower_i <= floor < u_i where undecided: the chord of max(x_i - floor, 0).
        slope = jnp.where(undecided, excess / jnp.where(undecided, upper - lower, 1.0), 0.0)
        offset = -jnp.sum(slope * lower, 1)
        middle = jnp.sum((first + slope) * (lower + upper) / 2, 1) + offset
        constant = upper.max(1)
        use_constant = constant < middle
        above = Line(
            jnp.where(use_constant[:, None], 0.0, first + slope),
            jnp.where(use_constant, constant, offset),
        )
        return _relax(coefficients, Line(first, jnp.zeros_like(floor)), above, windows=True)


@dataclasses.dataclass(frozen=True)
class ScaleOp:
    r"""$y = x\, g(x)$ with a gain g > 0 that changes little: local response norm.

    With $g \in [g_0, g_1]$ over the box and $\bar{g}$ its middle, $|y - \bar{g} x| \le \max|x|\, (g_1 - g_0) / 2$. This
    ignores that g depends on x itself, which is sound but loose.

    Attributes:
      gain: from the range of the squares of x to the range of g.
    """

    gain: Callable[[Box], Box]
    dense: bool = False
    linear: bool = False
    receptive_field: ReceptiveField | None = POINTWISE

    def interval(self, box: Box) -> Box:
        (least, most) = self._gains(box)
        (lower, upper) = box
        return Box(
            lower * jnp.where(lower >= 0, least, most),
            upper * jnp.where(upper >= 0, most, least),
        )

    def backward(self, coefficients: chex.Array, box: Box) -> tuple[chex.Array, chex.Array]:
        (least, most) = self._gains(box)
        slope = (least + most) / 2
        slack = jnp.maximum(jnp.abs(box.lower), jnp.abs(box.upper)) * (most - least) / 2
        return _relax(coefficients, Line(slope, -slack), Line(slope, slack))

    def _gains(self, box: Box) -> Box:
        (low, high) = (jnp.square(box.lower), jnp.square(box.upper))
        crosses = (box.lower < 0) & (box.upper > 0)
        return self.gain(Box(jnp.where(crosses, 0.0, jnp.minimum(low, high)), jnp.maximum(low, high)))


@dataclasses.dataclass(frozen=True)
class ResidualOp:
    """$y = f(x) + g(x)$ for two chains of operations: a residual block.

    Attributes:
      branches: the chains; an empty one is the identity.
    """

    branches: tuple[tuple[Operation, ...], ...]
    dense: bool = True
    linear: bool = False
    receptive_field: ReceptiveField | None = None

    def interval(self, box: Box) -> Box:
        (total, *others) = [interval_boxes(branch, box)[-1] for branch in self.branches]
        for other in others:
            total = total.plus(other)
        return total

    def backward(self, coefficients: chex.Array, box: Box) -> tuple[chex.Array, chex.Array]:
        results = [backward_chain(branch, interval_boxes(branch, box), coefficients) for branch in self.branches]
        return sum(pulled for pulled, _ in results), sum(constants for _, constants in results)


def interval_boxes(operations: tuple[Operation, ...], box: Box) -> list[Box]:
    """The box before each operation and after the last, by interval arithmetic (arXiv:1810.12715, section 3)."""
    boxes = [box]
    for operation in operations:
        boxes.append(operation.interval(boxes[-1]))
    return boxes


def backward_chain(
    operations: tuple[Operation, ...], boxes: list[Box], coefficients: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """Propagates coefficients `[B, S, *outputs]` of a chain to those of its inputs, and constants `[B, S]`."""
    constants = jnp.zeros(coefficients.shape[:2], coefficients.dtype)
    for operation, box in reversed(list(zip(operations, boxes, strict=False))):
        coefficients, more = operation.backward(coefficients, box)
        constants += more
    return coefficients, constants


def concretize(coefficients: chex.Array, constants: chex.Array, box: Box) -> chex.Array:
    """The minimum `[B, S]` of linear functions `[B, S, ...]` over a box `[B, ...]`; -inf on overflow."""
    (middle, radius) = ((box.lower + box.upper)[:, None] / 2, (box.upper - box.lower)[:, None] / 2)
    total = constants + _sum_outputs(coefficients * middle - jnp.abs(coefficients) * radius)
    return jnp.where(jnp.isfinite(total), total, -jnp.inf)


class Line(NamedTuple):
    """$slope \\cdot x + offset$, for each value."""

    slope: chex.Array
    offset: chex.Array


def _relax(coefficients: chex.Array, below: Line, above: Line, windows: bool = False) -> tuple[chex.Array, chex.Array]:
    """Replaces an operation by its lower line where the coefficient is positive, and by its upper line elsewhere."""
    (positive, negative) = (jnp.maximum(coefficients, 0), jnp.minimum(coefficients, 0))
    constants = _sum_outputs(positive * below.offset[:, None] + negative * above.offset[:, None])
    if windows:
        (positive, negative) = (positive[:, :, None], negative[:, :, None])
    return positive * below.slope[:, None] + negative * above.slope[:, None], constants


def _sum_outputs(values: chex.Array) -> chex.Array:
    return jnp.sum(values, axis=tuple(range(2, values.ndim)))

"""The few operations that networks are made of, each with what bounds need to know of it.

An operation maps `[B, ...]` to `[B, ...]`. Forwards, it carries a box: the range of every value. Backwards, it carries
linear bounds: given coefficients on its outputs, it gives coefficients on its inputs and constants such that the linear
function of the inputs is nowhere in the box above that of the outputs. All bounds hold in exact arithmetic; float32
rounds them by parts in a million.
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

    def meet(self, other: 'Box') -> 'Box':
        """What is in both; never empty, whatever was rounded."""
        lower = jnp.maximum(self.lower, other.lower)
        return Box(lower, jnp.maximum(lower, jnp.minimum(self.upper, other.upper)))

    def plus(self, other: 'Box') -> 'Box':
        """The range of sums."""
        return Box(self.lower + other.lower, self.upper + other.upper)


class Reach(NamedTuple):
    """Which rows of a map, and columns alike, an output's row i depends on: `size` from `i * stride - padding` on."""

    size: int
    stride: int = 1
    padding: int = 0


POINT = Reach(1)


class Operation(Protocol):
    """What `propagation` asks of an operation.

    Attributes:
      mixes: whether an output depends on several inputs through weights, so that its box forgets what they share.
      linear: whether the operation is affine, so that its backward step loses nothing.
      reach: of an operation from maps to maps, whose rows and columns are the axes before the last; None for others.
    """

    mixes: bool
    linear: bool
    reach: Reach | None

    def interval(self, box: Box) -> Box:
        """The box of outputs."""
        ...

    def backward(self, coefficients: chex.Array, box: Box) -> tuple[chex.Array, chex.Array]:
        """`[B, S, *outputs]` and the inputs' box to `[B, S, *inputs]` and constants `[B, S]`."""
        ...


# Intervals grow with every layer, and past float32 they would be no numbers; no activation comes near this.
_WIDEST = 1e30


@dataclasses.dataclass(frozen=True)
class Affine:
    r"""$y = Wx + b$, without W ever being laid out.

    Attributes:
      forward: `x -> Wx + b`, of any number of rows.
      magnitude: `r -> |W| r`.
      mixes: false where every output has one input.
      reach: of maps.
      unpadded: `forward` without its padding, where it has any.
    """

    forward: Callable[[chex.Array], chex.Array]
    magnitude: Callable[[chex.Array], chex.Array]
    mixes: bool = True
    linear: bool = True
    reach: Reach | None = None
    unpadded: Callable[[chex.Array], chex.Array] | None = None

    def interval(self, box: Box) -> Box:
        middle = self.forward((box.lower + box.upper) / 2)
        spread = self.magnitude((box.upper - box.lower) / 2)
        return Box(*(jnp.clip(bound, -_WIDEST, _WIDEST) for bound in (middle - spread, middle + spread)))

    def backward(self, coefficients: chex.Array, box: Box) -> tuple[chex.Array, chex.Array]:
        (batch, count) = coefficients.shape[:2]
        rows = jnp.zeros((batch * count, *box.lower.shape[1:]))
        # The map is affine, so its derivative at 0 is W, and the pullback of that is W transposed.
        (_, transposed) = jax.vjp(self.forward, rows)
        (back,) = transposed(coefficients.reshape(batch * count, *coefficients.shape[2:]))
        offset = self.forward(rows[:1])[None]
        return back.reshape(batch, count, *box.lower.shape[1:]), _total(coefficients * offset)


@dataclasses.dataclass(frozen=True)
class Relu:
    r"""$y = \max(x, 0)$.

    Where the sign is open, the upper line is the chord, and the lower one $y \ge x$ or $y \ge 0$, whichever leaves the
    smaller area (arXiv:1811.00866, CROWN's adaptive lower bound).
    """

    mixes: bool = False
    linear: bool = False
    reach: Reach | None = POINT

    def interval(self, box: Box) -> Box:
        return Box(jax.nn.relu(box.lower), jax.nn.relu(box.upper))

    def backward(self, coefficients: chex.Array, box: Box) -> tuple[chex.Array, chex.Array]:
        (lower, upper) = box
        is_open = (lower < 0) & (upper > 0)
        chord = jnp.where(is_open, upper / jnp.where(is_open, upper - lower, 1.0), lower >= 0)
        offset = jnp.where(is_open, -chord * lower, 0.0)
        below = jnp.where(is_open, upper > -lower, lower >= 0).astype(lower.dtype)
        return _between(coefficients, Line(below, jnp.zeros_like(lower)), Line(chord, offset))


@dataclasses.dataclass(frozen=True)
class Largest:
    r"""$y = \max_i x_i$ over axis 1.

    Let m be the entry with the largest lower bound t. Below, $y \ge x_m$. Above, entries whose range ends under t never
    win, and $y \le x_m + \sum_{i \ne m} \max(x_i - t, 0)$, with chords for the open ones; or the constant $y \le \max_i
    u_i$ where that is lower in the middle of the box.
    """

    mixes: bool = False
    linear: bool = False
    reach: Reach | None = POINT

    def interval(self, box: Box) -> Box:
        return Box(box.lower.max(1), box.upper.max(1))

    def backward(self, coefficients: chex.Array, box: Box) -> tuple[chex.Array, chex.Array]:
        (lower, upper) = box
        first = jax.nn.one_hot(lower.argmax(1), lower.shape[1], axis=1)
        rest = 1 - first
        floor = lower.max(1)
        over = upper - floor[:, None]
        is_open = (over > 0) & (rest > 0)
        # x_i <= u_i, and lower_i <= floor < u_i where open: the chord of max(x_i - floor, 0).
        slope = jnp.where(is_open, over / jnp.where(is_open, upper - lower, 1.0), 0.0)
        offset = -jnp.sum(slope * lower, 1)
        middle = jnp.sum((first + slope) * (lower + upper) / 2, 1) + offset
        flat = upper.max(1)
        use_flat = flat < middle
        above = Line(
            jnp.where(use_flat[:, None], 0.0, first + slope),
            jnp.where(use_flat, flat, offset),
        )
        return _between(coefficients, Line(first, jnp.zeros_like(floor)), above, windows=True)


@dataclasses.dataclass(frozen=True)
class Gain:
    r"""$y = x\, g(x)$ with a gain g > 0 that changes little: local response norm.

    With $g \in [g_0, g_1]$ over the box and $\bar{g}$ its middle, $|y - \bar{g} x| \le \max|x|\, (g_1 - g_0) / 2$. That
    g grows and falls with x itself is not used: sound, however loose.

    Attributes:
      gain: from the range of the squares of x to the range of g.
    """

    gain: Callable[[Box], Box]
    mixes: bool = False
    linear: bool = False
    reach: Reach | None = POINT

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
        return _between(coefficients, Line(slope, -slack), Line(slope, slack))

    def _gains(self, box: Box) -> Box:
        (low, high) = (jnp.square(box.lower), jnp.square(box.upper))
        crosses = (box.lower < 0) & (box.upper > 0)
        return self.gain(Box(jnp.where(crosses, 0.0, jnp.minimum(low, high)), jnp.maximum(low, high)))


@dataclasses.dataclass(frozen=True)
class Sum:
    """$y = f(x) + g(x)$, of two chains of operations: a residual block.

    Attributes:
      branches: the chains; an empty one is the identity.
    """

    branches: tuple[tuple[Operation, ...], ...]
    mixes: bool = True
    linear: bool = False
    reach: Reach | None = None

    def interval(self, box: Box) -> Box:
        (first, *others) = [boxes(branch, box)[-1] for branch in self.branches]
        for other in others:
            first = first.plus(other)
        return first

    def backward(self, coefficients: chex.Array, box: Box) -> tuple[chex.Array, chex.Array]:
        parts = [backward(branch, boxes(branch, box), coefficients) for branch in self.branches]
        return sum(back for back, _ in parts), sum(constant for _, constant in parts)


def boxes(operations: tuple[Operation, ...], box: Box) -> list[Box]:
    """The box before each operation and after the last, each from the one before (arXiv:1810.12715, section 3)."""
    found = [box]
    for operation in operations:
        found.append(operation.interval(found[-1]))
    return found


def backward(
    operations: tuple[Operation, ...], before: list[Box], coefficients: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """Coefficients `[B, S, *outputs]` of a chain's outputs to those of its inputs, and constants `[B, S]`."""
    constants = jnp.zeros(coefficients.shape[:2])
    for operation, box in reversed(list(zip(operations, before, strict=False))):
        coefficients, more = operation.backward(coefficients, box)
        constants += more
    return coefficients, constants


def concretised(coefficients: chex.Array, constants: chex.Array, box: Box) -> chex.Array:
    """The least value `[B, S]` of linear functions `[B, S, ...]` over a box `[B, ...]`; -inf where they overflow."""
    (middle, radius) = ((box.lower + box.upper)[:, None] / 2, (box.upper - box.lower)[:, None] / 2)
    lowest = coefficients * middle - jnp.abs(coefficients) * radius
    total = constants + jnp.sum(lowest, axis=tuple(range(2, lowest.ndim)))
    return jnp.where(jnp.isfinite(total), total, -jnp.inf)


class Line(NamedTuple):
    """$slope \\cdot x + offset$, for each value."""

    slope: chex.Array
    offset: chex.Array


def _between(coefficients: chex.Array, below: Line, above: Line, windows: bool = False):
    """A coefficient above 0 is smallest along the lower line, one below 0 along the upper."""
    (rising, falling) = (jnp.maximum(coefficients, 0), jnp.minimum(coefficients, 0))
    constants = _total(rising * below.offset[:, None] + falling * above.offset[:, None])
    if windows:
        (rising, falling) = (rising[:, :, None], falling[:, :, None])
    return rising * below.slope[:, None] + falling * above.slope[:, None], constants


def _total(values: chex.Array) -> chex.Array:
    return jnp.sum(values, axis=tuple(range(2, values.ndim)))

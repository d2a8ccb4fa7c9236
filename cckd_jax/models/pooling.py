"""Max pooling with a gradient that is fast on CPUs."""

import dataclasses

import chex
import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Max pooling over square windows without padding; incomplete windows at the border are dropped.

    It is a maximum of slices, because XLA:CPU takes several times as long for the gradient of `reduce_window`. As
    there, the first of equal values receives the whole gradient; `jnp.maximum` would split it, which is slower.

    Attributes:
      window: side of the square.
      stride: distance between windows.
    """

    window: int
    stride: int

    def __call__(self, images: chex.Array) -> chex.Array:
        for axis in (1, 2):
            count = (images.shape[axis] - self.window) // self.stride + 1
            stop = (count - 1) * self.stride + 1
            slices = [
                jax.lax.slice_in_dim(images, start, start + stop, self.stride, axis) for start in range(self.window)
            ]
            images = slices[0]
            for other in slices[1:]:
                images = first_maximum(images, other)
        return images


@jax.custom_jvp
def first_maximum(first: chex.Array, second: chex.Array) -> chex.Array:
    """The elementwise maximum; the first of equal values receives the whole gradient."""
    return jnp.maximum(first, second)


@first_maximum.defjvp
def _(primals, tangents) -> tuple[chex.Array, chex.Array]:
    (first, second) = primals
    return jnp.maximum(first, second), jnp.where(first >= second, *tangents)

"""The neighbourhoods in which attacks search: balls around an image, cut to the range of pixels."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Ball(NamedTuple):
    """What an attack must know of a norm.

    Attributes:
      draw: `(key, shape, radius)` to one offset, drawn uniformly from the ball.
      project: `(offsets [B, ...], radius)` to the nearest offsets in the ball.
      direction: gradients `[B, ...]` to the steps of norm 1 that climb fastest.
      largest: the shape of an image to the radius at which the ball holds every image.
    """

    draw: Callable[[chex.PRNGKey, tuple[int, ...], chex.Numeric], chex.Array]
    project: Callable[[chex.Array, chex.Numeric], chex.Array]
    direction: Callable[[chex.Array], chex.Array]
    largest: Callable[[tuple[int, ...]], float]

    def within(self, points: chex.Array, images: chex.Array, radius: chex.Numeric) -> chex.Array:
        """Points brought into the ball around their images, then cut to [0, 1], which leaves them in the ball."""
        return jnp.clip(images + self.project(points - images, radius), 0.0, 1.0)

    def start(self, keys: chex.Array, images: chex.Array, radius: chex.Numeric) -> chex.Array:
        """A random point of the ball around each image, from the example's own key `[B]`."""
        offsets = jax.vmap(lambda key: self.draw(key, images.shape[1:], radius))(keys)
        return jnp.clip(images + offsets.astype(images.dtype), 0.0, 1.0)


def _norm(values: chex.Array) -> chex.Array:
    return jnp.sqrt(jnp.sum(jnp.square(values), axis=tuple(range(1, values.ndim)), keepdims=True))


def _cube_draw(key, shape, radius):
    return radius * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def _sphere_draw(key, shape, radius):
    (towards, away) = jax.random.split(key)
    direction = jax.random.normal(towards, shape)
    direction /= jnp.sqrt(jnp.sum(jnp.square(direction)))
    return radius * jax.random.uniform(away) ** (1 / direction.size) * direction


def _sphere_project(offsets, radius):
    norm = _norm(offsets)
    return offsets * jnp.where(norm > radius, radius / jnp.maximum(norm, _TINY), 1.0)


def _sphere_direction(gradient):
    # Scaled first: the squares of a saturated network's gradient underflow.
    largest = jnp.max(jnp.abs(gradient), axis=tuple(range(1, gradient.ndim)), keepdims=True)
    scaled = gradient / jnp.maximum(largest, _TINY)
    return scaled / jnp.maximum(_norm(scaled), _TINY)


_TINY = 1e-30

BALLS: Mapping[str, Ball] = {
    'linf': Ball(_cube_draw, lambda offsets, radius: jnp.clip(offsets, -radius, radius), jnp.sign, lambda shape: 1.0),
    'l2': Ball(_sphere_draw, _sphere_project, _sphere_direction, lambda shape: math.prod(shape) ** 0.5),
}

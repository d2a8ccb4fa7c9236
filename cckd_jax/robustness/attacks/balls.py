"""Norm balls around images, clipped to the pixel range [0, 1]."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Ball(NamedTuple):
    """The operations of a norm that attacks need.

    Attributes:
      sample_offset: `(key, shape, radius)` to one offset, uniform in the ball.
      project_offsets: `(offsets [B, ...], radius)` to the nearest offsets in the ball.
      steepest: gradients `[B, ...]` to the direction of steepest ascent, of norm 1.
      max_radius: image shape to the smallest radius at which the ball contains every image.
    """

    sample_offset: Callable[[chex.PRNGKey, tuple[int, ...], chex.Numeric], chex.Array]
    project_offsets: Callable[[chex.Array, chex.Numeric], chex.Array]
    steepest: Callable[[chex.Array], chex.Array]
    max_radius: Callable[[tuple[int, ...]], float]

    def project(self, points: chex.Array, images: chex.Array, radius: chex.Numeric) -> chex.Array:
        """Projects points into the ball around their images, then clips them, which keeps them in the ball."""
        return jnp.clip(images + self.project_offsets(points - images, radius), 0.0, 1.0)

    def sample(self, keys: chex.Array, images: chex.Array, radius: chex.Numeric) -> chex.Array:
        """A random point of the ball around each image, from one key per example `[B]`."""
        offsets = jax.vmap(lambda key: self.sample_offset(key, images.shape[1:], radius))(keys)
        return jnp.clip(images + offsets.astype(images.dtype), 0.0, 1.0)


_TINY = 1e-30


def _norm(values: chex.Array) -> chex.Array:
    return jnp.sqrt(jnp.sum(jnp.square(values), axis=tuple(range(1, values.ndim)), keepdims=True))


def _sample_linf(key, shape, radius):
    return radius * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def _project_linf(offsets, radius):
    return jnp.clip(offsets, -radius, radius)


def _sample_l2(key, shape, radius):
    (direction_key, radius_key) = jax.random.split(key)
    direction = jax.random.normal(direction_key, shape)
    direction /= jnp.sqrt(jnp.sum(jnp.square(direction)))
    return radius * jax.random.uniform(radius_key) ** (1 / direction.size) * direction


def _project_l2(offsets, radius):
    norm = _norm(offsets)
    return offsets * jnp.where(norm > radius, radius / jnp.maximum(norm, _TINY), 1.0)


def _steepest_l2(gradient):
    # Scaled first, because the squares of a confident network's gradient underflow.
    largest = jnp.max(jnp.abs(gradient), axis=tuple(range(1, gradient.ndim)), keepdims=True)
    scaled = gradient / jnp.maximum(largest, _TINY)
    return scaled / jnp.maximum(_norm(scaled), _TINY)


BALLS: Mapping[str, Ball] = {
    'linf': Ball(_sample_linf, _project_linf, jnp.sign, lambda shape: 1.0),
    'l2': Ball(_sample_l2, _project_l2, _steepest_l2, lambda shape: math.prod(shape) ** 0.5),
}

"""An attack that sees logits alone: the check that an attack along gradients was not fooled by their absence."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.errors import InputError
from cckd_jax.robustness.inputs import (
    check_counts,
    check_epsilon,
    check_images,
    check_label_range,
    check_takes,
    example_keys,
)
from cckd_jax.robustness.objectives import label_margin

# Of 10,000 queries, those at which the share of changed pixels is halved.
_HALVINGS = np.array([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000])


def square(
    logits_fn: Callable[[chex.Array], chex.Array],
    images: chex.Array,
    labels: chex.Array,
    *,
    epsilon: chex.Numeric,
    key: chex.PRNGKey,
    queries: int = 1000,
    share: float = 0.05,
) -> chex.Array:
    r"""Square attack, l_inf: random search over squares, which needs no gradient.

    It starts from vertical stripes of $\pm\epsilon$. Each query sets a square at a random place to $x \pm \epsilon$,
    one sign for each channel, and keeps it where the margin rises; squares shrink on a schedule. Where this beats
    `pgd`, the network hides its gradients. The image itself is kept where no point was better.

    Args:
      logits_fn: `[B, H, W, C] -> [B, classes]`, classes > 1.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      key: one key, which is folded with each example's place, or one for each example `[B]`.
      queries: squares tried, >= 1.
      share: of the pixels that the first squares cover, in (0, 1]; 0.05 in the paper for l_inf.

    Returns:
      float32 `[B, H, W, C]`, in [0, 1], within epsilon of the images.

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: a value is out of range.

    Source: Andriushchenko et al. (arXiv:1912.00049), algorithms 1 and 2, the schedule from section 5.

    >>> logits = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    >>> key = jax.random.key(0)
    >>> found = square(logits, jnp.full((1, 2, 2, 1), 0.5), jnp.array([0]), epsilon=0.125, key=key, queries=50)
    >>> found.ravel().tolist()
    [0.375, 0.375, 0.375, 0.375]
    """
    check_images(images)
    check_epsilon(epsilon)
    check_counts(queries=queries)
    if not 0 < share <= 1:
        raise InputError(f'share must be in (0, 1], not {share}')
    check_label_range(labels, images, check_takes('the attacked network', logits_fn, images))
    images = images.astype(jnp.float32)
    (height, width, channels) = images.shape[1:]
    keys = example_keys(key, len(images))
    sides = jnp.asarray(_sides(queries, share, height, width))

    def signs(key, shape):
        return epsilon * jax.random.rademacher(key, shape, images.dtype)

    def propose(key, best, image, side):
        (place_key, sign_key) = jax.random.split(key)
        free = jnp.array([height, width]) - side + 1
        place = jnp.floor(jax.random.uniform(place_key, (2,)) * free)
        inside = lambda size, start: (jnp.arange(size) >= start) & (jnp.arange(size) < start + side)
        mask = inside(height, place[0])[:, None, None] & inside(width, place[1])[None, :, None]
        return jnp.where(mask, jnp.clip(image + signs(sign_key, (1, 1, channels)), 0, 1), best)

    def query(number, carried):
        (best, value) = carried
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        tried = jax.vmap(propose, (0, 0, 0, None))(own, best, images, sides[number])
        margin = label_margin(logits_fn(tried), labels)
        improved = margin > value
        return jnp.where(improved[:, None, None, None], tried, best), jnp.where(improved, margin, value)

    stripes = jax.vmap(lambda key: signs(jax.random.fold_in(key, queries), (1, width, channels)))(keys)
    start = jnp.clip(images + stripes, 0, 1)
    (found, value) = jax.lax.fori_loop(0, queries, query, (start, label_margin(logits_fn(start), labels)))
    worse = label_margin(logits_fn(images), labels) >= value
    return jnp.where(worse[:, None, None, None], images, found)


def _sides(queries: int, share: float, height: int, width: int) -> np.ndarray:
    """The side of each query's square: the schedule for 10,000 queries, brought to this number."""
    halvings = (np.arange(queries)[:, None] * 10_000 // queries > _HALVINGS).sum(-1)
    sides = np.round(np.sqrt(share / 2.0**halvings * height * width)).astype(np.int32)
    return np.clip(sides, 1, min(height, width))

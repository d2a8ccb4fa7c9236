"""Square attack: random search without gradients, which reveals networks that only hide their gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.errors import InputError
from cckd_jax.robustness.inputs import (
    LogitsFn,
    check_counts,
    check_epsilon,
    check_images,
    check_label_range,
    infer_num_classes,
    start_keys,
)
from cckd_jax.robustness.objectives import label_margin

# The paper's schedule for 10,000 queries: after each of these, the squares cover half as many pixels.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square(
    logits_fn: LogitsFn,
    images: chex.Array,
    labels: chex.Array,
    *,
    epsilon: chex.Numeric,
    key: chex.PRNGKey,
    queries: int = 1000,
    share: float = 0.05,
) -> chex.Array:
    r"""Square attack in the l_inf norm: random search over squares, from logits alone.

    The search starts from vertical stripes of $\pm\epsilon$. Each query sets a randomly placed square to
    $x \pm \epsilon$, with one sign per channel, and keeps it if the margin rises. The squares shrink on a schedule. If
    this attack beats `pgd`, the network masks its gradients. If no point is better than the image, the image is
    returned.

    Args:
      logits_fn: `[B, H, W, C] -> [B, classes]`, two or more classes.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      key: one key, which is folded with each example's position in the batch, or one key per example `[B]`.
      queries: number of squares to try, from 1 to 2**31 - 1.
      share: fraction of the pixels that the first squares cover, in (0, 1]; 0.05 in the paper for l_inf.

    Returns:
      float32 `[B, H, W, C]`, in [0, 1], within epsilon of the images.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: a value is out of range.

    Source: Andriushchenko et al. (arXiv:1912.00049), algorithms 1 and 2, with the schedule of section 5.

    >>> logits = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    >>> key = jax.random.key(0)
    >>> points = square(logits, jnp.full((1, 2, 2, 1), 0.5), jnp.array([0]), epsilon=0.125, key=key, queries=50)
    >>> points.ravel().tolist()
    [0.375, 0.375, 0.375, 0.375]
    """
    check_images(images)
    check_epsilon(epsilon)
    check_counts(queries=queries)
    if not 0 < share <= 1:
        raise InputError(f'share must be in (0, 1], not {share}')
    check_label_range(labels, images, infer_num_classes('the attacked network', logits_fn, images))
    images = images.astype(jnp.float32)
    epsilon = jnp.asarray(epsilon, images.dtype)
    (height, width, channels) = images.shape[1:]
    keys = start_keys(key, len(images))
    (thresholds, sides) = map(jnp.asarray, _schedule(queries, share, height, width))
    margin = lambda points: label_margin(logits_fn(points), labels)

    def random_signs(key, shape):
        return epsilon * jax.random.rademacher(key, shape, images.dtype)

    def propose(key, best, image, side):
        (place_key, sign_key) = jax.random.split(key)
        free = jnp.array([height, width]) - side + 1
        corner = jnp.floor(jax.random.uniform(place_key, (2,)) * free)
        inside = lambda size, start: (jnp.arange(size) >= start) & (jnp.arange(size) < start + side)
        mask = inside(height, corner[0])[:, None, None] & inside(width, corner[1])[None, :, None]
        return jnp.where(mask, jnp.clip(image + random_signs(sign_key, (1, 1, channels)), 0, 1), best)

    def query(number, carry):
        (best, value) = carry
        query_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        side = sides[jnp.sum(number >= thresholds)]
        candidates = jax.vmap(propose, (0, 0, 0, None))(query_keys, best, images, side)
        candidate_value = margin(candidates)
        improved = candidate_value > value
        return jnp.where(improved[:, None, None, None], candidates, best), jnp.where(improved, candidate_value, value)

    stripes = jax.vmap(lambda key: random_signs(jax.random.fold_in(key, queries), (1, width, channels)))(keys)
    start = jnp.clip(images + stripes, 0, 1)
    (points, value) = jax.lax.fori_loop(0, queries, query, (start, margin(start)))
    no_better = margin(images) >= value
    return jnp.where(no_better[:, None, None, None], images, points)


def _schedule(queries: int, share: float, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The paper's schedule, rescaled to another number of queries.

    Returns:
      The queries int32 `[9]` at which the squares shrink, and their side int32 `[10]` before and after each of them.

    >>> _schedule(10_000, 0.05, 28, 28)[1].tolist()
    [6, 4, 3, 2, 2, 1, 1, 1, 1, 1]
    """
    thresholds = np.array([-(-(halving + 1) * queries // 10_000) for halving in _HALVINGS], np.int32)
    sides = np.round(np.sqrt(share / 2.0 ** np.arange(len(_HALVINGS) + 1) * height * width))
    return thresholds, np.clip(sides, 1, min(height, width)).astype(np.int32)

"""Projected ascent: the search that all white-box attacks here share."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from cckd_jax.robustness.balls import Ball


def ascend(
    objective: Callable[[chex.Array], chex.Array],
    images: chex.Array,
    *,
    ball: Ball,
    epsilon: chex.Numeric,
    steps: chex.Numeric,
    step_size: chex.Numeric,
    keys: chex.Array | None = None,
    restarts: chex.Numeric = 1,
    guide: Callable[[chex.Array], chex.Array] | None = None,
) -> tuple[chex.Array, chex.Array]:
    r"""The best point that projected gradient ascent meets in the ball around each image, and its value.

    $x_{t+1} = \Pi(x_t + \alpha\, d(\nabla g(x_t)))$ with d the steepest step of the norm. The image itself, every
    start and every iterate are candidates, so more steps of one size, or more restarts with the same keys, never find
    a lower value. A value that is not a number is no candidate.

    Args:
      objective: `[B, H, W, C] -> [B]`, each value a function of its own row.
      images: float `[B, H, W, C]`, in [0, 1].
      ball: the norm, one of `BALLS`.
      epsilon: radius.
      steps: from each start.
      step_size: alpha, in the norm.
      keys: `[B]`; restart r of an example starts from a point drawn with its key folded with r. None: one ascent, from
        the image itself.
      restarts: how many, with keys.
      guide: `[B, H, W, C] -> [B]`, whose gradient is followed in place of the objective's, where that one is flat.

    Returns:
      (points `[B, H, W, C]`, values `[B]`).

    Source: Madry et al. (arXiv:1706.06083), section 2.1, for the iteration; keeping the best is usual.

    >>> from cckd_jax.robustness.balls import BALLS
    >>> height = lambda points: points.sum((1, 2, 3))
    >>> image = jnp.full((1, 1, 2, 1), 0.5)
    >>> ascend(height, image, ball=BALLS['linf'], epsilon=0.25, steps=2, step_size=0.125)[0].ravel().tolist()
    [0.75, 0.75]
    """

    def better(best, points, values):
        improved = values > best[1]
        mask = improved.reshape((-1,) + (1,) * (points.ndim - 1))
        return jnp.where(mask, points, best[0]), jnp.where(improved, values, best[1])

    def step(_, carried):
        (best, points) = carried
        (values, pullback) = jax.vjp(objective if guide is None else guide, points)
        (gradient,) = pullback(jnp.ones_like(values))
        if guide is not None:
            values = objective(points)
        return better(best, points, values), ball.within(points + step_size * ball.direction(gradient), images, epsilon)

    def climb(best, start):
        (best, last) = jax.lax.fori_loop(0, steps, step, (best, start))
        return better(best, last, objective(last))

    def restart(number, best):
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        return climb(best, ball.start(own, images, epsilon))

    best = (images, objective(images))
    best = (images, jnp.where(jnp.isnan(best[1]), -jnp.inf, best[1]))
    if keys is None:
        return climb(best, images)
    return jax.lax.fori_loop(0, restarts, restart, best)

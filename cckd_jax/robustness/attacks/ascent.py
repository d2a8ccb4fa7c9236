"""Projected gradient ascent: the search that all white-box attacks here share."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from cckd_jax.robustness.attacks.balls import Ball

Objective = Callable[[chex.Array], chex.Array]


def ascend(
    objective: Objective,
    images: chex.Array,
    *,
    ball: Ball,
    epsilon: chex.Numeric,
    steps: chex.Numeric,
    step_size: chex.Numeric | None = None,
    keys: chex.Array | None = None,
    restarts: chex.Numeric = 1,
    guide: Objective | None = None,
) -> tuple[chex.Array, chex.Array]:
    r"""Projected gradient ascent in the ball around each image; returns the best point that it visits.

    $x_{t+1} = \Pi(x_t + \alpha\, d(\nabla g(x_t)))$, where d is the steepest step of unit norm. The image itself, every
    start and every iterate are candidates, so more steps of the same size, or more restarts with the same keys, never
    return a lower value. Points with a NaN value are skipped.

    Args:
      objective: g, `[B, H, W, C] -> [B]`, each value a function of its own row.
      images: float `[B, H, W, C]`, in [0, 1].
      ball: the norm, a value of `BALLS`.
      epsilon: radius.
      steps: number of steps from each start.
      step_size: alpha, in the norm; 2.5 epsilon / steps if None.
      keys: `[B]`; restart r of an example starts from a random point that its key, folded with r, determines. Without
        keys there is one ascent, from the image itself.
      restarts: number of random starts, if there are keys.
      guide: `[B, H, W, C] -> [B]`, whose gradient is followed instead, for an objective with a vanishing gradient.

    Returns:
      (points `[B, H, W, C]`, values `[B]`).

    Source: Madry et al. (arXiv:1706.06083), section 2.1, for the iteration; keeping the best point is common practice.

    >>> from cckd_jax.robustness.attacks import BALLS
    >>> height = lambda points: points.sum((1, 2, 3))
    >>> image = jnp.full((1, 1, 2, 1), 0.5)
    >>> ascend(height, image, ball=BALLS['linf'], epsilon=0.25, steps=2, step_size=0.125)[0].ravel().tolist()
    [0.75, 0.75]
    """
    step_size = 2.5 * epsilon / steps if step_size is None else step_size
    # A radius of float64 would widen the points, and a loop must keep their type.
    (epsilon, step_size) = (jnp.asarray(value, images.dtype) for value in (epsilon, step_size))

    def keep_best(best, points, values):
        improved = values > best[1]
        mask = improved.reshape((-1,) + (1,) * (points.ndim - 1))
        return jnp.where(mask, points, best[0]), jnp.where(improved, values, best[1])

    def step(_, carry):
        (best, points) = carry
        (values, pullback) = jax.vjp(objective if guide is None else guide, points)
        (gradient,) = pullback(jnp.ones_like(values))
        if guide is not None:
            values = objective(points)
        moved = ball.project(points + step_size * ball.steepest(gradient), images, epsilon)
        return keep_best(best, points, values), moved

    def climb(best, start):
        (best, last) = jax.lax.fori_loop(0, steps, step, (best, start))
        return keep_best(best, last, objective(last))

    values = objective(images)
    best = (images, jnp.where(jnp.isnan(values), -jnp.inf, values))
    if keys is None:
        return climb(best, images)

    def restart(number, best):
        restart_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        return climb(best, ball.sample(restart_keys, images, epsilon))

    return jax.lax.fori_loop(0, restarts, restart, best)

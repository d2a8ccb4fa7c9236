"""Adversarial examples, crafted from a function that gives logits."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from cckd_jax.losses import cross_entropy


def fgsm(
    logits_fn: Callable[[chex.Array], chex.Array],
    images: chex.Array,
    labels: chex.Array,
    *,
    epsilon: float,
    key: chex.PRNGKey | None = None,
) -> chex.Array:
    r"""Fast gradient sign method: one step of size epsilon up the cross entropy, cut to [0, 1].

    $x_A = \mathrm{clip}(x + \epsilon\, \mathrm{sign}(\nabla_x CE(f(x), y)), 0, 1)$. The paper's text says that the step
    is applied iteratively; its equation, followed here, is one step. The cut to the range of pixels is ours: the paper
    does not mention one.

    Args:
      logits_fn: `[B, H, W, C] -> [B, classes]`, for example a `models.Network`.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: size of the step in pixel units, in [0, 1].
      key: where given, the step starts from a uniformly drawn point of the ball (and the result stays in the ball).

    Returns:
      float32 `[B, H, W, C]`, in [0, 1], within epsilon of the images.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: epsilon is outside [0, 1].

    Source: equation 9 of CCKD (arXiv:2107.06993), after Goodfellow et al. (arXiv:1412.6572).

    >>> logits = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    >>> fgsm(logits, jnp.full((1, 1, 2, 1), 0.5), jnp.array([0]), epsilon=0.125).ravel().tolist()
    [0.375, 0.375]
    """
    chex.assert_rank(images, 4)
    chex.assert_type(images, float)
    if not 0 <= epsilon <= 1:
        raise ValueError(f'epsilon must be in [0, 1], not {epsilon}')
    start = images
    if key is not None:
        start = images + jax.random.uniform(key, images.shape, images.dtype, -epsilon, epsilon)
        start = jnp.clip(start, 0.0, 1.0)
    gradient = jax.grad(lambda points: jnp.sum(cross_entropy(logits_fn(points), labels)))(start)
    moved = start + epsilon * jnp.sign(gradient)
    return jnp.clip(jnp.clip(moved, images - epsilon, images + epsilon), 0.0, 1.0)

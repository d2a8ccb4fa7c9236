"""Attacks that follow the gradient of a loss: FGSM and PGD."""

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_positive
from cckd_jax.errors import lookup
from cckd_jax.robustness.attacks.ascent import ascend
from cckd_jax.robustness.attacks.balls import BALLS
from cckd_jax.robustness.inputs import (
    LogitsFn,
    check_attack_steps,
    check_epsilon,
    check_images,
    check_label_range,
    infer_num_classes,
    start_keys,
)
from cckd_jax.robustness.objectives import LOSSES


def fgsm(
    logits_fn: LogitsFn,
    images: chex.Array,
    labels: chex.Array,
    *,
    epsilon: chex.Numeric,
    key: chex.PRNGKey | None = None,
    loss: str = 'cross_entropy',
) -> chex.Array:
    r"""Fast gradient sign method: one step of size epsilon along the sign of the gradient, clipped to [0, 1].

    $x_A = \mathrm{clip}(x + \epsilon\, \mathrm{sign}(\nabla_x \ell(f(x), y)), 0, 1)$. The paper's text says that the
    step is applied iteratively; we follow its equation, which is one step. Clipping to the pixel range is our addition:
    the paper does not mention it.

    The paper and the usual frameworks follow the gradient of `softmax_cross_entropy`, which float32 rounds where the
    network is confident. Use it to compare with Tables 8 and 9 of the paper. The default, `cross_entropy`, is the same
    function with an exact gradient, and the stronger attack.

    Args:
      logits_fn: `[B, H, W, C] -> [B, classes]`, for example a `models.Network`; two or more classes.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: size of the step in pixel units, in [0, 1].
      key: if given, the step starts from a random point of the ball, drawn uniformly and clipped to [0, 1]. Either one
        key, which is folded with each example's position in the batch, or one key per example `[B]`.
      loss: a name in `LOSSES`: `cross_entropy`, `softmax_cross_entropy` or `margin`.

    Returns:
      float32 `[B, H, W, C]`, in [0, 1], within epsilon of the images.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: a value is out of range, or the loss is unknown.

    Source: equation 9 of CCKD (arXiv:2107.06993), after Goodfellow et al. (arXiv:1412.6572).

    >>> logits = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    >>> fgsm(logits, jnp.full((1, 1, 2, 1), 0.5), jnp.array([0]), epsilon=0.125).ravel().tolist()
    [0.375, 0.375]
    """
    objective = lookup(LOSSES, loss, 'loss')
    check_images(images)
    check_epsilon(epsilon)
    check_label_range(labels, images, infer_num_classes('the attacked network', logits_fn, images))
    images = images.astype(jnp.float32)
    epsilon = jnp.asarray(epsilon, images.dtype)
    ball = BALLS['linf']
    start = images if key is None else ball.sample(start_keys(key, len(images)), images, epsilon)
    gradient = jax.grad(lambda points: jnp.sum(objective(logits_fn(points), labels)))(start)
    return ball.project(start + epsilon * jnp.sign(gradient), images, epsilon)


def pgd(
    logits_fn: LogitsFn,
    images: chex.Array,
    labels: chex.Array,
    *,
    epsilon: chex.Numeric,
    key: chex.PRNGKey | None = None,
    norm: str = 'linf',
    steps: chex.Numeric = 40,
    step_size: chex.Numeric | None = None,
    restarts: chex.Numeric = 1,
    loss: str = 'cross_entropy',
    temperature: chex.Numeric = 1.0,
) -> chex.Array:
    r"""Projected gradient descent (PGD): ascent on a loss of the logits, keeping the best point that it visits.

    $x_{t+1} = \Pi(x_t + \alpha\, d(\nabla_x \ell(f(x_t) / \tau, y)))$ with d the sign (`linf`) or the unit vector
    (`l2`) of the gradient, and $\Pi$ the projection onto the ball, clipped to [0, 1]. "Best" means the largest value of
    the attacked loss: with `margin`, a later iterate never loses an earlier success. A network trained at a high
    temperature has large logits, and its cross entropy can underflow in float32: attack it at that temperature, or with
    `margin`.

    The usual frameworks follow the gradient of `softmax_cross_entropy`, which float32 rounds where the network is
    confident; use it to compare with numbers from elsewhere. The default, `cross_entropy`, is the same function with an
    exact gradient, and the stronger attack.

    Args:
      logits_fn: `[B, H, W, C] -> [B, classes]`, for example a `models.Network`; two or more classes.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius. For `linf` in pixel units, in [0, 1]; for `l2` at most the square root of the number of pixel
        values.
      key: one key, which is folded with each example's position in the batch, or one key per example `[B]`, which makes
        the result independent of batches and devices. None: one ascent, from the image itself.
      norm: a name in `BALLS`: `linf` or `l2`.
      steps: number of steps, from 1 to 2**31 - 1.
      step_size: alpha, in the norm; 2.5 epsilon / steps if None.
      restarts: number of random starts, if there is a key. Restart r draws from the example's key folded with r, so
        that more restarts include the fewer.
      loss: a name in `LOSSES`: `cross_entropy`, `softmax_cross_entropy` or `margin`.
      temperature: tau > 0, by which the attacked logits are divided.

    Returns:
      float32 `[B, H, W, C]`, in [0, 1], within epsilon of the images.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: a value is out of range, or a name is unknown.

    Source: Madry et al. (arXiv:1706.06083), section 2.1.

    >>> logits = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    >>> pgd(logits, jnp.full((1, 1, 2, 1), 0.5), jnp.array([0]), epsilon=0.125, steps=4).ravel().tolist()
    [0.375, 0.375]
    """
    ball, objective = lookup(BALLS, norm, 'norm'), lookup(LOSSES, loss, 'loss')
    check_images(images)
    check_epsilon(epsilon, ball.max_radius(images.shape[1:]))
    check_positive(temperature=temperature)
    check_attack_steps(steps, step_size, restarts)
    check_label_range(labels, images, infer_num_classes('the attacked network', logits_fn, images))
    images = images.astype(jnp.float32)
    (points, _) = ascend(
        lambda points: objective(logits_fn(points) / temperature, labels),
        images,
        ball=ball,
        epsilon=epsilon,
        steps=steps,
        step_size=step_size,
        keys=None if key is None else start_keys(key, len(images)),
        restarts=restarts,
    )
    return points

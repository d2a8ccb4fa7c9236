"""Adversarial examples, crafted along the gradient of a function that gives logits."""

from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_labels, check_logits, check_positive
from cckd_jax.errors import lookup
from cckd_jax.losses import cross_entropy
from cckd_jax.robustness.ascent import ascend
from cckd_jax.robustness.balls import BALLS
from cckd_jax.robustness.inputs import (
    check_counts,
    check_epsilon,
    check_images,
    check_label_range,
    check_takes,
    example_keys,
)


def fgsm(
    logits_fn: Callable[[chex.Array], chex.Array],
    images: chex.Array,
    labels: chex.Array,
    *,
    epsilon: chex.Numeric,
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
      key: where given, the step starts from a random point of the ball, uniform before the cut to [0, 1] (and the
        result stays in the ball); one key, which is folded with each example's place, or one for each example `[B]`.

    Returns:
      float32 `[B, H, W, C]`, in [0, 1], within epsilon of the images.

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: epsilon or an image is outside [0, 1].

    Source: equation 9 of CCKD (arXiv:2107.06993), after Goodfellow et al. (arXiv:1412.6572).

    >>> logits = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    >>> fgsm(logits, jnp.full((1, 1, 2, 1), 0.5), jnp.array([0]), epsilon=0.125).ravel().tolist()
    [0.375, 0.375]
    """
    check_images(images)
    check_epsilon(epsilon)
    check_label_range(labels, images, check_takes('the attacked network', logits_fn, images))
    images = images.astype(jnp.float32)
    ball = BALLS['linf']
    start = images if key is None else ball.start(example_keys(key, len(images)), images, epsilon)
    gradient = jax.grad(lambda points: jnp.sum(cross_entropy(logits_fn(points), labels)))(start)
    return ball.within(start + epsilon * jnp.sign(gradient), images, epsilon)


def margin_loss(logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""By how much the best wrong class beats the label: above 0 exactly where the label loses.

    $\max_{j \ne y} z_j - z_y$. Unlike cross entropy it has a gradient however sure the network is.

    Args:
      logits: float `[B, C]`, C > 1.
      labels: int `[B]`, in `[0, C)`.

    Returns:
      float `[B]`, in logits.

    Raises:
      AssertionError: shapes or types are wrong.

    Source: Carlini and Wagner (arXiv:1608.04644), f_6 before its cut, with the sign turned.

    >>> margin_loss(jnp.array([[3.0, 1.0, 2.5]]), jnp.array([0])).tolist()
    [-0.5]
    """
    check_logits(logits)
    check_labels(labels, logits)
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jnp.max(jnp.where(own, -jnp.inf, logits), -1) - jnp.sum(jnp.where(own, logits, 0), -1)


LOSSES: Mapping[str, Callable[[chex.Array, chex.Array], chex.Array]] = {
    'cross_entropy': cross_entropy,
    'margin': margin_loss,
}


def pgd(
    logits_fn: Callable[[chex.Array], chex.Array],
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
    r"""Projected gradient ascent on a loss of the logits, which keeps the best point that it meets.

    $x_{t+1} = \Pi(x_t + \alpha\, d(\nabla_x \ell(f(x_t) / \tau, y)))$ with d the sign (`linf`) or the unit vector
    (`l2`) of the gradient, and the projection onto the ball cut to [0, 1]. A network that was trained at a high
    temperature gives large logits, whose cross entropy has no gradient left in float32: attack it at that temperature,
    or by the margin. Best is by the attacked loss: with `margin`, no success is ever lost to a later iterate.

    Args:
      logits_fn: `[B, H, W, C] -> [B, classes]`, for example a `models.Network`.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius: in pixel units, in [0, 1], for `linf`; up to the square root of the number of pixel values for
        `l2`.
      key: one key, which is folded with each example's place, or one for each example `[B]`, which makes the result
        independent of batches and devices. None: one ascent, from the image itself.
      norm: a name in `BALLS`.
      steps: >= 1.
      step_size: alpha, in the norm; None means 2.5 epsilon / steps.
      restarts: random starts, with a key. Restart r draws from the example's key folded with r, so that more restarts
        contain the fewer.
      loss: a name in `LOSSES`.
      temperature: tau > 0 of the attacked logits.

    Returns:
      float32 `[B, H, W, C]`, in [0, 1], within epsilon of the images.

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: a value is out of range, or a name unknown.

    Source: Madry et al. (arXiv:1706.06083), section 2.1.

    >>> logits = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    >>> pgd(logits, jnp.full((1, 1, 2, 1), 0.5), jnp.array([0]), epsilon=0.125, steps=4).ravel().tolist()
    [0.375, 0.375]
    """
    ball, objective = lookup(BALLS, norm, 'norm'), lookup(LOSSES, loss, 'loss')
    check_images(images)
    check_epsilon(epsilon, ball.largest(images.shape[1:]))
    check_positive(temperature=temperature)
    check_search(steps, step_size, restarts)
    check_label_range(labels, images, check_takes('the attacked network', logits_fn, images))
    images = images.astype(jnp.float32)
    (points, _) = ascend(
        lambda points: objective(logits_fn(points) / temperature, labels),
        images,
        ball=ball,
        epsilon=epsilon,
        steps=steps,
        step_size=2.5 * epsilon / steps if step_size is None else step_size,
        keys=None if key is None else example_keys(key, len(images)),
        restarts=restarts,
    )
    return points


def check_search(steps: chex.Numeric, step_size: chex.Numeric | None, restarts: chex.Numeric) -> None:
    """Raises InputError for a search that would not search.

    >>> check_search(10, None, 1)
    """
    check_counts(steps=steps, restarts=restarts)
    if step_size is not None:
        check_positive(step_size=step_size)

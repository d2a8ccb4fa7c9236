"""Agreement of teacher and student on the predicted class over a ball: attacked and certified.

The paper on faithful distillation (arXiv:2306.04431) is the motivation. Only its abstract was available; the
definitions are our interpretation.
"""

import chex
import jax.numpy as jnp

from cckd_jax.models import Network
from cckd_jax.robustness.bounds import difference_bounds
from cckd_jax.robustness.gaps.attacked import check_pair_attack, maximize
from cckd_jax.robustness.inputs import LogitsFn, check_images, infer_common_classes
from cckd_jax.robustness.objectives import label_margin, label_mask


def attack_agreement(
    teacher: LogitsFn,
    student: LogitsFn,
    images: chex.Array,
    epsilon: chex.Numeric,
    *,
    key: chex.PRNGKey | None = None,
    steps: chex.Numeric = 20,
    step_size: chex.Numeric | None = None,
    restarts: chex.Numeric = 1,
) -> chex.Array:
    r"""Whether attacks fail to find a point of the ball at which teacher and student predict different classes.

    Projected sign ascent on the margin of the student's best other class over the class c that the teacher predicts at
    the same point, $\max_{j \ne c} z_{S,j} - z_{S,c}$ with $c = \arg\max z_T$, and the same with the roles swapped.

    Args:
      teacher: `[B, H, W, C] -> [B, classes]`, for example a `models.Network`.
      student: for the same images and classes.
      images: float `[B, H, W, C]`, in [0, 1].
      epsilon: radius in pixel units, in [0, 1].
      key: for random starts in addition to the image. Either one key, which is folded with each example's position in
        the batch, or one key per example `[B]`.
      steps: number of steps, from 1 to 2**31 - 1.
      step_size: in pixel units; 2.5 epsilon / steps if None.
      restarts: number of random starts, if there is a key.

    Returns:
      bool `[B]`. False proves a disagreement, so the mean is an upper bound of the rate of agreement;
      `certified_agreement` gives the lower bound.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: a value is out of range, or the networks differ in images or classes.

    Source: our interpretation of Faithful KD (arXiv:2306.04431).

    >>> teacher = lambda x: jnp.stack([x.sum((1, 2, 3)), 0.3 + 0 * x.sum((1, 2, 3))], -1)
    >>> student = lambda x: jnp.stack([x.sum((1, 2, 3)), 0.4 + 0 * x.sum((1, 2, 3))], -1)
    >>> images = jnp.array([0.1, 0.2]).reshape(2, 1, 1, 1)
    >>> attack_agreement(teacher, student, images, 0.15, steps=10).tolist()
    [True, False]
    """
    check_pair_attack(teacher, student, images, epsilon, steps, step_size, restarts)

    def largest_margin(network: LogitsFn, reference: LogitsFn) -> chex.Array:
        margin = lambda points: label_margin(network(points), jnp.argmax(reference(points), -1))
        return maximize(margin, images, epsilon, key=key, steps=steps, step_size=step_size, restarts=restarts)

    return jnp.maximum(largest_margin(student, teacher), largest_margin(teacher, student)) <= 0


def certified_agreement(
    teacher: Network, student: Network, images: chex.Array, epsilon: chex.Numeric, *, method: str = 'crown'
) -> chex.Array:
    r"""Whether teacher and student provably predict the same class everywhere in the ball.

    Certified if, in both networks, the upper bound of every other logit lies below the logit of the class that the
    teacher predicts at x.

    Args:
      teacher: of a `models.Classifier`.
      student: of a `models.Classifier` for the same images and classes.
      images: float `[B, H, W, C]`, in [0, 1].
      epsilon: radius in pixel units, in [0, 1].
      method: `ibp`, `crown_ibp` or `crown`, as in `logit_bounds`.

    Returns:
      bool `[B]`; the mean is a lower bound of the rate of agreement.

    Raises:
      AssertionError: a shape or type is wrong.
      InputError: as for `logit_bounds`, or the networks differ in images or classes.

    Source: our interpretation of Faithful KD (arXiv:2306.04431).

    >>> import jax
    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> network = models.Network(lenet, lenet.init(jax.random.key(0), images))
    >>> certified_agreement(network, network, images, 0.0).tolist()
    [True]
    """
    check_images(images)
    num_classes = infer_common_classes(teacher, student, images)
    predicted = jnp.argmax(teacher(images), -1)

    def certified(network: Network) -> chex.Array:
        (_, upper) = difference_bounds(network, images, predicted, epsilon, method=method)
        return jnp.all((upper < 0) | label_mask(predicted, num_classes), -1)

    return certified(teacher) & certified(student)

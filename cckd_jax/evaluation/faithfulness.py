"""Does the student imitate its teacher around an image? What attacks find, what bounds certify."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.models import Network
from cckd_jax.robustness.ascent import ascend
from cckd_jax.robustness.attacks import check_search
from cckd_jax.robustness.balls import BALLS
from cckd_jax.robustness.bounds import difference_bounds
from cckd_jax.robustness.gap_bounds import SignedGaps
from cckd_jax.robustness.inputs import check_epsilon, check_images, check_label_range, check_pair, example_keys
from cckd_jax.robustness.objectives import label_log_odds, label_margin, label_probability

LogitsFn = Callable[[chex.Array], chex.Array]


def attack_gap(
    teacher: LogitsFn,
    student: LogitsFn,
    images: chex.Array,
    labels: chex.Array,
    epsilon: chex.Numeric,
    *,
    key: chex.PRNGKey | None = None,
    steps: chex.Numeric = 20,
    step_size: chex.Numeric | None = None,
    restarts: chex.Numeric = 1,
) -> chex.Array:
    r"""Lower bound of the largest $|p_T(x')_y - p_S(x')_y|$ over the l_inf ball around x, cut to [0, 1].

    The larger of `signed_attack_gaps`.

    Args:
      teacher: `[B, H, W, C] -> [B, classes]`, for example a `models.Network`.
      student: for the same images and classes.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      key: of random starts beside the image: one, which is folded with each example's place, or one for each `[B]`.
      steps: >= 1.
      step_size: in pixel units; None means 2.5 epsilon / steps.
      restarts: random starts, with a key.

    Returns:
      float32 `[B]`, in [0, 1], at least the gap at x.

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: a value is out of range, or the networks differ in images or classes.

    Source: a reading of Faithful KD (arXiv:2306.04431), whose body could not be had.

    >>> teacher = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    >>> constant = lambda x: 0 * teacher(x)
    >>> attack_gap(teacher, constant, jnp.zeros((1, 1, 1, 1)), jnp.array([0]), 0.5, steps=4).tolist()
    [0.2311]
    """
    return jnp.maximum(
        *signed_attack_gaps(
            teacher, student, images, labels, epsilon, key=key, steps=steps, step_size=step_size, restarts=restarts
        )
    )


def signed_attack_gaps(
    teacher: LogitsFn,
    student: LogitsFn,
    images: chex.Array,
    labels: chex.Array,
    epsilon: chex.Numeric,
    *,
    key: chex.PRNGKey | None = None,
    steps: chex.Numeric = 20,
    step_size: chex.Numeric | None = None,
    restarts: chex.Numeric = 1,
) -> SignedGaps:
    r"""Lower bounds of over- and under-confidence of the student on the label, over the ball.

    Projected sign ascent on each signed gap, from the image itself and from random starts, along its own gradient and
    along that of the log odds $\log p_y / (1 - p_y)$: a network that is sure to the last digit, as one trained at a
    high temperature is, has no gradient in its confidences. The best point is kept.

    Args:
      teacher: `[B, H, W, C] -> [B, classes]`, for example a `models.Network`.
      student: for the same images and classes.
      images: float `[B, H, W, C]`, in [0, 1].
      labels: int `[B]`.
      epsilon: radius in pixel units, in [0, 1].
      key: of random starts beside the image: one, which is folded with each example's place, or one for each `[B]`.
      steps: >= 1.
      step_size: in pixel units; None means 2.5 epsilon / steps.
      restarts: random starts, with a key.

    Returns:
      `SignedGaps`, float32 `[B]` each, in [-1, 1].

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: a value is out of range, or the networks differ in images or classes.

    Source: a reading of Faithful KD (arXiv:2306.04431), whose body could not be had.

    >>> teacher = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    >>> constant = lambda x: 0 * teacher(x)
    >>> signed_attack_gaps(teacher, constant, jnp.zeros((1, 1, 1, 1)), jnp.array([0]), 0.5, steps=4).over.tolist()
    [0.0]
    """
    classes = _check(teacher, student, images, epsilon, steps, step_size, restarts)
    check_label_range(labels, images, classes)

    between = lambda measure, points: measure(student(points), labels) - measure(teacher(points), labels)

    def highest(sign: float) -> chex.Array:
        objective, odds = (
            lambda points, of=of: sign * between(of, points) for of in (label_probability, label_log_odds)
        )
        found = [_highest(objective, images, epsilon, key, steps, step_size, restarts, guide) for guide in (None, odds)]
        return jnp.maximum(*found)

    return SignedGaps(highest(1.0), highest(-1.0))


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
    r"""Whether no attack found a point of the ball at which teacher and student choose different classes.

    Projected sign ascent on how far another class of the one lies above the class that the other chooses there,
    $\max_{j \ne c} z_{S,j} - z_{S,c}$ with $c = \arg\max z_T$, and the same with the roles changed.

    Args:
      teacher: `[B, H, W, C] -> [B, classes]`, for example a `models.Network`.
      student: for the same images and classes.
      images: float `[B, H, W, C]`, in [0, 1].
      epsilon: radius in pixel units, in [0, 1].
      key: of random starts beside the image: one, which is folded with each example's place, or one for each `[B]`.
      steps: >= 1.
      step_size: in pixel units; None means 2.5 epsilon / steps.
      restarts: random starts, with a key.

    Returns:
      bool `[B]`; where it is false, they disagree. An upper bound of agreement; the lower one is `certified_agreement`.

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: a value is out of range, or the networks differ in images or classes.

    Source: a reading of Faithful KD (arXiv:2306.04431), whose body could not be had.

    >>> teacher = lambda x: jnp.stack([x.sum((1, 2, 3)), 0.3 + 0 * x.sum((1, 2, 3))], -1)
    >>> student = lambda x: jnp.stack([x.sum((1, 2, 3)), 0.4 + 0 * x.sum((1, 2, 3))], -1)
    >>> images = jnp.array([0.1, 0.2]).reshape(2, 1, 1, 1)
    >>> attack_agreement(teacher, student, images, 0.15, steps=10).tolist()
    [True, False]
    """
    _check(teacher, student, images, epsilon, steps, step_size, restarts)

    def against(one: LogitsFn, other: LogitsFn) -> chex.Array:
        objective = lambda points: label_margin(one(points), jnp.argmax(other(points), -1))
        return _highest(objective, images, epsilon, key, steps, step_size, restarts)

    return jnp.maximum(against(student, teacher), against(teacher, student)) <= 0


def certified_agreement(
    teacher: Network, student: Network, images: chex.Array, epsilon: chex.Numeric, *, method: str = 'crown'
) -> chex.Array:
    r"""Whether teacher and student provably choose one class all over the ball.

    Both are bounded against the class that the teacher chooses at x: certified where every other logit's upper bound
    lies below it, in both.

    Args:
      teacher: of a `models.Classifier`.
      student: of a `models.Classifier` for the same images and classes.
      images: float `[B, H, W, C]`, in [0, 1].
      epsilon: radius in pixel units, in [0, 1].
      method: `ibp`, `crown_ibp` or `crown`, as in `logit_bounds`.

    Returns:
      bool `[B]`; one less its mean is an upper bound of the rate of disagreement.

    Raises:
      AssertionError: shapes or types are wrong.
      InputError: as `logit_bounds`; or the networks differ in images or classes.

    Source: a reading of Faithful KD (arXiv:2306.04431), whose body could not be had.

    >>> from cckd_jax import models
    >>> images = jnp.full((1, 28, 28, 1), 0.5)
    >>> lenet = models.create('lenet5_half', num_classes=2)
    >>> network = models.Network(lenet, lenet.init(jax.random.key(0), images))
    >>> certified_agreement(network, network, images, 0.0).tolist()
    [True]
    """
    check_images(images)
    check_pair(teacher, student, images)
    chosen = jnp.argmax(teacher(images), -1)
    own = jax.nn.one_hot(chosen, teacher(images).shape[-1], dtype=bool)

    def certified(network: Network) -> chex.Array:
        (_, upper) = difference_bounds(network, images, chosen, epsilon, method=method)
        return jnp.all((upper < 0) | own, -1)

    return certified(teacher) & certified(student)


def faithful_fraction(gaps: np.ndarray, kappas: np.ndarray) -> np.ndarray:
    r"""The share of examples at which the pair is $(\epsilon, \kappa)$-faithful, as a curve over kappa.

    $|\{i : D_i \le \kappa\}| / N$. From certified upper bounds of the gaps it is a lower bound of the true curve; from
    attacks it is an upper one.

    Args:
      gaps: `[N]`, at one epsilon, over the examples of interest (the reading: those the teacher classifies correctly).
      kappas: `[K]`.

    Returns:
      float64 `[K]`, in [0, 1]; NaN where there are no examples.

    Raises:
      ValueError: the shapes are not `[N]` and `[K]`.

    Source: a reading of Faithful KD (arXiv:2306.04431), whose body could not be had.

    >>> faithful_fraction(np.array([0.1, 0.4, 0.2, 0.9]), np.array([0.0, 0.2, 1.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    gaps, kappas = np.asarray(gaps), np.asarray(kappas)
    if gaps.ndim != 1 or kappas.ndim != 1:
        raise ValueError(f'gaps must be [N] and kappas [K]; they are {gaps.shape} and {kappas.shape}')
    if not gaps.size:
        return np.full(kappas.shape, np.nan)
    return (gaps[None] <= kappas[:, None]).mean(-1)


def _check(teacher, student, images, epsilon, steps, step_size, restarts) -> int:
    check_images(images)
    check_epsilon(epsilon)
    check_search(steps, step_size, restarts)
    return check_pair(teacher, student, images)


def _highest(objective, images, epsilon, key, steps, step_size, restarts, guide=None) -> chex.Array:
    images = images.astype(jnp.float32)
    search = {
        'ball': BALLS['linf'],
        'epsilon': epsilon,
        'steps': steps,
        'step_size': 2.5 * epsilon / steps if step_size is None else step_size,
        'guide': guide,
    }
    (_, highest) = ascend(objective, images, **search)
    if key is None:
        return highest
    keys = example_keys(key, len(images))
    return jnp.maximum(highest, ascend(objective, images, **search, keys=keys, restarts=restarts)[1])

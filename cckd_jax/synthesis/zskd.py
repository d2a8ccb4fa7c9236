r"""Zero-shot knowledge distillation: images optimised towards class distributions of the teacher.

Source: Nayak et al., "Zero-Shot Knowledge Distillation in Deep Networks" (arXiv:1905.08114). The similarity of classes
is read from the kernel of the teacher's last layer; target distributions are drawn from Dirichlet distributions whose
concentrations follow it; a data impression is an image whose prediction at temperature $\tau$ is such a target.

With `space=features`, targets are drawn in the teacher's feature space instead; see `feature_targets`.

Readings of ours: pixels are clipped to [0, 1] after each step, each batch starts from fresh uniform noise with fresh
moments, and beta scales the concentrations after they are normalized, as in the paper's formula. In the published code
the normalization comes last and cancels beta.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax import losses
from cckd_jax.checks import check_positive
from cckd_jax.errors import InputError, lookup
from cckd_jax.models import Network
from cckd_jax.synthesis import feature_targets, last_layer
from cckd_jax.synthesis.inputs import make_input_optimizer, optimise_in_batches
from cckd_jax.synthesis.system import Problem, Request, Samples, System

_FLOOR = 1e-4  # a concentration of 0 has no Dirichlet distribution, and every row has one after its normalization


def class_similarity(kernel: chex.Array) -> chex.Array:
    r"""Cosine similarity of the classes, by their weights in the last layer.

    $C_{ij} = \frac{w_i^T w_j}{\|w_i\| \|w_j\|}$, with w_k the column of class k.

    Args:
      kernel: float `[F, C]`, of the last dense layer.

    Returns:
      float32 `[C, C]`, symmetric, with ones on the diagonal.

    Raises:
      InputError: a class has no weight other than 0.

    Source: section 3.1.1 of ZSKD (arXiv:1905.08114).

    >>> class_similarity(jnp.array([[1.0, 0.0, -2.0], [0.0, 3.0, 0.0]])).tolist()
    [[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]
    """
    chex.assert_rank(kernel, 2)
    kernel = jnp.asarray(kernel, jnp.float32)
    norms = jnp.linalg.norm(kernel, axis=0, keepdims=True)
    if not isinstance(norms, jax.core.Tracer) and not (np.asarray(norms) > 0).all():
        raise InputError('a class has only zero weights in the last layer, so its similarity is undefined')
    unit = kernel / norms
    return jnp.matmul(unit.T, unit, precision='highest')


def impression_concentrations(similarity: chex.Array, beta: float) -> chex.Array:
    r"""Concentrations of the Dirichlet distribution of each class.

    $\alpha_{ij} = \beta \frac{C_{ij} - \min_j C_{ij}}{\max_j C_{ij} - \min_j C_{ij}} + 10^{-4}$

    Args:
      similarity: float `[C, C]`, of `class_similarity`.
      beta: scale, above 0. Below 1, draws are close to one or few classes.

    Returns:
      float32 `[C, C]`; row k is for class k, and all entries are above 0.

    Raises:
      InputError: beta is not above 0.

    Source: section 3.1.2 of ZSKD (arXiv:1905.08114); the floor is in its published code.

    >>> impression_concentrations(jnp.array([[1.0, 0.0], [0.5, 1.0]]), beta=0.5).round(4).tolist()
    [[0.5001, 0.0001], [0.0001, 0.5001]]
    """
    chex.assert_rank(similarity, 2)
    check_positive(beta=beta)
    similarity = jnp.asarray(similarity, jnp.float32)
    (low, high) = (similarity.min(axis=1, keepdims=True), similarity.max(axis=1, keepdims=True))
    # Where all classes are alike, every concentration is beta.
    spread = high - low
    normalized = jnp.where(spread > 0, (similarity - low) / jnp.where(spread > 0, spread, 1.0), 1.0)
    return beta * normalized + _FLOOR


def draw_targets(
    key: chex.PRNGKey, similarity: chex.Array, betas: tuple[float, ...], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the distributions that impressions are optimised towards.

    Classes take turns, and so do the betas, so that all combinations are equally frequent.

    Args:
      key: typed PRNG key.
      similarity: float `[C, C]`.
      betas: scales of the concentrations.
      count: N.

    Returns:
      Labels int32 `[N]`, the class whose row each target was drawn from, and targets float32 `[N, C]`. The largest
      entry of a target is often that of another class.

    >>> labels, targets = draw_targets(jax.random.key(0), jnp.eye(3), (1.0, 0.1), 6)
    >>> labels.tolist(), targets.shape
    ([0, 1, 2, 0, 1, 2], (6, 3))
    """
    classes = len(similarity)
    index = np.arange(count)
    labels = (index % classes).astype(np.int32)
    rows = jnp.stack([impression_concentrations(similarity, beta) for beta in betas])
    concentrations = rows[index // classes % len(betas), labels]
    return labels, np.asarray(jax.random.dirichlet(key, concentrations), np.float32)


def _draw_in_softmax_space(key: chex.PRNGKey, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    similarity = class_similarity(last_layer.kernel(problem.teacher))
    return draw_targets(key, similarity, tuple(problem.settings['betas']), problem.settings['images'])


def _draw_in_feature_space(key: chex.PRNGKey, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    settings = problem.settings
    return feature_targets.draw_targets(
        key,
        problem.teacher,
        variance=settings['variance'],
        temperature=settings['temperature'],
        count=settings['images'],
    )


# How targets are drawn, and whether an activation loss is added.
_SPACES = {'softmax': (_draw_in_softmax_space, False), 'features': (_draw_in_feature_space, True)}


def check(request: Request) -> None:
    """Raises InputError for an unknown space, or for a teacher without the layers that it reads."""
    (draw, _) = lookup(_SPACES, request.settings['space'], 'transfer.space')
    last_layer.check(request.module, request.image_shape)
    if draw is _draw_in_feature_space:
        feature_targets.check(request)


def generate(problem: Problem) -> Samples:
    """Data impressions, batch by batch."""
    settings = problem.settings
    (key, noise_key) = jax.random.split(problem.key)
    (draw, has_activation_loss) = _SPACES[settings['space']]
    (labels, targets) = draw(key, problem)
    module, temperature = problem.teacher.module, settings['temperature']
    # The factor gives the weight of the activation loss the same meaning at every temperature.
    (factor, weight) = (temperature**2, settings['activation_weight']) if has_activation_loss else (1.0, 0.0)

    def loss(constants, images: chex.Array) -> chex.Array:
        (variables, targets) = constants
        (logits, features) = last_layer.logits_and_features(Network(module, variables), images)
        cross_entropy = losses.soft_cross_entropy(logits, targets, temperature=temperature)
        return jnp.sum(factor * cross_entropy - weight * jnp.abs(features).mean(1))

    def batch(rows: np.ndarray, start: int) -> tuple[Any, chex.Array]:
        noise = jax.random.uniform(jax.random.fold_in(noise_key, start), (len(rows), *problem.image_shape))
        return (problem.teacher.variables, targets[rows]), noise

    optimise = make_input_optimizer(loss, steps=settings['steps'], learning_rate=settings['learning_rate'])
    return Samples(optimise_in_batches(problem, optimise, batch, title='data impressions'), labels, targets)


ZSKD = System(
    generate,
    {
        'images': 24_000,
        'steps': 1500,
        'batch_size': 100,
        'learning_rate': 0.01,
        'temperature': 20.0,
        'space': 'softmax',
        'betas': (1.0, 0.1),
        'variance': 1.5,
        'activation_weight': 0.05,
    },
    labels=('nominal', 'soft', 'teacher'),
    check=check,
)

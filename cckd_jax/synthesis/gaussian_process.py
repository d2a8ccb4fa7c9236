r"""Gaussian-process regression on one-hot labels: a classifier for a few images, differentiable in the image.

All classes share the kernel $k(x, x') = s^2 \exp(-\|x - x'\|^2 / (2 \ell^2))$, and the prior mean is 1/C. The posterior
mean has a closed form, which is shorter here than a library of Gaussian processes is to set up.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

_FLOOR = 1e-3  # the least probability; a posterior mean may be negative
_STEPS = 100
_LEARNING_RATE = 0.1


class Kernel(NamedTuple):
    """Natural logarithms of the length scale, the signal's deviation s and the noise's deviation, scalars."""

    length: chex.Array
    signal: chex.Array
    noise: chex.Array


class GaussianProcess(NamedTuple):
    r"""A fitted process.

    Attributes:
      points: float32 `[k, D]`, the flattened images.
      weights: float32 `[k, C]`, $(K + \sigma^2 I)^{-1} (Y - 1/C)$.
      kernel: its hyper-parameters.
    """

    points: chex.Array
    weights: chex.Array
    kernel: Kernel

    def mean(self, images: chex.Array) -> chex.Array:
        """The posterior mean `[B, C]` at images `[B, ...]`; rows sum to 1, and entries may be negative."""
        values = covariance(self.kernel, images.reshape(len(images), -1), self.points)
        return 1 / self.weights.shape[1] + jnp.matmul(values, self.weights, precision='highest')

    def log_probabilities(self, images: chex.Array) -> chex.Array:
        """Log-probabilities `[B, C]`: of the posterior mean, raised to at least 0.001 and normalized."""
        bounded = jnp.maximum(self.mean(images), _FLOOR)
        return jnp.log(bounded / bounded.sum(1, keepdims=True))


def covariance(kernel: Kernel, first: chex.Array, second: chex.Array) -> chex.Array:
    """Covariances `[A, B]` of points `[A, D]` and `[B, D]`."""
    return jnp.exp(2 * kernel.signal - _square_distances(first, second) / (2 * jnp.exp(2 * kernel.length)))


def condition(kernel: Kernel, images: chex.Array, targets: chex.Array) -> GaussianProcess:
    """Conditions a process with given hyper-parameters on images `[k, ...]` with targets `[k, C]`.

    >>> kernel = Kernel(jnp.float32(0), jnp.float32(0), jnp.float32(-9))
    >>> process = condition(kernel, jnp.array([[0.0], [9.0]]), jnp.eye(2))
    >>> process.mean(jnp.array([[0.0], [9.0], [99.0]])).round(2).tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
    """
    points = jnp.asarray(images, jnp.float32).reshape(len(images), -1)
    factor = _factor(kernel, points)
    weights = jax.scipy.linalg.cho_solve((factor, True), targets - 1 / targets.shape[1])
    return GaussianProcess(points, weights, kernel)


def log_marginal_likelihood(kernel: Kernel, images: chex.Array, targets: chex.Array) -> chex.Array:
    """Log-likelihood of the targets, summed over the classes as if they were independent; a scalar."""
    points = images.reshape(len(images), -1)
    factor = _factor(kernel, points)
    residuals = targets - 1 / targets.shape[1]
    whitened = jax.scipy.linalg.solve_triangular(factor, residuals, lower=True)
    normalizer = targets.shape[1] * (jnp.log(jnp.diag(factor)).sum() + len(points) / 2 * jnp.log(2 * jnp.pi))
    return -jnp.square(whitened).sum() / 2 - normalizer


def fit(images: chex.Array, targets: chex.Array) -> GaussianProcess:
    """Fits a process by Adam steps up the marginal likelihood, from the median distance as the length scale.

    Args:
      images: float `[k, ...]` in [0, 1].
      targets: float `[k, C]`, one-hot labels.

    Returns:
      The process.

    >>> images = jnp.linspace(0.0, 1.0, 8).reshape(8, 1, 1, 1)
    >>> process = fit(images, jax.nn.one_hot(jnp.arange(8) // 4, 2))
    >>> process.log_probabilities(images).argmax(1).tolist()
    [0, 0, 0, 0, 1, 1, 1, 1]
    """
    images = jnp.asarray(images, jnp.float32)
    points = images.reshape(len(images), -1)
    squares = _square_distances(points, points)
    length = jnp.log(jnp.maximum(jnp.median(squares), 1e-6)) / 2
    kernel = Kernel(length, jnp.float32(-0.7), jnp.float32(-2.3))
    optimizer = optax.adam(_LEARNING_RATE)

    @jax.jit
    def step(kernel: Kernel, opt_state: optax.OptState) -> tuple[Kernel, optax.OptState]:
        gradient = jax.grad(lambda kernel: -log_marginal_likelihood(kernel, images, targets))(kernel)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(kernel, updates), opt_state

    opt_state = optimizer.init(kernel)
    for _ in range(_STEPS):
        (kernel, opt_state) = step(kernel, opt_state)
    return condition(kernel, images, targets)


def _factor(kernel: Kernel, points: chex.Array) -> chex.Array:
    # A floor on the noise, below which float32 cannot factorize the covariance.
    noise = jnp.exp(2 * kernel.noise) + 1e-5 * jnp.exp(2 * kernel.signal)
    return jnp.linalg.cholesky(covariance(kernel, points, points) + noise * jnp.eye(len(points)))


def _square_distances(first: chex.Array, second: chex.Array) -> chex.Array:
    product = jnp.matmul(first, second.T, precision='highest')
    return jnp.maximum(jnp.square(first).sum(1)[:, None] + jnp.square(second).sum(1)[None, :] - 2 * product, 0)

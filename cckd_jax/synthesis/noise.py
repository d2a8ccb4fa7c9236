"""Noise images: the baseline of every synthesis. The teacher labels pixels that were never optimised."""

import jax
import numpy as np

from cckd_jax.errors import lookup
from cckd_jax.synthesis.inputs import to_pixels
from cckd_jax.synthesis.system import Problem, Samples, System

# Pixels in [0, 1]. Mean and deviation of the second are our choice: the middle of the range, so that nothing about the
# real images enters.
DISTRIBUTIONS = {
    'uniform': jax.random.uniform,
    'gaussian': lambda key, shape: (0.5 + 0.25 * jax.random.normal(key, shape)).clip(0, 1),
}


def generate(problem: Problem) -> Samples:
    """Independent pixels, uniform or Gaussian."""
    draw = lookup(DISTRIBUTIONS, problem.settings['distribution'], 'transfer.distribution')
    chunks = []
    count, size = problem.settings['images'], 1000
    for start in range(0, count, size):
        pixels = draw(jax.random.fold_in(problem.key, start), (size, *problem.image_shape))
        chunks.append(to_pixels(pixels)[: count - start])
    return Samples(np.concatenate(chunks))


NOISE = System(generate, {'images': 24_000, 'distribution': 'uniform'})

"""Students with random weights, and the comparison of a program with a student."""

import jax
import jax.numpy as jnp
import numpy as np
from helpers import random_split

from cckd_jax import models
from cckd_jax.export import Description, Student, verification

CLASSES = tuple('abcdefg')


def random_student(model, shape, **options):
    """A student all of whose weights and running statistics are random."""
    description = Description(model, options, 'noise', CLASSES, shape)
    module = description.create()
    variables = jax.eval_shape(lambda: models.init(module, jax.random.key(0), jnp.zeros((1, *shape))))
    random = np.random.default_rng(0)

    def drawn(path, leaf):
        values = random.normal(size=leaf.shape).astype(np.float32)
        if path[-1].key == 'kernel':
            return values * np.float32(np.sqrt(2 / np.prod(leaf.shape[:-1])))
        return np.exp(0.3 * values) if path[-1].key in ('scale', 'var') else 0.3 * values

    return Student(description, jax.tree.map_with_path(drawn, variables))


def images_of(student):
    """Noise of three brightnesses."""
    images = random_split(3, shape=student.image_shape).images
    return (images * np.array([0.2, 0.6, 1.0]).reshape(3, 1, 1, 1)).astype(np.uint8)


def assert_agree(student, function, images):
    comparison = verification.compare(function(images), student(images), np.zeros(len(images)))
    assert comparison.relative_difference < 1e-5
    assert comparison.changed_predictions == 0

"""Modules that bring one network's feature maps to the shapes of others'."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Blocks, Tiny, assert_trees_close

from cckd_jax import models
from cckd_jax.models.alignment import resampled

VALID = jnp.arange(8) < 6


def student_maps(seed=0):
    random = np.random.default_rng(seed)
    return tuple(jnp.asarray(random.normal(size=(8, *shape)), jnp.float32) for shape in ((8, 8, 3), (4, 6, 5)))


def test_resampling_by_hand():
    line = lambda *values: jnp.array(values, jnp.float32).reshape(1, 1, -1, 1)
    for values, size, expected in (
        ((0, 1, 2, 3, 4), 3, [0.5, 2, 3.5]),  # windows of two, three and two, which overlap
        ((0, 1, 2, 3), 2, [0.5, 2.5]),
        ((3, 0), 3, [3, 1.5, 0]),
        ((7,), 4, [7, 7, 7, 7]),
    ):
        np.testing.assert_allclose(resampled(line(*values), 1, size)[0, 0, :, 0], expected, rtol=1e-6)
    maps = student_maps()[1]
    np.testing.assert_array_equal(resampled(maps, 4, 6), maps)
    # Rows down and columns up at once; constants stay.
    np.testing.assert_allclose(resampled(jnp.full((2, 4, 3, 1), 2.0), 3, 7), np.full((2, 3, 7, 1), 2.0), rtol=1e-6)


@pytest.mark.parametrize(
    ('module', 'parameters'),
    [
        # 1x1 convolutions with bias, scale and bias of batch norm.
        (models.Alignments(((4, 6, 7), (2, 3, 2))), (5 * 7 + 7 + 14) + (5 * 2 + 2 + 4)),
        # Strided 3x3, transposed 4x4, kernel (3, 4), and 3x3 after resampling.
        (
            models.Regressors(((2, 3, 2), (8, 12, 2), (2, 3, 1), (5, 5, 2)), stage=1),
            (45 * 2 + 2 + 4) + (80 * 2 + 2 + 4) + (45 + 1 + 2) + (45 * 2 + 2 + 4),
        ),
        (models.Regressors(((3, 2, 2),), stage=1), 2 * 5 * 5 * 2 + 2 + 4),
    ],
)
def test_maps_of_each_teachers_shape(module, parameters):
    maps = student_maps()
    (found, variables) = jax.jit(module.init_with_output)(jax.random.key(0), maps)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == parameters
    assert tuple(each.shape[1:] for each in found) == module.shapes
    assert all(np.min(each) >= 0 for each in found)


def test_batch_norm_sees_the_valid_rows_alone():
    module = models.Alignments(((2, 3, 2), (4, 6, 1)))
    maps = student_maps()
    variables = jax.jit(module.init)(jax.random.key(0), maps)
    spoiled = tuple(jnp.where(VALID[:, None, None, None], each, 1e3) for each in maps)
    train = jax.jit(lambda of: module.apply(variables, of, models.TrainMode(VALID), mutable=['batch_stats']))
    runs = [train(of) for of in (maps, spoiled)]
    (found, expected) = (([each[:6] for each in aligned], moved) for (aligned, moved) in runs)
    assert_trees_close(found, expected, rtol=1e-5)
    normal = np.asarray(jnp.concatenate([each.reshape(6, -1) for each in found[0]], 1))
    assert 0.1 < normal.std() < 2


def test_feature_shapes_are_those_of_the_features():
    assert models.feature_shapes(Tiny(), (8, 8, 3)) == ((3, 3, 6),)
    assert models.feature_shapes(Blocks(), (10, 10, 1)) == ((5, 5, 3), (2, 2, 4))

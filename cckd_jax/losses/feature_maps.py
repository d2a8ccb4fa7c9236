"""Matching the feature maps of K teachers, to whose shapes adapters beside the student bring the student's maps.

After the code of CA-MKD (Zhang, Chen and Wang, arXiv:2201.00007). Maps are `[B, H, W, C]`; each teacher has its own
shape.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_hyperparameters
from cckd_jax.losses.multi_teacher import cross_entropy_weights

FeatureMaps = Sequence[chex.Array]


def ca_mkd_feature_weights(
    aligned_logits: chex.Array, labels: chex.Array, *, weights_gradient: bool = True
) -> chex.Array:
    r"""Weights of the teachers' feature maps: the better a teacher's classifier reads the student's, the larger.

    $w_{kb} = \frac{1}{K - 1} (1 - \mathrm{softmax}_k(\mathrm{CE}(z_{S \to T_k}, y)_b))$, at temperature 1.

    Args:
      aligned_logits: float `[K, B, C]`, the teachers' classifiers applied to the student's aligned feature maps.
      labels: int `[B]`, in `[0, C)`.
      weights_gradient: whether gradients flow through the weights, as in the paper's code.

    Returns:
      float32 `[K, B]`, in [0, 1 / (K - 1)]; sums to 1 over the teachers.

    Raises:
      InputError: there is only one teacher, or a label is out of range.

    Source: equations 4 to 6 of CA-MKD (arXiv:2201.00007).

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[[0.0, 50.0]], [[50.0, 0.0]], [[50.0, 0.0]]])
    >>> ca_mkd_feature_weights(logits, jnp.array([0])).tolist()
    [[0.0], [0.5], [0.5]]
    """
    return cross_entropy_weights(aligned_logits if weights_gradient else jax.lax.stop_gradient(aligned_logits), labels)


def ca_mkd_features(
    aligned: FeatureMaps,
    teacher_features: FeatureMaps,
    aligned_logits: chex.Array,
    labels: chex.Array,
    *,
    reduction: str = 'official',
    weights_gradient: bool = True,
) -> chex.Array:
    r"""CA-MKD on features: weighted squared distances to the teachers' last feature maps.

    With w from `ca_mkd_feature_weights`, `paper` is $L_b = \sum_k w_{kb} \|F_{T_k b} - r_k(F_{S b})\|_2^2$, and
    `official` is $L_b = \frac{1}{K} \sum_k w_{kb} \|F_{T_k b} - r_k(F_{S b})\|_2^2 / (H_k W_k C_k)$.

    Args:
      aligned: K maps float `[B, H_k, W_k, C_k]`, the student's map in each teacher's shape.
      teacher_features: K maps float of the same shapes; no gradient flows into them.
      aligned_logits: float `[K, B, C]`, the teachers' classifiers applied to `aligned`.
      labels: int `[B]`, in `[0, C)`.
      reduction: `official`, the factors of the paper's code, or `paper`, those of its text.
      weights_gradient: whether gradients flow through the weights, as in the paper's code.

    Returns:
      float32 `[B]`.

    Raises:
      InputError: there is only one teacher, or the reduction or a label is out of range.

    Source: equation 7 of CA-MKD (arXiv:2201.00007); the factors of `official` are from its code.

    >>> import jax.numpy as jnp
    >>> shapes = [(1, 2, 2, 3), (1, 1, 1, 5)]
    >>> aligned, teachers = [jnp.ones(shape) for shape in shapes], [jnp.zeros(shape) for shape in shapes]
    >>> ca_mkd_features(aligned, teachers, jnp.zeros((2, 1, 4)), jnp.array([0]), reduction='paper').tolist()
    [8.5]
    """
    check_hyperparameters(reduction=reduction)
    weights = ca_mkd_feature_weights(aligned_logits, labels, weights_gradient=weights_gradient)
    official = reduction == 'official'
    distances = _squared_distances(aligned, teacher_features, jnp.mean if official else jnp.sum)
    chex.assert_equal_shape((weights, distances))
    return jnp.sum(weights * distances, axis=0) / (len(weights) if official else 1)


def fitnet_hints(regressed: FeatureMaps, teacher_hints: FeatureMaps) -> chex.Array:
    r"""FitNet's hints from several teachers: mean squared errors of intermediate feature maps, averaged.

    $L_b = \frac{1}{K} \sum_k \|F_{T_k b} - r_k(F_{S b})\|_2^2 / (H_k W_k C_k)$

    Args:
      regressed: K maps float `[B, H_k, W_k, C_k]`, the student's map in each teacher's shape.
      teacher_hints: K maps float of the same shapes; no gradient flows into them.

    Returns:
      float32 `[B]`.

    Source: Romero et al. (arXiv:1412.6550), per teacher, as in CA-MKD's code. That code detaches the mean from the
    graph, so its gradient is zero; here it is not detached.

    >>> import jax.numpy as jnp
    >>> regressed = [jnp.ones((1, 2, 2, 3)), jnp.ones((1, 1, 1, 5))]
    >>> fitnet_hints(regressed, [jnp.zeros((1, 2, 2, 3)), jnp.ones((1, 1, 1, 5))]).tolist()
    [0.5]
    """
    return jnp.mean(_squared_distances(regressed, teacher_hints, jnp.mean), axis=0)


def _squared_distances(
    student_maps: FeatureMaps, teacher_maps: FeatureMaps, reduce: Callable[[chex.Array, tuple[int, ...]], chex.Array]
) -> chex.Array:
    """Float32 `[K, B]`, reduced over the axes of a map by `reduce`, which is `jnp.mean` or `jnp.sum`."""
    chex.assert_equal(len(student_maps), len(teacher_maps))
    distances = []
    for student, teacher in zip(student_maps, teacher_maps, strict=True):
        chex.assert_rank((student, teacher), 4)
        chex.assert_equal_shape((student, teacher))
        difference = student.astype(jnp.float32) - jax.lax.stop_gradient(teacher).astype(jnp.float32)
        distances.append(reduce(jnp.square(difference), (1, 2, 3)))
    return jnp.stack(distances)

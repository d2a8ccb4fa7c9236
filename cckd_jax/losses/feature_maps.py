"""Matching the feature maps of K teachers, to which modules that train beside the student bring the student's.

After the code of CA-MKD (Zhang, Chen and Wang, arXiv:2201.00007). Maps are `[B, H, W, C]`, each teacher's of its own
size.
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_reduction
from cckd_jax.losses.multi_teacher import weights_by_label

Maps = Sequence[chex.Array]


def ca_mkd_feature_weights(
    aligned_logits: chex.Array, labels: chex.Array, *, weights_gradient: bool = True
) -> chex.Array:
    r"""The weight of each teacher's feature map: how well that teacher's classifier reads the student's.

    $w_{kb} = \frac{1}{K - 1} (1 - \mathrm{softmax}_k(\mathrm{CE}(z_{S \to T_k}, y)_b))$, at temperature 1.

    Args:
      aligned_logits: float `[K, B, C]`, what the teachers' own classifiers make of the student's aligned features.
      labels: int `[B]`, in `[0, C)`.
      weights_gradient: whether a gradient flows through the weights, as in the paper's code.

    Returns:
      float32 `[K, B]`, in [0, 1 / (K - 1)], of sum 1 over the teachers.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: there is one teacher alone.

    Source: equations 4 to 6 of CA-MKD (arXiv:2201.00007).

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[[0.0, 50.0]], [[50.0, 0.0]], [[50.0, 0.0]]])
    >>> ca_mkd_feature_weights(logits, jnp.array([0])).tolist()
    [[0.0], [0.5], [0.5]]
    """
    return weights_by_label(aligned_logits if weights_gradient else jax.lax.stop_gradient(aligned_logits), labels)


def ca_mkd_features(
    aligned: Maps,
    teacher_features: Maps,
    aligned_logits: chex.Array,
    labels: chex.Array,
    *,
    reduction: str = 'official',
    weights_gradient: bool = True,
) -> chex.Array:
    r"""CA-MKD on features: a teacher's last feature map counts the more, the better its classifier reads the student's.

    With w of `ca_mkd_feature_weights`, `paper`: $L_b = \sum_k w_{kb} \|F_{T_k b} - r_k(F_{S b})\|_2^2$. `official`:
    $L_b = \frac{1}{K} \sum_k w_{kb} \|F_{T_k b} - r_k(F_{S b})\|_2^2 / (H_k W_k C_k)$.

    Args:
      aligned: K maps float `[B, H_k, W_k, C_k]`, the student's brought to each teacher's shape.
      teacher_features: K maps float of the same shapes; no gradient flows into them.
      aligned_logits: float `[K, B, C]`, what the teachers' classifiers make of `aligned`.
      labels: int `[B]`, in `[0, C)`.
      reduction: `official`, as the paper's code, or `paper`, as its text.
      weights_gradient: whether a gradient flows through the weights, as in the paper's code.

    Returns:
      float32 `[B]`.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: there is one teacher alone, or there is no such reduction.

    Source: equation 7 of CA-MKD (arXiv:2201.00007); the factors of `official` are its code's.

    >>> import jax.numpy as jnp
    >>> maps, zeros = (
    ...     [jnp.ones((1, 2, 2, 3)), jnp.ones((1, 1, 1, 5))],
    ...     [jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 1, 1, 5))],
    ... )
    >>> ca_mkd_features(maps, zeros, jnp.zeros((2, 1, 4)), jnp.array([0]), reduction='paper').tolist()
    [8.5]
    """
    check_reduction(reduction)
    weights = ca_mkd_feature_weights(aligned_logits, labels, weights_gradient=weights_gradient)
    official = reduction == 'official'
    apart = _squares(aligned, teacher_features, jnp.mean if official else jnp.sum)
    chex.assert_equal_shape((weights, apart))
    return jnp.sum(weights * apart, axis=0) / (len(weights) if official else 1)


def fitnet_hints(regressed: Maps, teacher_hints: Maps) -> chex.Array:
    r"""FitNet's hints from several teachers: mean squared errors in the middle of the networks, averaged.

    $L_b = \frac{1}{K} \sum_k \|F_{T_k b} - r_k(F_{S b})\|_2^2 / (H_k W_k C_k)$

    Args:
      regressed: K maps float `[B, H_k, W_k, C_k]`, the student's brought to each teacher's shape.
      teacher_hints: K maps float of the same shapes; no gradient flows into them.

    Returns:
      float32 `[B]`.

    Raises:
      AssertionError: shapes or types are wrong.

    Source: Romero et al. (arXiv:1412.6550) for each teacher, as in CA-MKD's code; there the mean is detached from the
    graph, so that its gradient is zero, here it has one.

    >>> import jax.numpy as jnp
    >>> fitnet_hints(
    ...     [jnp.ones((1, 2, 2, 3)), jnp.ones((1, 1, 1, 5))], [jnp.zeros((1, 2, 2, 3)), jnp.ones((1, 1, 1, 5))]
    ... ).tolist()
    [0.5]
    """
    return jnp.mean(_squares(regressed, teacher_hints, jnp.mean), axis=0)


def _squares(maps: Maps, targets: Maps, over) -> chex.Array:
    chex.assert_equal(len(maps), len(targets))
    for one, other in zip(maps, targets, strict=True):
        chex.assert_rank((one, other), 4)
        chex.assert_equal_shape((one, other))
    wide = lambda each: each.astype(jnp.float32)
    return jnp.stack(
        [
            over(jnp.square(wide(one) - wide(jax.lax.stop_gradient(other))), axis=(1, 2, 3))
            for one, other in zip(maps, targets, strict=True)
        ]
    )

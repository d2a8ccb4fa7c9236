"""Robust training begins easy: the radius and its weight grow over the epochs."""

import chex
import jax.numpy as jnp

from cckd_jax.checks import check_non_negative


def ramp(epoch: chex.Numeric, *, warm_up: chex.Numeric = 0, length: chex.Numeric = 10) -> chex.Array:
    r"""The share of a hyper-parameter that holds in an epoch: 0, then a straight line, then 1.

    $\mathrm{clip}((n - w + 1) / (l + 1), 0, 1)$, so that a ramp of length 0 is a step at the end of the warm-up.

    Args:
      epoch: n, from 0; it may be traced.
      warm_up: w >= 0, epochs of 0.
      length: l >= 0, epochs between 0 and 1.

    Returns:
      float32 scalar, in [0, 1].

    Raises:
      ValueError: a length is below 0.

    Source: Gowal et al. (arXiv:1810.12715), section 4, where steps are counted and not epochs.

    >>> [ramp(epoch, warm_up=1, length=3).item() for epoch in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    check_non_negative(warm_up=warm_up, length=length)
    return jnp.clip((jnp.asarray(epoch, jnp.float32) - warm_up + 1) / (length + 1), 0.0, 1.0)

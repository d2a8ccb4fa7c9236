"""The ramp of robust training: the radius and its weight grow over the first epochs."""

import chex
import jax.numpy as jnp

from cckd_jax.checks import check_non_negative


def ramp(epoch: chex.Numeric, *, warm_up: chex.Numeric = 0, length: chex.Numeric = 10) -> chex.Array:
    r"""Factor of a hyper-parameter in an epoch: 0 during the warm-up, then linear growth, then 1.

    $\mathrm{clip}((n - w + 1) / (l + 1), 0, 1)$. A ramp of length 0 is a step at the end of the warm-up.

    Args:
      epoch: n, from 0; it may be traced.
      warm_up: w >= 0, number of epochs with factor 0.
      length: l >= 0, number of epochs with a factor between 0 and 1.

    Returns:
      float32 scalar, in [0, 1].

    Raises:
      InputError: a length is below 0.

    Source: Gowal et al. (arXiv:1810.12715), section 4, which counts steps instead of epochs.

    >>> [ramp(epoch, warm_up=1, length=3).item() for epoch in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    check_non_negative(warm_up=warm_up, length=length)
    # As floats, because a whole number of 2**31 or above does not fit into JAX's default int32.
    (epoch, warm_up, length) = (jnp.asarray(value, jnp.float32) for value in (epoch, warm_up, length))
    return jnp.clip((epoch - warm_up + 1) / (length + 1), 0.0, 1.0)

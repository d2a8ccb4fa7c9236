"""Earlier address of `cckd_jax.robustness.bounds.propagation`."""

from cckd_jax.robustness.bounds import PROPAGATIONS as PROPAGATIONS

"""Certified bounds: ranges that contain every output of a network over a ball around an image."""

from cckd_jax.robustness.bounds.layer_rules import check_layers as check_layers
from cckd_jax.robustness.bounds.outputs import (
    confidence_bounds as confidence_bounds,
    difference_bounds as difference_bounds,
    full_precision as full_precision,
    logit_bounds as logit_bounds,
)
from cckd_jax.robustness.bounds.propagation import PROPAGATIONS as PROPAGATIONS

# Earlier name.
exactly = full_precision

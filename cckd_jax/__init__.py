"""Distil image classifiers sample by sample, in JAX and Flax."""

from cckd_jax import evaluation as evaluation
from cckd_jax import losses as losses
from cckd_jax import methods as methods
from cckd_jax import models as models
from cckd_jax import selection as selection
from cckd_jax.errors import InputError as InputError

__version__ = '0.1.0'

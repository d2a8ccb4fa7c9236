"""Flax Linen networks by name: `create('lenet5')`; each shows its stage features, its head and its layers."""

from cckd_jax.models.alignment import Alignments as Alignments
from cckd_jax.models.alignment import Regressors as Regressors
from cckd_jax.models.alignment import feature_shapes as feature_shapes
from cckd_jax.models.base import Classifier as Classifier
from cckd_jax.models.base import Network as Network
from cckd_jax.models.base import Training as Training
from cckd_jax.models.base import init as init
from cckd_jax.models.base import train_forward as train_forward
from cckd_jax.models.registry import MODELS as MODELS
from cckd_jax.models.registry import check_fits as check_fits
from cckd_jax.models.registry import create as create

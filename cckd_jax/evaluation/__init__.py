"""Pure measures over networks: what a student is worth, and against which attacks."""

from cckd_jax.evaluation.attacks import fgsm as fgsm
from cckd_jax.evaluation.batched import over_batches as over_batches
from cckd_jax.evaluation.batched import predict as predict
from cckd_jax.evaluation.transfer import transfer_rates as transfer_rates

"""Pure measures over networks: what a student is worth, and against which attacks."""

from cckd_jax.evaluation.accuracy import correct as correct
from cckd_jax.evaluation.attacks import fgsm as fgsm
from cckd_jax.evaluation.batched import batched as batched
from cckd_jax.evaluation.batched import predict as predict
from cckd_jax.evaluation.batched import predictor as predictor
from cckd_jax.evaluation.transfer import transfer_rates as transfer_rates

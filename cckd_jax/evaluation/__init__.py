"""Pure measures over networks: how accurate, how sure, how robust, and how faithful to its teacher a student is."""

from cckd_jax.evaluation.accuracy import correct as correct
from cckd_jax.evaluation.attacks import fgsm as fgsm
from cckd_jax.evaluation.attacks import margin_loss as margin_loss
from cckd_jax.evaluation.attacks import pgd as pgd
from cckd_jax.evaluation.batched import batched as batched
from cckd_jax.evaluation.batched import predict as predict
from cckd_jax.evaluation.batched import predictor as predictor
from cckd_jax.evaluation.square import square as square
from cckd_jax.evaluation.transfer import transfer_rates as transfer_rates

"""Pure measures over networks: how accurate, how sure, how robust, and how faithful to its teacher a student is."""

from cckd_jax.evaluation.accuracy import correct as correct
from cckd_jax.evaluation.attacks import fgsm as fgsm
from cckd_jax.evaluation.attacks import margin_loss as margin_loss
from cckd_jax.evaluation.attacks import pgd as pgd
from cckd_jax.evaluation.batched import batched as batched
from cckd_jax.evaluation.batched import predict as predict
from cckd_jax.evaluation.batched import predictor as predictor
from cckd_jax.evaluation.calibration import Reliability as Reliability
from cckd_jax.evaluation.calibration import adaptive_calibration_error as adaptive_calibration_error
from cckd_jax.evaluation.calibration import brier_score as brier_score
from cckd_jax.evaluation.calibration import expected_calibration_error as expected_calibration_error
from cckd_jax.evaluation.calibration import negative_log_likelihood as negative_log_likelihood
from cckd_jax.evaluation.calibration import reliability as reliability
from cckd_jax.evaluation.imitation import Imitation as Imitation
from cckd_jax.evaluation.imitation import imitation as imitation
from cckd_jax.evaluation.square import square as square
from cckd_jax.evaluation.temperature import fit_temperature as fit_temperature
from cckd_jax.evaluation.transfer import transfer_rates as transfer_rates

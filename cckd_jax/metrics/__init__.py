"""Metrics as pure functions of predictions, and the predictions themselves, over a whole data set."""

from cckd_jax.metrics.accuracy import correct as correct, ensemble as ensemble
from cckd_jax.metrics.agreement import (
    TeacherAgreement as TeacherAgreement,
    faithful_fraction as faithful_fraction,
    rank_correlation as rank_correlation,
    teacher_agreement as teacher_agreement,
)
from cckd_jax.metrics.calibration import (
    Reliability as Reliability,
    adaptive_calibration_error as adaptive_calibration_error,
    brier_score as brier_score,
    expected_calibration_error as expected_calibration_error,
    negative_log_likelihood as negative_log_likelihood,
    reliability as reliability,
)
from cckd_jax.metrics.prediction import make_predict as make_predict, map_dataset as map_dataset, predict as predict
from cckd_jax.metrics.temperature import fit_temperature as fit_temperature
from cckd_jax.metrics.transfer import transfer_rates as transfer_rates

"""Public names for evaluating networks: metrics, attacks, certified bounds and confidence gaps.

This module only re-exports. The code is in `cckd_jax.metrics` and `cckd_jax.robustness`.
"""

from cckd_jax.metrics import (
    Reliability as Reliability,
    TeacherAgreement as TeacherAgreement,
    adaptive_calibration_error as adaptive_calibration_error,
    brier_score as brier_score,
    correct as correct,
    ensemble as ensemble,
    expected_calibration_error as expected_calibration_error,
    faithful_fraction as faithful_fraction,
    fit_temperature as fit_temperature,
    make_predict as make_predict,
    map_dataset as map_dataset,
    negative_log_likelihood as negative_log_likelihood,
    predict as predict,
    rank_correlation as rank_correlation,
    reliability as reliability,
    teacher_agreement as teacher_agreement,
    transfer_rates as transfer_rates,
)
from cckd_jax.robustness import (
    SignedGaps as SignedGaps,
    attack_agreement as attack_agreement,
    attack_gap as attack_gap,
    certified_agreement as certified_agreement,
    confidence_bounds as confidence_bounds,
    confidence_gap_bounds as confidence_gap_bounds,
    difference_bounds as difference_bounds,
    exact_cross_entropy as exact_cross_entropy,
    fgsm as fgsm,
    log_odds_gap_bounds as log_odds_gap_bounds,
    logit_bounds as logit_bounds,
    margin_loss as margin_loss,
    pgd as pgd,
    signed_attack_gaps as signed_attack_gaps,
    signed_gap_bounds as signed_gap_bounds,
    square as square,
)

# Earlier names.
Imitation = TeacherAgreement
imitation = teacher_agreement
batched = map_dataset
predictor = make_predict
odds_gap_bounds = log_odds_gap_bounds

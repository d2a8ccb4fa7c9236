"""Pure measures over networks: how accurate, how sure, how robust, and how faithful to its teacher a student is."""

from cckd_jax.evaluation.accuracy import correct as correct, ensemble as ensemble
from cckd_jax.evaluation.batched import batched as batched, predict as predict, predictor as predictor
from cckd_jax.evaluation.calibration import (
    Reliability as Reliability,
    adaptive_calibration_error as adaptive_calibration_error,
    brier_score as brier_score,
    expected_calibration_error as expected_calibration_error,
    negative_log_likelihood as negative_log_likelihood,
    reliability as reliability,
)
from cckd_jax.evaluation.correlation import rank_correlation as rank_correlation
from cckd_jax.evaluation.faithfulness import (
    attack_agreement as attack_agreement,
    attack_gap as attack_gap,
    certified_agreement as certified_agreement,
    faithful_fraction as faithful_fraction,
    signed_attack_gaps as signed_attack_gaps,
)
from cckd_jax.evaluation.imitation import Imitation as Imitation, imitation as imitation
from cckd_jax.evaluation.temperature import fit_temperature as fit_temperature
from cckd_jax.evaluation.transfer import transfer_rates as transfer_rates
from cckd_jax.robustness import (
    SignedGaps as SignedGaps,
    confidence_bounds as confidence_bounds,
    confidence_gap_bounds as confidence_gap_bounds,
    difference_bounds as difference_bounds,
    exact_cross_entropy as exact_cross_entropy,
    fgsm as fgsm,
    logit_bounds as logit_bounds,
    margin_loss as margin_loss,
    odds_gap_bounds as odds_gap_bounds,
    pgd as pgd,
    signed_gap_bounds as signed_gap_bounds,
    square as square,
)

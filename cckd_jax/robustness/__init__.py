"""Behaviour of networks in a ball around an image: attacks search it, certified bounds enclose it.

Confidence gaps between a teacher and a student come from both, and lie between the two.
"""

from cckd_jax.robustness.attacks import BALLS as BALLS, ascend as ascend, fgsm as fgsm, pgd as pgd, square as square
from cckd_jax.robustness.bounds import (
    PROPAGATIONS as PROPAGATIONS,
    check_layers as check_layers,
    confidence_bounds as confidence_bounds,
    difference_bounds as difference_bounds,
    full_precision as full_precision,
    logit_bounds as logit_bounds,
)
from cckd_jax.robustness.gaps import (
    SignedGaps as SignedGaps,
    attack_agreement as attack_agreement,
    attack_gap as attack_gap,
    certified_agreement as certified_agreement,
    confidence_gap_bounds as confidence_gap_bounds,
    log_odds_gap_bounds as log_odds_gap_bounds,
    signed_attack_gaps as signed_attack_gaps,
    signed_gap_bounds as signed_gap_bounds,
)
from cckd_jax.robustness.inputs import example_keys as example_keys
from cckd_jax.robustness.objectives import exact_cross_entropy as exact_cross_entropy, margin_loss as margin_loss
from cckd_jax.robustness.ramp import ramp as ramp

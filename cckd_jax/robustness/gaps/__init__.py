"""Confidence gaps between teacher and student around an image: attacks give lower bounds, certificates upper bounds.

Faithful KD (arXiv:2306.04431) is the motivation. Only its abstract was available; the definitions are our
interpretation.
"""

from cckd_jax.robustness.gaps.agreement import (
    attack_agreement as attack_agreement,
    certified_agreement as certified_agreement,
)
from cckd_jax.robustness.gaps.attacked import attack_gap as attack_gap, signed_attack_gaps as signed_attack_gaps
from cckd_jax.robustness.gaps.certified import (
    SignedGaps as SignedGaps,
    confidence_gap_bounds as confidence_gap_bounds,
    log_odds_gap_bounds as log_odds_gap_bounds,
    signed_gap_bounds as signed_gap_bounds,
)

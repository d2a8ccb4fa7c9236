"""What networks do in a ball around an image: attacks find the worst of it, bounds certify that there is no worse."""

from cckd_jax.robustness.ascent import ascend as ascend
from cckd_jax.robustness.attacks import fgsm as fgsm, pgd as pgd
from cckd_jax.robustness.balls import BALLS as BALLS
from cckd_jax.robustness.bounds import (
    confidence_bounds as confidence_bounds,
    difference_bounds as difference_bounds,
    logit_bounds as logit_bounds,
)
from cckd_jax.robustness.gap_bounds import (
    SignedGaps as SignedGaps,
    confidence_gap_bounds as confidence_gap_bounds,
    odds_gap_bounds as odds_gap_bounds,
    signed_gap_bounds as signed_gap_bounds,
)
from cckd_jax.robustness.objectives import exact_cross_entropy as exact_cross_entropy, margin_loss as margin_loss
from cckd_jax.robustness.ramp import ramp as ramp
from cckd_jax.robustness.square import square as square
from cckd_jax.robustness.translation import check_layers as check_layers

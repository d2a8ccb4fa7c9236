"""Adversarial attacks: search in a ball around an image for the point with the largest loss."""

from cckd_jax.robustness.attacks.ascent import ascend as ascend
from cckd_jax.robustness.attacks.balls import BALLS as BALLS
from cckd_jax.robustness.attacks.gradient import fgsm as fgsm, pgd as pgd
from cckd_jax.robustness.attacks.square import square as square

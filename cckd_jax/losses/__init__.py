"""Per-example losses: pure functions that return one float32 value per example and never reduce."""

from cckd_jax.losses.confidence import cckd_l as cckd_l
from cckd_jax.losses.confidence import cckd_t as cckd_t
from cckd_jax.losses.confidence import confidence as confidence
from cckd_jax.losses.confidence import confidence_targets as confidence_targets
from cckd_jax.losses.distillation import cross_entropy as cross_entropy
from cckd_jax.losses.distillation import kd as kd
from cckd_jax.losses.distillation import soft_cross_entropy as soft_cross_entropy
from cckd_jax.losses.distillation import teacher_only as teacher_only

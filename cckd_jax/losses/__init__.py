"""Per-example losses: pure functions that return one float32 value per example and never reduce."""

from cckd_jax.losses.adversarial import ard as ard
from cckd_jax.losses.adversarial import iad as iad
from cckd_jax.losses.adversarial import rslad as rslad
from cckd_jax.losses.agreement import aekd as aekd
from cckd_jax.losses.agreement import aekd_weights as aekd_weights
from cckd_jax.losses.confidence import cckd_l as cckd_l
from cckd_jax.losses.confidence import cckd_t as cckd_t
from cckd_jax.losses.confidence import confidence as confidence
from cckd_jax.losses.confidence import confidence_targets as confidence_targets
from cckd_jax.losses.distillation import cross_entropy as cross_entropy
from cckd_jax.losses.distillation import kd as kd
from cckd_jax.losses.distillation import soft_cross_entropy as soft_cross_entropy
from cckd_jax.losses.distillation import teacher_only as teacher_only
from cckd_jax.losses.divergence import divergence as divergence
from cckd_jax.losses.faithful import faithful_adversarial as faithful_adversarial
from cckd_jax.losses.faithful import faithful_certified as faithful_certified
from cckd_jax.losses.feature_maps import ca_mkd_feature_weights as ca_mkd_feature_weights
from cckd_jax.losses.feature_maps import ca_mkd_features as ca_mkd_features
from cckd_jax.losses.feature_maps import fitnet_hints as fitnet_hints
from cckd_jax.losses.multi_teacher import aver as aver
from cckd_jax.losses.multi_teacher import ca_mkd_logits as ca_mkd_logits
from cckd_jax.losses.multi_teacher import ca_mkd_weights as ca_mkd_weights
from cckd_jax.losses.multi_teacher import ebkd as ebkd
from cckd_jax.losses.multi_teacher import ebkd_weights as ebkd_weights
from cckd_jax.losses.robust import certified_cross_entropy as certified_cross_entropy

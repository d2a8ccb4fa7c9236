"""Per-example losses: pure functions that return one float32 value per example and never reduce.

Every loss computes in float32, whatever the dtype of the logits. With finite logits of magnitude up to 1e30 and
hyper-parameters in the ranges of `checks.HYPERPARAMETER_RANGES` (temperatures in [0.001, 10000], weights in
[0, 10000]), values are finite, and so are gradients with respect to the student's logits, in float16 too.

Wrong shapes and dtypes raise AssertionError. A concrete hyper-parameter outside its range, or a concrete label outside
`[0, C)`, raises `InputError`; traced values cannot be checked.
"""

from cckd_jax.losses.aekd import aekd as aekd, aekd_weights as aekd_weights
from cckd_jax.losses.confidence import (
    cckd_l as cckd_l,
    cckd_t as cckd_t,
    confidence as confidence,
    confidence_targets as confidence_targets,
)
from cckd_jax.losses.distillation import (
    cross_entropy as cross_entropy,
    kd as kd,
    soft_cross_entropy as soft_cross_entropy,
    teacher_only as teacher_only,
)
from cckd_jax.losses.divergence import kl_divergence as kl_divergence
from cckd_jax.losses.feature_maps import (
    ca_mkd_feature_weights as ca_mkd_feature_weights,
    ca_mkd_features as ca_mkd_features,
    fitnet_hints as fitnet_hints,
)
from cckd_jax.losses.label import (
    label_gap as label_gap,
    label_log_odds as label_log_odds,
    label_probability as label_probability,
)
from cckd_jax.losses.multi_teacher import (
    aver as aver,
    ca_mkd_logits as ca_mkd_logits,
    ca_mkd_weights as ca_mkd_weights,
    ebkd as ebkd,
    ebkd_weights as ebkd_weights,
)
from cckd_jax.losses.mutual import (
    dml as dml,
    kdcl as kdcl,
    kdcl_linear as kdcl_linear,
    kdcl_minlogit as kdcl_minlogit,
    kdcl_naive as kdcl_naive,
)
from cckd_jax.losses.online import (
    Mixtures as Mixtures,
    SourceOptions as SourceOptions,
    cckd_online_l as cckd_online_l,
    cckd_online_t as cckd_online_t,
    online_mixtures as online_mixtures,
    online_targets as online_targets,
)
from cckd_jax.losses.robust import (
    ard as ard,
    certified_cross_entropy as certified_cross_entropy,
    faithful_adversarial as faithful_adversarial,
    faithful_certified as faithful_certified,
    iad as iad,
    rslad as rslad,
)

# The earlier name.
divergence = kl_divergence

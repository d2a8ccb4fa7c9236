"""Flax Linen networks by name: `create('lenet5')`. Each exposes its stage features, its head and its layers."""

from cckd_jax.models.alignment import (
    Alignments as Alignments,
    Regressors as Regressors,
    feature_shapes as feature_shapes,
)
from cckd_jax.models.base import (
    Classifier as Classifier,
    LogitsFn as LogitsFn,
    Network as Network,
    TrainMode as TrainMode,
    apply_layers as apply_layers,
    find_rule as find_rule,
    init as init,
    layer_name as layer_name,
    train_forward as train_forward,
)
from cckd_jax.models.pytorch import from_state_dict as from_state_dict, read_state_dict as read_state_dict
from cckd_jax.models.registry import (
    MODELS as MODELS,
    check_image_shape as check_image_shape,
    create as create,
)

"""Transfer sets without the training data: systems by name, each in one file."""

from collections.abc import Mapping
from typing import Any

from cckd_jax.synthesis.dafl import DAFL
from cckd_jax.synthesis.fskd import FSKD
from cckd_jax.synthesis.inputs import (
    NonFiniteSynthesis as NonFiniteSynthesis,
    make_input_optimizer as make_input_optimizer,
)
from cckd_jax.synthesis.kegnet import KEGNET
from cckd_jax.synthesis.metadata import METADATA
from cckd_jax.synthesis.noise import NOISE
from cckd_jax.synthesis.partial import Partial as Partial
from cckd_jax.synthesis.samples import SAMPLES
from cckd_jax.synthesis.system import (
    REAL_DATA as REAL_DATA,
    Preparation as Preparation,
    Problem as Problem,
    Request as Request,
    Samples as Samples,
    System as System,
)
from cckd_jax.synthesis.transfer_set import (
    LABELS as LABELS,
    TransferSet as TransferSet,
    label_samples as label_samples,
    load as load,
    save as save,
)
from cckd_jax.synthesis.transformations import augment as augment
from cckd_jax.synthesis.zskd import (
    ZSKD,
    class_similarity as class_similarity,
    impression_concentrations as impression_concentrations,
)

SYSTEMS: Mapping[str, System] = {
    'zskd': ZSKD,
    'kegnet': KEGNET,
    'dafl': DAFL,
    'metadata': METADATA,
    'fskd': FSKD,
    'samples': SAMPLES,
    'noise': NOISE,
}


def setting_types() -> dict[str, type]:
    """The settings of all systems with their types, by name.

    >>> setting_types()['images']
    <class 'int'>
    """
    return {name: type(value) for system in SYSTEMS.values() for name, value in system.defaults.items()}


def scaled(settings: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """Settings with fewer images and steps, at least one of each.

    >>> scaled({'images': 24_000, 'steps': 1500, 'temperature': 20.0}, 0.01)
    {'images': 240, 'steps': 15, 'temperature': 20.0}
    """
    counts = {name: max(1, round(scale * settings[name])) for name in ('images', 'steps') if name in settings}
    return {**settings, **counts}

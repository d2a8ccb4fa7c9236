"""Distil image classifiers sample by sample, in JAX and Flax."""

import importlib
from typing import TYPE_CHECKING, Any

from cckd_jax.errors import InputError as InputError

if TYPE_CHECKING:
    from cckd_jax import (
        config as config,
        data as data,
        evaluation as evaluation,
        experiment as experiment,
        export as export,
        losses as losses,
        methods as methods,
        models as models,
        robustness as robustness,
        selection as selection,
        synthesis as synthesis,
        training as training,
    )

__version__ = '0.1.0'

# Imported when they are first used: the losses alone need neither TensorFlow Datasets nor Matplotlib.
_SUBMODULES = (
    'config',
    'data',
    'evaluation',
    'experiment',
    'export',
    'losses',
    'methods',
    'models',
    'robustness',
    'selection',
    'synthesis',
    'training',
)


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f'{__name__}.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})

"""Settings that may change when a run directory is used again, because no training depends on them."""

import json
from pathlib import Path

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from cckd_jax import config as settings

# Single settings and whole groups, by dotted name. The first are of the evaluation, which is then repeated; the others
# do not change results. Data may move: the key of the teacher outputs shows whether it changed.
EVALUATION = ('evaluate', 'attack.epsilon', 'attack.samples')
WITHOUT_EFFECT = ('dataset.data_dir', 'save_seconds', 'feature_cache_gib')


def may_change(name: str) -> bool:
    """Whether a run directory can be used again with another value of a setting.

    >>> may_change('evaluate.samples'), may_change('attack.epsilon'), may_change('attack.checkpoint')
    (True, True, False)
    """
    return _is_in(name, EVALUATION + WITHOUT_EFFECT)


def changed_evaluation(workdir: Path, config: ConfigDict) -> list[str]:
    """Settings of the evaluation whose values differ from those in the `config.json` of a run directory."""
    recorded = flatten_dict(json.loads((workdir / 'config.json').read_text(encoding='utf-8')), sep='.')
    requested = flatten_dict(settings.as_dict(config), sep='.')
    names = sorted(recorded.keys() | requested.keys())
    return [name for name in names if _is_in(name, EVALUATION) and recorded.get(name) != requested.get(name)]


def _is_in(name: str, entries: tuple[str, ...]) -> bool:
    return any(name == entry or name.startswith(f'{entry}.') for entry in entries)

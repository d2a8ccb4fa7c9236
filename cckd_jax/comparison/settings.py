"""The settings in which runs differ."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from cckd_jax import config as settings
from cckd_jax.comparison.runs import Run
from cckd_jax.settings_help import HYPERPARAMETERS

# `config.json` has what was asked for, and leaves hyper-parameters to the method; these have what was used.
_USED = ('teacher.model', 'teacher.epochs', 'student.model', 'student.epochs')
_CHARACTERS_OF_COMMIT = 10


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings in which runs differ, and device, commit and versions if they differ.

    A setting that is younger than a run has its default. Settings without effect on results, and hyper-parameters
    that the method does not use, are left out. Of paths the last two parts count.

    Args:
      runs: finished runs.

    Returns:
      By name, one value for each run.
    """
    values = [_values(run) for run in runs]
    names = dict.fromkeys(name for run_values in values for name in run_values)
    columns = {name: [run_values.get(name) for run_values in values] for name in names}
    return {name: column for name, column in columns.items() if any(value != column[0] for value in column)}


def _values(run: Run) -> dict[str, Any]:
    hyperparameters = run.results.get('hyperparameters') or {}
    defaults = dict(_flat(settings.as_dict(settings.default_without_hyperparameters())))
    values = defaults | dict(_flat(run.config))
    values |= {name: hyperparameters.get(name) for name in HYPERPARAMETERS}
    values |= {name: value for name, value in hyperparameters.items() if name != 'learning_rate'}
    values['student.learning_rate'] = hyperparameters.get('learning_rate', values['student.learning_rate'])
    results = dict(_flat(run.results))
    values |= {name: results[name] for name in _USED if name in results}
    values |= {name: value for name, value in results.items() if name == 'device' or name.startswith('versions.')}
    values['commit'] = (run.results.get('commit') or '')[:_CHARACTERS_OF_COMMIT] or None
    return {name: _without_prefix(value) for name, value in values.items() if name not in settings.WITHOUT_EFFECT}


def _flat(values: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    # `flax.traverse_util.flatten_dict` does the same, and imports JAX.
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value


def _without_prefix(value: Any) -> Any:
    """The last two parts of a path, because runs of other machines and folders differ in the rest.

    >>> _without_prefix('/home/me/runs/kd/teacher'), _without_prefix('adam')
    ('kd/teacher', 'adam')
    """
    if isinstance(value, str) and '/' in value:
        return PurePath(*PurePath(value).parts[-2:]).as_posix()
    return value

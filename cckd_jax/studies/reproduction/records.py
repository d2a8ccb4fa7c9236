"""The finished runs of a folder as records, and the copies of them that are committed beside the tables.

A folder has `DATASET/seedN/ROW/` with `results.json` and `config.json`: the workdir of a reproduction, or the copies.
Tables and figures are generated from such a folder alone.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cckd_jax.errors import InputError
from cckd_jax.io import write_json
from cckd_jax.studies.reproduction.runs import ROWS

# Measures of one run, with its data set, row and seed.
Record = dict[str, Any]
_PROBES = 'PROBES'
_RUN = re.compile(r'seed(\d+)')


def read(folder: Path) -> list[Record]:
    """Reads all finished runs of a folder.

    Args:
      folder: contains `DATASET/seedN/ROW/results.json`.

    Returns:
      Records in the order of data sets, rows and seeds.

    Raises:
      InputError: a file is damaged.
    """
    records = []
    for path in folder.glob('*/seed*/*/results.json'):
        (dataset, seed, row) = path.relative_to(folder).parts[:3]
        match = _RUN.fullmatch(seed)
        if match and row in ROWS:
            records.append({'dataset': dataset, 'row': row, 'seed': int(match[1]), **_read_measures(path)})
    order = {row: index for index, row in enumerate(ROWS)}
    return sorted(records, key=lambda record: (record['dataset'], order[record['row']], record['seed']))


def _read_measures(path: Path) -> dict[str, Any]:
    try:
        return measures(load(path))
    except (KeyError, TypeError) as error:
        raise InputError(
            f'{path} lacks results that the tables need ({error!r}); delete {path.parent} to repeat the run'
        ) from None


def measures(results: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one run that tables and figures show.

    Args:
      results: the content of `results.json`.

    Returns:
      Values by name; None where a run lacks one.
    """
    (student, attack) = (results['student'], results['attack'])
    probes = results.get(_PROBES) or {'teacher': {}, 'test': {}, 'attacks': ()}
    attacks = {(attack['attacked'], attack['split'], attack['steps']): attack for attack in probes['attacks']}
    own = attacks.get(('student', 'train', 1), {})
    return {
        'epochs': student['epochs'],
        'teacher_epochs': results['teacher']['epochs'],
        'alpha': results['hyperparameters'].get('alpha'),
        'accuracy': student['test_accuracy'],
        'teacher_accuracy': results['teacher']['test_accuracy'],
        **{name: student[name] for name in ('samples_used', 'share_used')},
        **{name: student[name] for name in ('success_rate', 'failure_rate')},
        'adversarial_accuracy': student['adversarial_accuracy'],
        'adversarial_accuracy_exact': student['adversarial_accuracy_exact'],
        'accuracy_of_attacked': attack['accuracy_of_attacked'],
        'epsilon': attack['epsilon'],
        'attack_samples': attack['samples'],
        **{name: probes['teacher'].get(name) for name in ('train_errors', 'mean_confidence')},
        'test_success_rate': probes['test'].get('success_rate'),
        'test_failure_rate': probes['test'].get('failure_rate'),
        'adversarial_accuracy_test': attacks.get(('separate', 'test', 1), {}).get('student_accuracy'),
        'adversarial_accuracy_iterated': attacks.get(('separate', 'train', 10), {}).get('student_accuracy'),
        'adversarial_accuracy_teacher': attacks.get(('teacher', 'train', 1), {}).get('student_accuracy'),
        'adversarial_accuracy_own': own.get('student_accuracy'),
    }


def copy_runs(workdir: Path, folder: Path) -> None:
    """Copies `results.json` and `config.json` of all finished runs, without the paths of this machine.

    Args:
      workdir: of the reproduction.
      folder: receives `DATASET/seedN/ROW/`.
    """
    for path in sorted(workdir.glob('*/seed*/*/results.json')):
        copy_run(path.parent, folder / path.parent.relative_to(workdir), workdir)


def copy_run(run: Path, target: Path, workdir: Path) -> None:
    """Copies `results.json` and `config.json` of a run, without the paths of this machine.

    Args:
      run: directory of the run.
      target: receives the files.
      workdir: that paths in the copies are relative to.
    """
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / 'results.json', load(run / 'results.json'))
    write_json(target / 'config.json', _without_paths(load(run / 'config.json'), workdir))


def _without_paths(value: Any, workdir: Path) -> Any:
    if isinstance(value, dict):
        return {name: None if name == 'data_dir' else _without_paths(item, workdir) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item, workdir) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        path = Path(value)
        return str(path.relative_to(workdir)) if path.is_relative_to(workdir) else path.name
    return value


def values(records: Sequence[Record], dataset: str, row: str, measure: str) -> dict[int, float]:
    """The values of a measure by seed, without runs that lack it.

    >>> records = [{'dataset': 'mnist', 'row': 'kd', 'seed': seed, 'accuracy': 0.5 + seed / 4} for seed in (0, 1)]
    >>> values(records, 'mnist', 'kd', 'accuracy')
    {0: 0.5, 1: 0.75}
    """
    return {
        record['seed']: record[measure]
        for record in records
        if (record['dataset'], record['row']) == (dataset, row) and record.get(measure) is not None
    }


def load(path: Path) -> dict[str, Any]:
    """Reads a JSON file of a run.

    Raises:
      InputError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise InputError(f'cannot read {path} ({error}); delete {path.parent} to repeat the run') from None

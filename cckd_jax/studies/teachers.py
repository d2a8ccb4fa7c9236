"""What becomes of a student when one of its teachers gets worse? Accuracy against how bad it is, by method.

For each config and seed the teachers and one student trained alone are shared by all runs, and so is each worse version
of teacher 0. The methods are those of CA-MKD's comparison (arXiv:2201.00007), whose claim is that weights by the label
keep a bad teacher from doing harm.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import config as settings, experiment
from cckd_jax.errors import InputError, lookup
from cckd_jax.reporting import study_teachers as study
from cckd_jax.studies import common

_BASE = 'separate'
# Trains the worse teacher of its level, which the others restore.
_FIRST = 'aver'
# What its weights do without its feature maps.
_ALONE = 'ca_mkd_logits'
ROWS = (_FIRST, 'ebkd', 'aekd', 'ca_mkd', _ALONE)
_KNOWN = (*ROWS, 'fitnet_mkd')
# Settings of a teacher of which the other runs of its level need not know to restore it.
_WORSE = ('label_noise', 'epochs', 'learning_rate')

# What is compared within a seed and a level, where teachers and start are the same for both.
COMPARED = (*((row, _FIRST) for row in _KNOWN[1:]), (_ALONE, 'ebkd'), (_ALONE, 'aekd'), ('ca_mkd', _ALONE))


def run(
    configs: Mapping[str, ConfigDict],
    workdir: str | Path,
    *,
    seeds: int,
    levels: Sequence[Any],
    worse: str = 'label_noise',
    rows: Sequence[str] = ROWS,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, Any]:
    """Runs whatever of the study is not there yet, and writes `study.json`, `study.md` and `study.png` after each run.

    Args:
      configs: of two teachers or more, by the name of its folder; method, seed and shared networks are replaced.
      workdir: each run lies in `<workdir>/<config>/seed<n>/<worse>_<level>/<row>`.
      seeds: how many, from 0.
      levels: values of the setting that makes teacher 0 worse.
      worse: that setting: `label_noise`, `epochs` or `learning_rate`.
      rows: of the methods and `ca_mkd_logits`, which is `ca_mkd` without feature maps; `aver` is always among them,
        since its worse teacher is the others'.
      devices: all local ones when None.

    Returns:
      What `study.json` holds.

    Raises:
      InputError: there is no such row or setting, a config has one teacher, or a run cannot use its settings.
    """
    common.check(seeds, rows, _KNOWN)
    rows = list(dict.fromkeys((_FIRST, *rows)))
    # Before hours of training, and not after them. A setting is of one type in all configs, and so are its levels.
    (typed, *_) = [_levels(name, config, worse, levels, rows) for name, config in configs.items()]
    return common.collect(
        configs,
        workdir,
        seeds,
        lambda config, folder, seed: _group(config, folder, seed, worse, typed, rows, devices),
        summary=lambda records: summary(records, worse),
        render=study.render,
        draw=study.accuracy,
    )


def summary(records: Sequence[Mapping[str, Any]], worse: str) -> dict[str, Any]:
    """Means over seeds with 95 % confidence intervals, and differences within seeds, of the runs there are."""
    rows, differences = [], []
    for dataset, level in dict.fromkeys((record['dataset'], record['level']) for record in records):
        by_row = common.by_row(records, (_BASE, *_KNOWN), dataset=dataset, level=level)
        place = {'dataset': dataset, 'level': level}
        rows += [{**place, **_mean(row, list(seeds.values()))} for row, seeds in by_row.items() if seeds]
        for first, second in COMPARED:
            gained = common.gained(by_row[first], by_row[second])
            if gained:
                differences.append({**place, 'row': first, 'against': second, **gained})
    return {'worse': worse, 'rows': rows, 'differences': differences, 'runs': [dict(record) for record in records]}


def _levels(name: str, config: ConfigDict, worse: str, levels: Sequence[Any], rows: Sequence[str]) -> list[Any]:
    if config.num_teachers < 2:
        raise InputError(f'{name} has one teacher, and the study takes several; set --config.num_teachers=3')
    lookup(dict.fromkeys(_WORSE), worse, 'way to make a teacher worse')
    first = settings.teachers(config)[0]
    if first.checkpoint or first.logits:
        raise InputError(f'{name} gives its first teacher, which the study trains; leave out checkpoint and logits')
    kind = config.teacher.get_type(worse)
    try:
        found = [kind(level) for level in levels]
    except ValueError:
        raise InputError(f'levels of {worse} must be {kind.__name__}; found {", ".join(map(str, levels))}') from None
    for level in found:
        for row in rows:
            experiment.check(common.changed(config, {f'teachers.0.{worse}': level, **_method(row)}))
    return found


def _group(
    config: ConfigDict,
    folder: Path,
    seed: int,
    worse: str,
    levels: Sequence[Any],
    rows: Sequence[str],
    devices: Sequence[jax.Device] | None,
) -> Iterable[list[dict[str, Any]]]:
    """Runs one config and seed; yields each run's record."""
    base = {'seed': seed, 'method': _BASE}
    results = common.run(config, base, folder / _BASE, devices)
    yield [{'row': _BASE, 'level': None, 'seed': seed, 'test_accuracy': results['student']['test_accuracy']}]
    parts = settings.teachers(config)
    own = parts[0][worse]
    others = [place for place, part in enumerate(parts) if place and not (part.checkpoint or part.logits)]
    shared = {'seed': seed, 'attack.checkpoint': str(folder / _BASE / 'student')}
    for place in others:
        shared |= _restored(place, folder / _BASE)
    for level in levels:
        here = folder / f'{worse}_{level}'
        for row in rows:
            if level == own:
                taught_by = _restored(0, folder / _BASE)
            else:
                taught_by = {f'teachers.0.{worse}': level} if row == _FIRST else _restored(0, here / _FIRST)
            results = common.run(config, {**shared, **taught_by, **_method(row)}, here / row, devices)
            yield [{'row': row, 'level': level, 'seed': seed, **_numbers(results)}]


def _method(row: str) -> dict[str, Any]:
    return {'method': 'ca_mkd', 'feature_weight': 0.0} if row == _ALONE else {'method': row}


def _restored(place: int, run: Path) -> dict[str, Any]:
    return {f'teachers.{place}.checkpoint': str(run / f'teacher_{place}'), f'teachers.{place}.label_noise': 0.0}


def _numbers(results: Mapping[str, Any]) -> dict[str, Any]:
    weights = results['teacher_weights']
    count = len(results['teacher']['model'])
    return {
        'test_accuracy': results['student']['test_accuracy'],
        'worse_accuracy': results['teacher']['test_accuracy'][0],
        'worse_share': weights['logits']['overall'][0] if weights else 1 / count,
        'teachers': count,
    }


def _mean(row: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:

    def mean(name: str) -> float | None:
        values = [record.get(name) for record in records]
        return None if None in values else float(np.mean(values))

    return {
        'row': row,
        'accuracy': common.accuracy(records),
        **{name: mean(name) for name in ('worse_accuracy', 'worse_share', 'teachers')},
    }

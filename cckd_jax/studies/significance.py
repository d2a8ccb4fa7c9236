"""Does a teacher's significance say which samples to distil on? Accuracy against samples used, with controls.

For each data set and seed one self-regulated teacher and one student trained alone are shared by all methods. Two
controls tell what significance adds: `random_subset` distils by kd on as many examples as have a significance above
zero, drawn at random; `shuffled` deals the same counts out to the examples at random. The methods are readings of the
abstract of arXiv:2102.07125; its body could not be had, so there is no number of the paper to compare with.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import io
from cckd_jax.reporting import study
from cckd_jax.studies import common

_BASE = 'separate'

Control = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def random_subset(counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One for as many examples as have a count, drawn at random, and zero for the others.

    >>> int(random_subset(np.array([0, 7, 0, 2]), np.random.default_rng(0)).sum())
    2
    """
    chosen = random.choice(len(counts), np.count_nonzero(counts), replace=False)
    return np.isin(np.arange(len(counts)), chosen).astype(counts.dtype)


def shuffled(counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same counts, dealt out at random.

    >>> sorted(shuffled(np.array([0, 7, 0, 2]), np.random.default_rng(0)).tolist())
    [0, 0, 2, 7]
    """
    return random.permutation(counts)


CONTROLS: Mapping[str, Control] = {'random_subset': random_subset, 'shuffled': shuffled}
ROWS = (_BASE, 'kd', 'cckd_t', 'cckd_t_reg', 'significance', 'regulated', 'hybrid', *CONTROLS)

# What is compared within a seed, where teacher and start are the same for both.
COMPARED = (('significance', 'random_subset'), ('significance', 'shuffled'), ('hybrid', 'regulated'))


def run(
    configs: Mapping[str, ConfigDict],
    workdir: str | Path,
    *,
    seeds: int,
    rows: Sequence[str] = ROWS,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, Any]:
    """Runs whatever of the study is not there yet, and writes `study.json`, `study.md` and `study.png` after each run.

    Args:
      configs: of each data set, by the name of its folder; their method, seed and shared networks are replaced.
      workdir: each run lies in `<workdir>/<data set>/seed<n>/<row>`.
      seeds: how many, from 0.
      rows: of `ROWS`; `separate` is always among them, since its teacher and student are the others'.
      devices: all local ones when None.

    Returns:
      What `study.json` holds.

    Raises:
      InputError: there is no such row, or a run cannot use its settings.
    """
    common.check(seeds, rows, ROWS)
    group = lambda config, folder, seed: _group(config, folder, seed, rows, devices)
    return common.collect(
        configs, workdir, seeds, group, summary=summary, render=study.render, draw=study.accuracy_against_samples
    )


def summary(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds with 95 % confidence intervals, and differences within seeds, of the runs there are."""
    datasets = list(dict.fromkeys(record['dataset'] for record in records))
    rows, differences = [], []
    for dataset in datasets:
        by_row = common.by_row(records, ('teacher', *ROWS), dataset=dataset)
        rows += [_mean(dataset, row, list(seeds.values())) for row, seeds in by_row.items() if seeds]
        for first, second in COMPARED:
            gained = common.gained(by_row[first], by_row[second])
            if gained:
                differences.append({'dataset': dataset, 'row': first, 'against': second, **gained})
    return {'rows': rows, 'differences': differences, 'runs': [dict(record) for record in records]}


def _group(
    config: ConfigDict, folder: Path, seed: int, rows: Sequence[str], devices: Sequence[jax.Device] | None
) -> Iterable[list[dict[str, Any]]]:
    """Runs the rows of one data set and seed; yields each one's record, the first time with the teacher's before it."""
    for row in dict.fromkeys((_BASE, *rows)):
        settings = {
            'seed': seed,
            'method': 'significance' if row in CONTROLS else row,
            'teacher.self_regulate': True,
        }
        if row != _BASE:
            settings |= {
                'teacher.checkpoint': str(folder / _BASE / 'teacher'),
                'attack.checkpoint': str(folder / _BASE / 'student'),
            }
        if row in CONTROLS:
            settings['significance.file'] = str(_control_file(folder, row, seed))
        results = common.run(config, settings, folder / row, devices)
        record = {'row': row, 'seed': seed, **{name: results['student'][name] for name in _NUMBERS}}
        yield [_teacher(results), record] if row == _BASE else [record]


_NUMBERS = ('test_accuracy', 'samples_used', 'samples_presented', 'samples_in_all', 'share_used')


def _teacher(results: Mapping[str, Any]) -> dict[str, Any]:
    counted = results['significance']
    whole = counted['epochs'] * counted['examples']
    return {
        'row': 'teacher',
        'seed': results['seed'],
        'test_accuracy': results['teacher']['test_accuracy'],
        'samples_used': round(counted['share_counted'] * whole),
        'samples_presented': whole,
        'samples_in_all': whole,
        'share_used': counted['share_counted'],
    }


def _control_file(folder: Path, row: str, seed: int) -> Path:
    path = folder / f'{row}.npz'
    if not path.exists():
        of_teacher = io.load_arrays(
            folder / _BASE / 'significance.npz', description='significance', default_key='count'
        )
        counts = CONTROLS[row](of_teacher['count'], np.random.default_rng(seed))
        epochs = of_teacher['epochs'] if row == 'shuffled' else np.array(1)
        io.save_arrays(path, **{**of_teacher, 'count': counts, 'epochs': epochs})
    return path


def _mean(dataset: str, row: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        'dataset': dataset,
        'row': row,
        'accuracy': common.accuracy(records),
        'samples_used': float(np.mean([record['samples_used'] for record in records])),
        'share_used': float(np.mean([record['share_used'] for record in records])),
        'share_presented': float(
            np.mean([record['samples_presented'] / record['samples_in_all'] for record in records])
        ),
    }

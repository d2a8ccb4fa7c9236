"""What studies share: changed configs, summaries written after each run, and what seeds allow to be said."""

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cckd_jax import experiment
from cckd_jax.errors import InputError, lookup
from cckd_jax.io import write_json, write_text
from cckd_jax.statistics import Estimate, estimate, verdict

Record = Mapping[str, Any]


def check(seeds: int, rows: Sequence[str], known: Sequence[str]) -> None:
    """Raises InputError for a study of no seeds, or of a row that there is not."""
    for row in rows:
        lookup(dict.fromkeys(known), row, 'row of the study')
    if seeds < 1:
        raise InputError(f'seeds={seeds} must be above 0; set --seeds')


def changed(config: ConfigDict, settings: Mapping[str, Any]) -> ConfigDict:
    """A copy of a config with other values, by dotted name; `teachers.1.seed` is of a teacher by its index.

    >>> from cckd_jax import config
    >>> changed(config.default(), {'seed': 3, 'teachers.1.seed': 4}).teachers[1].seed
    4
    """
    new = copy.deepcopy(config)
    with new.unlocked():
        for name, value in settings.items():
            (*groups, field) = name.split('.')
            holder = new
            for group in groups:
                holder = holder[int(group) if group.isdecimal() else group]
            holder[field] = value
    return new


def run(
    config: ConfigDict, settings: Mapping[str, Any], workdir: Path, devices: Sequence[jax.Device] | None
) -> dict[str, Any]:
    """One run of the study, of a config with other values; returns its results."""
    results = experiment.run(changed(config, settings), workdir, devices=devices)
    # Each run compiles programs of its own, and those of some fifty take all the mapped regions of a process.
    jax.clear_caches()
    return results


def collect(
    configs: Mapping[str, ConfigDict],
    workdir: str | Path,
    seeds: int,
    group: Callable[[ConfigDict, Path, int], Iterable[Iterable[Record]]],
    *,
    summary: Callable[[Sequence[Record]], dict[str, Any]],
    render: Callable[[Mapping[str, Any]], str],
    draw: Callable[[Path, Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Runs all groups, and writes `study.json`, `study.md` and `study.png` whenever a run has given its records.

    Args:
      configs: by the name of the folder of its groups, which a record has as `dataset`.
      workdir: of the study; the group of a config and seed lies in `<workdir>/<name>/seed<n>`.
      seeds: how many, from 0.
      group: `(config, folder, seed)` to the records of each run, as the runs end.
      summary: of all records so far, what `study.json` holds.
      render: the tables.
      draw: the figure.

    Returns:
      The last summary.
    """
    folder = Path(workdir).expanduser()
    records: list[Record] = []
    summed: dict[str, Any] = {}
    for seed, (name, config) in itertools.product(range(seeds), configs.items()):
        for of_run in group(config, folder / name / f'seed{seed}', seed):
            records += [{'dataset': name, **record} for record in of_run]
            summed = summary(records)
            write_json(folder / 'study.json', summed)
            write_text(folder / 'study.md', render(summed))
            draw(folder / 'study.png', summed)
    return summed


def by_row(records: Iterable[Record], rows: Iterable[str], **where: Any) -> dict[str, dict[int, Record]]:
    """The records that have these values, by row and seed; a row without any is there and empty.

    >>> runs = [{'dataset': name, 'row': 'kd', 'seed': seed} for name in ('a', 'b') for seed in (0, 1)]
    >>> {row: list(seeds) for row, seeds in by_row(runs, ['kd', 'iad'], dataset='a').items()}
    {'kd': [0, 1], 'iad': []}
    """
    found: dict[str, dict[int, Record]] = {row: {} for row in rows}
    for record in records:
        if record['row'] in found and all(record[name] == value for name, value in where.items()):
            found[record['row']][record['seed']] = record
    return found


def accuracy(records: Iterable[Record]) -> dict[str, Any]:
    """The mean test accuracy of runs, one a seed, and its 95 % confidence interval."""
    return estimate([record['test_accuracy'] for record in records])._asdict()


def difference(first: Mapping[int, Record], second: Mapping[int, Record], measure: str) -> Estimate | None:
    """What the first row has more than the second within the seeds that both have; None where they share none."""
    shared = sorted(first.keys() & second.keys())
    pairs = [(first[seed][measure], second[seed][measure]) for seed in shared]
    gains = [one - other for one, other in pairs if one is not None and other is not None]
    return estimate(gains) if gains else None


def gained(first: Mapping[int, Record], second: Mapping[int, Record]) -> dict[str, Any] | None:
    """The `difference` of test accuracies, and what it allows to be said; or None."""
    found = difference(first, second, 'test_accuracy')
    return found and {'accuracy': found._asdict(), 'verdict': verdict(found)}

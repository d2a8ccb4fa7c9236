"""Records of the finished runs of a study, their means over seeds, and differences within seeds."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from cckd_jax.studies.jobs import Job
from cckd_jax.studies.statistics import estimate, paired_difference, verdict
from cckd_jax.studies.study import Study

Record = dict[str, Any]
# Fields of a record that are no measures.
_KEYS = ('study', 'dataset', 'level', 'row', 'seed', 'run')


def make_records(study: Study, job: Job, results: Mapping[str, Any]) -> list[Record]:
    """Reads the records of one finished run.

    Args:
      study: of the run.
      job: the run.
      results: its `results.json`.

    Returns:
      One record for each row that the run fills: `study, dataset, row, seed`, `level` if the study has levels, `run`,
      the folder of the run in the workdir of the study, and the measures.
    """
    level = {} if study.level is None else {'level': job.level}
    key = {'study': study.name, 'dataset': job.dataset, **level}
    run = {'seed': job.seed, 'run': job.name}
    return [{**key, 'row': row, **run, **measures} for row, measures in study.measures(job, results).items()]


def summarize(study: Study, records: Sequence[Record]) -> dict[str, Any]:
    """Estimates the means over seeds and the paired differences within seeds.

    Args:
      study: whose columns and pairs of rows are compared.
      records: of the runs that are finished.

    Returns:
      `rows`, with `mean`, `half_width` and `count` of every measure (None if a run lacks the measure); `differences`,
      with `row`, `against`, `measure`, the same numbers and a `verdict`; and `runs`, the records.
    """
    rows, differences = [], []
    for key, by_row in _grouped(study, records):
        for row, seeds in by_row.items():
            measures = dict.fromkeys(name for record in seeds.values() for name in record if name not in _KEYS)
            rows.append(
                {
                    **key,
                    'row': row,
                    'count': len(seeds),
                    **{name: _mean([record.get(name) for record in seeds.values()]) for name in measures},
                }
            )
        first_row = next(iter(by_row))
        for row, against in study.compare or [(row, first_row) for row in by_row if row != first_row]:
            for measure in (name for name, column in study.columns.items() if column.compared):
                values = [
                    {seed: record.get(measure) for seed, record in by_row.get(name, {}).items()}
                    for name in (row, against)
                ]
                difference = paired_difference(*values)
                if difference is not None:
                    names = {'row': row, 'against': against, 'measure': measure}
                    differences.append(
                        {**key, **names, **dataclasses.asdict(difference), 'verdict': verdict(difference)}
                    )
    return {'rows': rows, 'differences': differences, 'runs': [dict(record) for record in records]}


def _grouped(study: Study, records: Sequence[Record]) -> list[tuple[dict[str, Any], dict[str, dict[int, Record]]]]:
    """Records by row and seed, for each data set and level."""
    # Rows that cannot be chosen, such as the teacher's, come first.
    position = lambda record: study.rows.index(record['row']) if record['row'] in study.rows else -1
    groups: dict[tuple[str, Any], dict[str, dict[int, Record]]] = {}
    for record in records:
        groups.setdefault((record['dataset'], record.get('level')), {})
    for record in sorted(records, key=position):
        by_row = groups[record['dataset'], record.get('level')]
        by_row.setdefault(record['row'], {})[record['seed']] = record
    # A group per data set and level, the levels of a data set side by side.
    datasets = list(dict.fromkeys(dataset for dataset, _ in groups))
    level = lambda value: {} if study.level is None else {'level': value}
    return [
        ({'dataset': dataset, **level(value)}, by_row)
        for (dataset, value), by_row in sorted(groups.items(), key=lambda item: datasets.index(item[0][0]))
    ]


def _mean(values: Sequence[float | None]) -> dict[str, Any] | None:
    measured = [value for value in values if value is not None]
    return dataclasses.asdict(estimate(measured)) if len(measured) == len(values) else None

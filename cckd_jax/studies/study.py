"""What defines a study: its runs, the measures of a run, the columns of its tables and its figure."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from cckd_jax.errors import InputError, lookup
from cckd_jax.paths import expand
from cckd_jax.studies.jobs import Job

# Measures of one run, by the row of the table that they belong to. A run may fill several rows, for example the
# student's and the teacher's.
Measures = Mapping[str, Mapping[str, float | None]]


class Column(NamedTuple):
    """A column of the tables.

    Attributes:
      title: of the column.
      percent: whether values are fractions that are shown as percentages.
      digits: after the decimal point.
      interval: whether the confidence interval is shown.
      compared: whether the table of differences includes the measure.
    """

    title: str
    percent: bool = False
    digits: int = 3
    interval: bool = True
    compared: bool = False


class Option(NamedTuple):
    """A flag of one study; a tuple as default makes it a list."""

    default: str | tuple[str, ...]
    help: str


@dataclasses.dataclass(frozen=True)
class Options:
    """The runs that a user requests from a study.

    Attributes:
      configs: by the name that they have in the tables.
      workdir: of the study, absolute.
      seeds: how many, from 0.
      rows: of the tables.
      values: of the study's own options.
    """

    configs: Mapping[str, ConfigDict]
    workdir: Path
    seeds: int
    rows: Sequence[str]
    values: Mapping[str, Any]

    def groups(self) -> Iterator[tuple[int, str, ConfigDict]]:
        """Every seed, name and config; all configs of one seed before those of the next."""
        for seed, (dataset, config) in itertools.product(range(self.seeds), self.configs.items()):
            yield seed, dataset, config


@dataclasses.dataclass(frozen=True)
class Study:
    """A question that takes many runs.

    Attributes:
      name: in the records.
      description: one or two sentences above the tables.
      jobs: the runs; dependencies precede their dependents.
      measures: reads the `results.json` of a finished job.
      columns: of the tables by measure; measures without a column are in `study.json` alone.
      configs: names of the configs that run by default.
      figure: draws `study.png` from `study.json`.
      rows: rows that can be chosen, in the order of the tables; empty if any method can.
      default_rows: rows that run by default; all if empty.
      compare: pairs of rows whose difference within a seed is estimated; if empty, every row against the first.
      level: title of the column of `Job.level`, which may contain options in braces; None if there are no levels.
      options: flags of the study by name.
      export: writes further files into the workdir from `study.json`.
      several_students: whether `measures` can read runs with `num_students` above 1.
    """

    name: str
    description: str
    jobs: Callable[[Options], Iterable[Job]]
    measures: Callable[[Job, Mapping[str, Any]], Measures]
    columns: Mapping[str, Column]
    configs: tuple[str, ...]
    figure: Callable[[Path, Mapping[str, Any]], None] | None = None
    rows: tuple[str, ...] = ()
    default_rows: tuple[str, ...] = ()
    compare: tuple[tuple[str, str], ...] = ()
    level: str | None = None
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    export: Callable[[Path, Mapping[str, Any]], None] | None = None
    several_students: bool = False

    def resolve(
        self,
        configs: Mapping[str, ConfigDict],
        workdir: str | Path,
        *,
        seeds: int,
        rows: Sequence[str] | None = None,
        **values: Any,
    ) -> Options:
        """Completes the options of a study with its defaults.

        Args:
          configs: by the name that they have in the tables.
          workdir: of the study.
          seeds: how many, from 0.
          rows: those of the default if None.
          **values: of the study's own options.

        Returns:
          The options.

        Raises:
          InputError: there is no such row or option, or no seed.
        """
        rows = list(dict.fromkeys(self.default_rows or self.rows if rows is None else rows))
        for row in rows if self.rows else ():
            lookup(dict.fromkeys(self.rows), row, 'row of the study')
        for name in values:
            lookup(self.options, name, f'option of the study {self.name}')
        if seeds < 1:
            raise InputError(f'seeds={seeds} must be above 0; set --seeds')
        for name, option in self.options.items():
            values.setdefault(name, list(option.default) if isinstance(option.default, tuple) else option.default)
        return Options(configs, expand(workdir).absolute(), seeds, rows, values)

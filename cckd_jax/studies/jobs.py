"""The runs of a study: their configs, which networks they share, and how to divide them among machines."""

import copy
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cckd_jax import config as settings
from cckd_jax.errors import InputError
from cckd_jax.methods import METHODS
from cckd_jax.paths import network_names


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a study.

    Attributes:
      name: path of the run directory below the workdir of the study, such as `mnist_lenet/seed0/kd`.
      config: the resolved config of the run.
      dataset: name of the config in the tables.
      row: name of the row that the run belongs to.
      seed: seed of the run; differences are taken between runs of equal seed.
      level: value of the setting that the study varies, for studies that vary one.
      needs: names of the runs that must finish first, because this run restores their networks. They precede this one
        in the study.
      prepare: writes a file that the run reads; called when `needs` have finished.
    """

    name: str
    config: ConfigDict
    dataset: str
    row: str
    seed: int
    level: Any = None
    needs: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None


def override(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """Returns a copy of a config with some values replaced.

    Args:
      config: stays as it is.
      values: new values by dotted name; `teachers.1.seed` is a field of the teacher with index 1.

    Returns:
      The changed copy.

    >>> from cckd_jax import config
    >>> override(config.default(), {'seed': 3, 'teachers.1.seed': 4}).teachers[1].seed
    4
    """
    changed = copy.deepcopy(config)
    with changed.unlocked():
        for name, value in values.items():
            (*groups, field) = name.split('.')
            group = changed
            for key in groups:
                group = group[int(key) if key.isdecimal() else key]
            group[field] = value
    if {'method', 'gate'} & values.keys():
        settings.declare_hyperparameters(changed)
    return changed


def stretched_alpha(config: ConfigDict, epochs: int) -> float:
    """Rate of the gate's threshold that gives it the same value in the last of another number of epochs.

    Args:
      config: its `alpha` belongs to its `student.epochs`.
      epochs: of the student.

    Returns:
      The rate.

    >>> from cckd_jax import config
    >>> round(stretched_alpha(config.default(), 20), 4)
    0.1047
    """
    alpha: float = METHODS['cckd_t_reg'].hyperparameters['alpha'] if config.alpha is None else config.alpha
    # Epochs count from 0.
    return alpha * max(1, config.student.epochs - 1) / max(1, epochs - 1)


def restore_teacher(index: int, run: Path, *, teachers: int) -> dict[str, Any]:
    """Config values with which a run restores a teacher of an earlier run instead of training its own.

    Args:
      index: of the teacher, from 0.
      run: directory of the earlier run.
      teachers: number of teachers of both runs.

    Returns:
      Values for `override`.

    >>> restore_teacher(1, Path('runs/base'), teachers=2)['teachers.1.checkpoint']
    'runs/base/teacher_1'
    """
    group = 'teacher' if teachers == 1 else f'teachers.{index}'
    # Label noise belongs to training; a config that restores a teacher must not ask for it.
    return {f'{group}.checkpoint': str(run / network_names('teacher', teachers)[index]), f'{group}.label_noise': 0.0}


def restore_networks(config: ConfigDict, run: Path, *, baseline: str) -> dict[str, Any]:
    """Config values with which a run shares the teachers and the baseline student of an earlier run.

    Args:
      config: of the run that restores; teachers that it reads from files keep their files, and without
        `separate.enabled` it restores no baseline.
      run: directory of the earlier run.
      baseline: folder of the student that was trained without a teacher: `student` if the method of the earlier run is
        `separate`, else `separate`.

    Returns:
      Values for `override`.

    >>> from cckd_jax import config
    >>> restore_networks(config.default(), Path('runs/base'), baseline='separate')
    {'attack.checkpoint': 'runs/base/separate', 'teacher.checkpoint': 'runs/base/teacher', 'teacher.label_noise': 0.0}
    """
    values: dict[str, Any] = {}
    # A run that leaves out the baseline has no such folder.
    if config.separate.enabled or baseline == 'student':
        values['attack.checkpoint'] = str(run / baseline)
    for index, teacher in enumerate(settings.teachers(config)):
        if not (teacher.checkpoint or settings.logits_source(teacher)):
            values |= restore_teacher(index, run, teachers=config.num_teachers)
    return values


def parse_shard(text: str) -> tuple[int, int]:
    """Parses `i/n`, the i-th of n shards, counted from 1.

    Raises:
      InputError: the text is not of this form, or i is not in 1..n.

    >>> parse_shard('2/3')
    (2, 3)
    """
    match = re.fullmatch(r'(\d+)/(\d+)', text)
    (index, count) = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise InputError(f'--shard={text} must be i/n with i from 1 to n; for example --shard=1/3')
    return index, count


def select_shard(jobs: Sequence[Job], shard: tuple[int, int]) -> list[Job]:
    """Selects the jobs of one shard.

    Jobs that depend on each other, directly or through others, form a group and stay together. Groups are dealt out in
    turn and not by a hash, so that the shards of a study of few groups are of equal size.

    Args:
      jobs: all jobs of the study; dependencies precede their dependents.
      shard: `(i, n)`, the i-th of n shards, counted from 1.

    Returns:
      The jobs of the shard in their order. The shards `(1, n)` to `(n, n)` are a partition of the jobs.
    """
    groups: dict[str, list[str]] = {}
    for job in jobs:
        merged = [job.name]
        for group in {id(groups[name]): groups[name] for name in job.needs}.values():
            merged = group + merged
        groups |= dict.fromkeys(merged, merged)
    leaders = list(dict.fromkeys(groups[job.name][0] for job in jobs))
    (index, count) = shard
    return [job for job in jobs if leaders.index(groups[job.name][0]) % count == index - 1]

"""Reads finished runs and names them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cckd_jax.errors import InputError
from cckd_jax.paths import expand
from cckd_jax.report import metrics


class Student(NamedTuple):
    """One student of a run.

    Attributes:
      name: `student`, or `student_0` and so on; its folder in the run directory.
      number: its index among several students; None for the only one.
      rows: its rows of `metrics.jsonl`.
    """

    name: str
    number: int | None
    rows: Sequence[dict[str, Any]]


class Run(NamedTuple):
    """A finished run.

    Attributes:
      name: tells it from the other runs.
      results: what `results.json` holds.
      config: what `config.json` holds.
      students: at least one.
    """

    name: str
    results: dict[str, Any]
    config: dict[str, Any]
    students: Sequence[Student]


def load(paths: Sequence[str | Path]) -> list[Run]:
    """Reads run directories.

    Args:
      paths: of the run directories.

    Returns:
      The runs in the same order.

    Raises:
      InputError: there is no path, a path is no run directory or is there twice, or a run is unfinished or damaged.
    """
    if not paths:
        raise InputError('no run to compare; give run directories, such as runs/kd runs/cckd_t')
    folders = [expand(path) for path in paths]
    resolved = [folder.resolve() for folder in folders]
    for index, folder in enumerate(folders):
        if resolved.index(resolved[index]) < index:
            raise InputError(f'{folder} is given twice; give each run once')
        _check_finished(folder)
    return [_read(folder, name) for folder, name in zip(folders, short_names(resolved), strict=True)]


def short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest parts of paths that tell them apart, with equally many parts for all.

    >>> short_names([Path('/runs/seed0/kd'), Path('/runs/seed1/kd'), Path('/runs/seed1/cckd_t')])
    ['seed0/kd', 'seed1/kd', 'seed1/cckd_t']
    >>> short_names([Path('/runs/seed0/kd'), Path('/runs/seed1/kd')])
    ['seed0', 'seed1']
    >>> short_names([Path('/runs/kd'), Path('/runs/5/kd'), Path('/runs/5/dml')])
    ['kd', '5/kd', '5/dml']
    """
    parts = [folder.parts for folder in folders]
    if len(parts) > 1:
        while all(len(names) > 1 for names in parts) and len({names[-1] for names in parts}) == 1:
            parts = [names[:-1] for names in parts]
        while all(len(names) > 1 for names in parts) and len({names[0] for names in parts}) == 1:
            parts = [names[1:] for names in parts]
    count = 1
    while len({names[-count:] for names in parts}) < len(parts):
        count += 1
    return [Path(*names[-count:]).as_posix() for names in parts]


def _check_finished(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f'{folder} is not a run directory: there is no such folder')
    if not (folder / 'config.json').is_file():
        runs = next((sorted(folder.glob(f'{"*/" * depth}results.json')) for depth in (1, 2, 3, 4)), [])
        hint = f'; it contains runs: give those, such as {runs[0].parent}' if runs else ''
        raise InputError(f'{folder} is not a run directory: it has no config.json{hint}')
    if not (folder / 'results.json').is_file():
        raise InputError(
            f'the run in {folder} is not finished: it has no results.json; its command finishes it: '
            f'cckd-jax distil --config=CONFIG --workdir={folder}'
        )


def _read(folder: Path, name: str) -> Run:
    results = _read_json(folder / 'results.json')
    config = _read_json(folder / 'config.json')
    student = results.get('student')
    if not isinstance(student, dict) or 'test_accuracy' not in student:
        raise InputError(
            f'{folder / "results.json"} is damaged: it has no student.test_accuracy; the command of the run makes it '
            'again'
        )
    accuracy = student['test_accuracy']
    numbers = range(len(accuracy)) if isinstance(accuracy, list) else (None,)
    names = ['student' if number is None else f'student_{number}' for number in numbers]
    students = [
        Student(name, number, metrics.read_rows(folder / name)) for name, number in zip(names, numbers, strict=True)
    ]
    return Run(name, results, config, students)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        reason = ' '.join(str(error).split())
        raise InputError(f'{path} is damaged ({reason}); the command of the run makes it again') from None
    if not isinstance(loaded, dict):
        raise InputError(f'{path} is damaged (it is not a JSON object); the command of the run makes it again')
    return loaded

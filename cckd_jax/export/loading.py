"""Students from run directories and from safetensors files."""

import json
from pathlib import Path
from typing import Any

from cckd_jax import training
from cckd_jax.errors import InputError
from cckd_jax.export import weights
from cckd_jax.export.student import Description, Student
from cckd_jax.paths import expand


def load(path: str | Path, *, student: int | None = None) -> Student:
    """Loads a trained student, without its data set and its teachers.

    Of several students that taught each other, it loads the best one on validation data, or the first if the run has no
    validation data.

    The directory may have moved, and it is only read. The student computes in float32, whatever `precision` its run
    trained with.

    Args:
      path: a run directory, or a file `student.safetensors` that `cckd-jax export` wrote.
      student: index of one of several students, from 0.

    Raises:
      InputError: there is no run or no such student, it is not trained to the end, or a file is damaged.

    >>> load('runs/missing')
    Traceback (most recent call last):
    ...
    cckd_jax.errors.InputError: no run at runs/missing; give the directory that --workdir named
    """
    path = expand(path)
    if path.suffix != weights.SUFFIX:
        return load_network(path, _folder_name(path, student))
    if student is not None:
        raise InputError(f'{path} holds one student; leave out student={student}, or give the run directory')
    return weights.load(path)


def _folder_name(run: Path, student: int | None) -> str:
    """`student`, or the folder of one of several students."""
    if student is None and not (run / 'student_0').exists():
        return 'student'
    best = (read_json(run / 'results.json').get('peers') or {}).get('best_on_validation') or {'index': 0}
    return f'student_{best["index"] if student is None else student}'


def load_network(run: Path, name: str) -> Student:
    """Loads the network in the folder `name` of a run directory; otherwise as `load`."""
    if not run.exists():
        raise InputError(f'no run at {run}; give the directory that --workdir named')
    folder = run / name
    if not (folder / 'checkpoints').is_dir():
        raise InputError(f'{run} has no trained {name}; give a run directory, or finish the run with its command')
    (meta, variables) = training.load_network(folder)
    config = read_json(run / 'config.json')
    epochs = config.get(name.partition('_')[0], {}).get('epochs', meta['epochs'])
    if meta['epochs'] != epochs:
        raise InputError(
            f'the {name} of {run} has {meta["epochs"]} of {epochs} epochs; finish the run with its command'
        )
    description = Description(
        model=meta['model'],
        options=meta['options'],
        dataset=meta['dataset'],
        class_names=_class_names(run, meta['num_classes']),
        image_shape=tuple(meta['image_shape']),
    )
    student = Student(description, variables)
    training.check_variables(variables, student.network.module, description.image_shape, folder)
    return student


def read_json(path: Path) -> dict[str, Any]:
    """Reads an object from a file of a run directory; empty if there is no such file.

    Raises:
      InputError: the file is damaged.
    """
    try:
        loaded = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(loaded, dict):
            raise ValueError('it is not a JSON object')
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f'{path} cannot be read ({error}); the command of the run makes it again') from None
    return loaded


def _class_names(run: Path, num_classes: int) -> tuple[str, ...]:
    """The names in `results.json`; runs of earlier versions have none."""
    names = read_json(run / 'results.json').get('class_names') or range(num_classes)
    if len(names) != num_classes:
        raise InputError(f'{run / "results.json"} has {len(names)} class names for {num_classes} classes')
    return tuple(map(str, names))

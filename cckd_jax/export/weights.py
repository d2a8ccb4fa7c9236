"""safetensors files: the variables of a student, and its description in the metadata."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from cckd_jax import training
from cckd_jax.errors import InputError
from cckd_jax.export.student import PREPROCESSING, Description, Student
from cckd_jax.imports import require

SUFFIX = '.safetensors'


def save(student: Student, path: Path) -> None:
    """Writes the variables under names such as `params/conv1/kernel`, and the description as JSON in `config`."""
    require('safetensors')
    from safetensors.numpy import save as serialize  # an extra

    variables = flatten_dict(jax.device_get(student.network.variables), sep='/')
    config = {**dataclasses.asdict(student.description), 'preprocessing': PREPROCESSING}
    arrays = {name: np.ascontiguousarray(array) for name, array in variables.items()}
    path.write_bytes(serialize(arrays, metadata={'format': 'flax', 'config': json.dumps(config)}))


def load(path: Path) -> Student:
    """Reads a student that `save` wrote.

    Raises:
      InputError: there is no such file, it is damaged, or it holds no student.
    """
    require('safetensors')
    from safetensors import safe_open  # an extra

    if not path.is_file():
        raise InputError(f'no file at {path}')
    try:
        with safe_open(path, 'numpy') as file:
            config = json.loads(file.metadata()['config'])
            variables = unflatten_dict({name: file.get_tensor(name) for name in file.keys()}, sep='/')  # noqa: SIM118
        description = Description(
            config['model'],
            config['options'],
            config['dataset'],
            tuple(config['class_names']),
            tuple(config['image_shape']),
        )
    except Exception as error:  # safetensors and json each raise their own
        raise InputError(
            f'cannot read a student from {path} ({type(error).__name__}: {" ".join(str(error).split())[:200]})'
        ) from None
    student = Student(description, variables)
    training.check_variables(variables, student.network.module, description.image_shape, path)
    return student

"""The settings of each teacher and student of a run: those that all share, and the fields of each."""

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

# How pixels become the input of a teacher that was trained elsewhere.
INPUT_FIELDS = ('input_layout', 'input_range', 'input_mean', 'input_std')
# Fields that identify one network; the others do not inherit them from the first.
_OWN_FIELDS = ('seed', 'checkpoint', 'logits', 'onnx', *INPUT_FIELDS)
_GATE_FIELDS = ('alpha', 'margin_temperature')


def teachers(config: ConfigDict) -> list[ConfigDict]:
    """The settings of each teacher: `config.teacher`, overridden by the fields of `config.teachers` at its index.

    Checkpoint, logits, ONNX file and its input, and seed of `config.teacher` belong to the first teacher alone. Options
    belong to a model: an index that names another model starts without them. An index that removes the gate removes its
    settings too.

    >>> from cckd_jax.config import default
    >>> config = default()
    >>> config.num_teachers = 3
    >>> config.teachers[2].model = 'lenet5_half'
    >>> [teacher.model for teacher in teachers(config)]
    ['lenet5', 'lenet5', 'lenet5_half']
    """
    return _resolved(config.teacher, config.teachers[: config.num_teachers])


def students(config: ConfigDict) -> list[ConfigDict]:
    """The settings of each student: `config.student`, overridden by the fields of `config.students` at its index.

    The seed of `config.student` belongs to the first student alone, and options to a model, as for `teachers`. All
    students train for the same number of epochs.

    >>> from cckd_jax.config import default
    >>> config = default()
    >>> config.num_students = 2
    >>> config.students[1].model = 'lenet5'
    >>> [student.model for student in students(config)]
    ['lenet5_half', 'lenet5']
    """
    return _resolved(config.student, config.students[: config.num_students])


def _resolved(network: ConfigDict, overrides: Sequence[ConfigDict]) -> list[ConfigDict]:
    resolved = []
    for index, fields in enumerate(overrides):
        copied = copy.deepcopy(network).unlock()
        if index > 0:
            for name in _OWN_FIELDS:
                if name in copied:
                    copied[name] = None
        if fields.model is not None:
            copied.options = ConfigDict()
        if fields.get('self_regulate') is False:
            copied.update(dict.fromkeys(_GATE_FIELDS))
        copied.options.update(fields.options)
        copied.update({name: value for name, value in fields.items() if name != 'options' and value is not None})
        resolved.append(copied.lock())
    return resolved


def logits_source(teacher_config: ConfigDict) -> str | None:
    """The field that gives a teacher's logits at the images and no network: `logits`, `onnx`, or None.

    >>> from cckd_jax.config import default
    >>> logits_source(default().teacher) is None
    True
    """
    return next((name for name in ('logits', 'onnx') if teacher_config.get(name)), None)


def is_weights_file(checkpoint: str | None) -> bool:
    """Whether a teacher's checkpoint is a file of weights of PyTorch, and not a folder of a run.

    >>> is_weights_file('resnet18.safetensors'), is_weights_file('RUN/teacher'), is_weights_file(None)
    (True, False, False)
    """
    return bool(checkpoint) and str(checkpoint).endswith(('.safetensors', '.pt', '.pth'))


def given_fields(networks: Sequence[ConfigDict]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The fields of `config.teachers` or `config.students` that are set, by index."""
    for index, overrides in enumerate(networks):
        fields = {name: value for name, value in json.loads(overrides.to_json()).items() if value not in (None, {})}
        if fields:
            yield index, fields

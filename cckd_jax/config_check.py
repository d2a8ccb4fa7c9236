"""Which values of settings no run can use, and which combinations."""

import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from cckd_jax.checks import HYPERPARAMETER_RANGES, Range, between, integers
from cckd_jax.config import given_fields, is_weights_file, logits_source, teachers
from cckd_jax.errors import InputError, lookup

_NETWORKS = ('teacher', 'student', 'separate')
_PIXELS = HYPERPARAMETER_RANGES['epsilon']
_FRACTION = between(0, 1, 'in [0, 1]')
_SEED = Range(lambda value: 0 <= value < 2**32, 'in [0, 2^32)')
_ABOVE_ZERO = Range(lambda value: value > 0, 'above 0')
_NOT_NEGATIVE = Range(lambda value: value >= 0, '0 or above')


def _all(values: Range) -> Range:
    in_range = lambda value: _is_number(value) and values.contains(value)
    contains = lambda sequence: bool(sequence) and all(map(in_range, sequence))
    return Range(contains, f'one or more numbers {values.words}')


def _is_shape(value: Any) -> bool:
    return len(value) == 3 and all(_is_number(size) and integers(1).contains(size) for size in value)


def _is_increasing_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


SETTING_RANGES: Mapping[str, Range] = {
    'seed': _SEED,
    'batch_size': integers(1),
    'student.epochs': integers(1),
    'student.learning_rate': _ABOVE_ZERO,
    'student.seed': _SEED,
    'separate.learning_rate': _ABOVE_ZERO,
    'dataset.examples': integers(1),
    'dataset.memory_gib': Range(lambda value: value > 0, 'above 0, or empty for half of the free memory'),
    'dataset.image_shape': Range(_is_shape, '(height, width, channels), whole numbers above 0'),
    'dataset.test_fraction': Range(lambda value: 0 < value < 1, 'in (0, 1)'),
    'dataset.split_seed': _SEED,
    'augmentation.crop': integers(0),
    'validation_fraction': Range(lambda value: 0 <= value < 1, 'in [0, 1)'),
    'precision': Range(lambda value: value in ('float32', 'bfloat16'), 'float32 or bfloat16'),
    'optimizer.weight_decay': _NOT_NEGATIVE,
    'feature_cache_gib': _NOT_NEGATIVE,
    'save_seconds': _NOT_NEGATIVE,
    'transfer.scale': _ABOVE_ZERO,
    'transfer.images': integers(1),
    'transfer.steps': integers(1),
    'transfer.batch_size': integers(1),
    'transfer.learning_rate': _ABOVE_ZERO,
    'transfer.temperature': HYPERPARAMETER_RANGES['temperature'],
    'transfer.decoder_weight': _NOT_NEGATIVE,
    'transfer.diversity_weight': _NOT_NEGATIVE,
    'transfer.decoder_layers': integers(0),
    'transfer.width': integers(1),
    'transfer.noise_units': integers(1),
    'transfer.activation_weight': _NOT_NEGATIVE,
    'transfer.balance_weight': _NOT_NEGATIVE,
    'transfer.num_samples': integers(1),
    'transfer.layers': Range(lambda value: value in ('top', 'all'), 'top or all'),
    'transfer.betas': _all(_ABOVE_ZERO),
    'attack.epsilon': _PIXELS,
    'attack.samples': integers(1),
    'evaluate.samples': integers(1),
    'evaluate.steps': integers(1),
    'evaluate.queries': integers(1),
    'evaluate.epsilons': _all(_PIXELS),
    'evaluate.temperatures': _all(HYPERPARAMETER_RANGES['temperature']),
}

_TEACHER_RANGES: Mapping[str, Range] = {
    'epochs': integers(1),
    'learning_rate': _ABOVE_ZERO,
    'seed': _SEED,
    'label_noise': _FRACTION,
    'input_layout': Range(lambda value: value in ('nhwc', 'nchw'), 'nhwc or nchw'),
    'input_range': Range(_is_increasing_pair, 'two numbers (black, white), the first smaller'),
    'input_mean': _all(Range(math.isfinite, 'by channel')),
    'input_std': _all(Range(lambda value: value > 0, 'above 0, by channel')),
    **{name: HYPERPARAMETER_RANGES[name] for name in ('alpha', 'margin_temperature', 'epsilon', 'ramp')},
}

# Settings of a teacher that have no effect without another one, by that other one.
_REQUIRES = {
    'robust': ('epsilon', 'ramp'),
    'self_regulate': ('alpha', 'margin_temperature'),
    'onnx': ('input_layout', 'input_range'),
}


def check(config: ConfigDict) -> None:
    """Raises InputError for the first value that no run can use, naming it and the supported values."""
    for name, supported in SETTING_RANGES.items():
        _check_value(config, name, supported)
    for name, value in config.items():
        if name in HYPERPARAMETER_RANGES:
            _check_value(config, name, HYPERPARAMETER_RANGES[name])
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f'{name}={value} must be finite; set --config.{name}')
    for name in config.evaluate.networks:
        lookup(dict.fromkeys(_NETWORKS), name, 'name in evaluate.networks')
    _check_teachers(config)
    _check_students(config)


def _check_teachers(config: ConfigDict) -> None:
    _check_count(config, 'teacher', 0)
    for group in ('teacher', *(f'teachers.{index}' for index in range(len(config.teachers)))):
        for name, supported in _TEACHER_RANGES.items():
            _check_value(config, f'{group}.{name}', supported)
    for index, teacher_config in enumerate(teachers(config)):
        name = 'teacher' if config.num_teachers == 1 else f'teachers.{index}'
        _check_source(config, name, teacher_config)
        _check_required(name, teacher_config)
        _check_standardization(name, teacher_config)


def _check_students(config: ConfigDict) -> None:
    _check_count(config, 'student', 1)
    for index in range(len(config.students)):
        for name in ('learning_rate', 'seed'):
            _check_value(config, f'students.{index}.{name}', SETTING_RANGES[f'student.{name}'])


def _check_count(config: ConfigDict, kind: str, least: int) -> None:
    """The number of teachers or students is supported, and only those that it counts have fields."""
    (number, fields_by_index) = (f'num_{kind}s', config[f'{kind}s'])
    most = len(fields_by_index)
    _check_value(config, number, between(least, most, f'from {least} to {most}, the length of {kind}s'))
    for index, fields in given_fields(fields_by_index):
        if index >= config[number]:
            raise InputError(
                f'{kind}s.{index}.{next(iter(fields))} is set, and {number}={config[number]}, counted from 0; '
                f'set --config.{number}={index + 1} or more'
            )


def _check_source(config: ConfigDict, name: str, teacher_config: ConfigDict) -> None:
    """A teacher comes from a checkpoint, from a file of logits, from an ONNX file, or is trained."""
    sources = [field for field in ('checkpoint', 'logits', 'onnx') if teacher_config[field] is not None]
    if len(sources) > 1:
        (first, second) = sources[:2]
        raise InputError(f'{name}.{first} and {name}.{second} are both set; a teacher comes from one of them')
    logits = logits_source(teacher_config)
    if logits and (config.augmentation.crop or config.augmentation.flip):
        raise InputError(
            f'the logits of {name}.{logits} belong to the original images, and augmentation changes them every epoch; '
            f'set {name}.checkpoint, or augmentation.crop=0 and augmentation.flip=false'
        )
    if logits and teacher_config.self_regulate:
        raise InputError(
            f'{name}.self_regulate=true needs a teacher that is trained, and {name}.{logits} is set; '
            'set --config.significance.file instead'
        )
    if logits and teacher_config.robust is not None:
        raise InputError(
            f'{name}.robust={teacher_config.robust} needs a teacher that is trained, and {name}.{logits} is set; '
            'remove one of them'
        )
    if teacher_config.label_noise and sources:
        raise InputError(
            f'{name}.label_noise={teacher_config.label_noise} needs a teacher that is trained, and '
            f'{name}.{sources[0]} is set; remove one of them'
        )


def _check_required(name: str, teacher_config: ConfigDict) -> None:
    for required, fields in _REQUIRES.items():
        for field in fields:
            if teacher_config[field] is not None and not teacher_config[required]:
                raise InputError(
                    f'{name}.{field} has no effect without {name}.{required}; set --config.{name}.{required}'
                )


def _check_standardization(name: str, teacher_config: ConfigDict) -> None:
    for field in ('input_mean', 'input_std'):
        is_from_elsewhere = teacher_config.onnx or is_weights_file(teacher_config.checkpoint)
        if teacher_config[field] is not None and not is_from_elsewhere:
            raise InputError(
                f'{name}.{field} has no effect without {name}.onnx, or {name}.checkpoint=FILE.safetensors; set one of '
                'them'
            )


def _check_value(config: ConfigDict, name: str, supported: Range) -> None:
    value = config
    for key in name.split('.'):
        value = value[int(key) if key.isdecimal() else key]
    if value is None:
        return
    if not supported.contains(value) or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(f'{name}={value} must be {supported.words}; set --config.{name}')

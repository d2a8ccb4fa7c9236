"""The settings of a run: one default that config files change, what `:smoke` makes of it, and what no run accepts.

Config files import this module alone, so that they load in milliseconds.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from cckd_jax.errors import InputError, nearest


def default() -> ConfigDict:
    """The CCKD paper's settings where it gives any; empty placeholders leave a value to the method's own row."""
    config = ConfigDict()
    config.method = 'cckd_t_reg'
    config.seed = 0
    config.batch_size = 512
    config.validation_fraction = 0.0
    config.precision = 'float32'  # what networks compute in: float32 or bfloat16; parameters and losses are float32

    config.temperature = placeholder(float)
    config.confidence_temperature = placeholder(float)
    config.margin_temperature = placeholder(float)
    config.alpha = placeholder(float)
    config.hard_weight = placeholder(float)
    config.self_regulate = placeholder(bool)  # puts the gate on any method, or takes it away
    config.recheck = False  # lets a sample rest until the threshold could have reached its margin; the student's alone
    config.longest_rest = placeholder(int)  # with recheck, the most epochs without a look
    config.compaction = placeholder(bool)  # backward passes over the kept samples alone; empty: where exact and faster

    config.dataset = ConfigDict()
    config.dataset.name = 'digits'
    config.dataset.data_dir = placeholder(str)
    config.dataset.image_shape = (28, 28, 1)  # what the embedded digits are brought to
    config.dataset.examples = placeholder(int)  # keep only so many training examples

    config.augmentation = ConfigDict()  # with any of it the teacher runs inside the step
    config.augmentation.crop = 0  # pixels around an image before a window of its size is cut from it
    config.augmentation.flip = False  # left and right

    config.teacher = ConfigDict()
    config.teacher.model = 'lenet5'  # a name, or package.module:factory
    config.teacher.options = ConfigDict()  # fields of the network's class, such as width
    config.teacher.epochs = 200
    config.teacher.learning_rate = 1e-3
    config.teacher.checkpoint = placeholder(str)  # a folder such as RUN/teacher: restored, not trained
    config.teacher.self_regulate = False  # the gate on its own training; its counts are the samples' significance
    config.teacher.alpha = placeholder(float)  # of its gate, 0.01 unless given
    config.teacher.margin_temperature = placeholder(float)  # of its gate, 20 unless given; 1 keeps far fewer
    config.teacher.logits = placeholder(str)  # a file of logits from elsewhere: no teacher network at all

    config.student = ConfigDict()
    config.student.model = 'lenet5_half'
    config.student.options = ConfigDict()
    config.student.epochs = 200
    config.student.learning_rate = placeholder(float)

    config.significance = ConfigDict()
    config.significance.normalization = 'epochs'  # or max, or mean_one
    config.significance.file = placeholder(str)  # RUN/significance.npz, or one's own counts: used, not the teacher's

    config.optimizer = ConfigDict()
    config.optimizer.name = 'adam'
    config.optimizer.schedule = 'constant'
    config.optimizer.weight_decay = 0.0

    config.attack = ConfigDict()
    config.attack.epsilon = 0.15
    config.attack.samples = 30_000
    config.attack.checkpoint = placeholder(str)  # a separately trained student, such as RUN/separate

    config.save_seconds = 10.0  # a checkpoint at the end of an epoch when the last is that old; 0: every epoch
    return config


def variant(config: ConfigDict, name: str, *, narrow: Mapping[str, Any] = MappingProxyType({})) -> ConfigDict:
    """What follows the colon of `--config=FILE:name`: nothing, or `smoke` for the whole path in seconds.

    Args:
      config: of the file.
      name: what follows the colon.
      narrow: options of both networks that make them small enough for `smoke`.

    Raises:
      InputError: there is no such variant.
    """
    if name == '':
        return config
    if name != 'smoke':
        raise InputError(f'unknown config variant {name!r}{nearest(name, ["smoke"])}; there is: smoke')
    config.dataset.name = 'digits'
    config.dataset.examples = 512
    config.batch_size = 64
    config.teacher.epochs = 2
    config.student.epochs = 2
    config.attack.samples = 64
    for part in (config.teacher, config.student):
        part.options.update(narrow)
    return config


def check(config: ConfigDict) -> None:
    """Raises InputError for the first value that no run can use, naming it and what it may be."""
    for name in (
        'temperature',
        'confidence_temperature',
        'margin_temperature',
        'teacher.margin_temperature',
        'student.learning_rate',
    ):
        _require(config, name, lambda value: value is None or value > 0, 'above 0')
    for name in ('teacher.learning_rate', 'batch_size', 'teacher.epochs', 'student.epochs', 'attack.samples'):
        _require(config, name, lambda value: value > 0, 'above 0')
    for name in ('alpha', 'teacher.alpha', 'hard_weight', 'longest_rest'):
        _require(config, name, lambda value: value is None or value >= 0, '0 or above')
    _require(config, 'seed', lambda value: 0 <= value < 2**32, 'in [0, 2^32)')
    for name in ('optimizer.weight_decay', 'save_seconds'):
        _require(config, name, lambda value: value >= 0, '0 or above')
    _require(config, 'validation_fraction', lambda value: 0 <= value < 1, 'in [0, 1)')
    _require(config, 'attack.epsilon', lambda value: 0 <= value <= 1, 'in [0, 1]: pixels are')
    _require(config, 'dataset.examples', lambda value: value is None or value > 0, 'above 0')
    _require(config, 'augmentation.crop', lambda value: value >= 0, '0 or above')
    _require(config, 'precision', lambda value: value in ('float32', 'bfloat16'), 'float32 or bfloat16')
    if config.teacher.logits is not None and (config.augmentation.crop or config.augmentation.flip):
        raise InputError(
            'teacher.logits belong to images as they are, and augmentation changes them every epoch; '
            'give teacher.checkpoint, or set augmentation.crop=0 and augmentation.flip=false'
        )
    if config.teacher.checkpoint is not None and config.teacher.logits is not None:
        raise InputError('teacher.checkpoint and teacher.logits are both given; a teacher comes from one of them')
    if config.teacher.logits is not None and config.teacher.self_regulate:
        raise InputError(
            'teacher.self_regulate=true needs a teacher that is trained, and teacher.logits are given; '
            'give --config.significance.file instead'
        )
    for name in ('alpha', 'margin_temperature'):
        if config.teacher[name] is not None and not config.teacher.self_regulate:
            raise InputError(
                f'teacher.{name} is of the gate that the teacher does not have; set --config.teacher.self_regulate=true'
            )


def _require(config: ConfigDict, name: str, holds: Callable[[Any], bool], meaning: str) -> None:
    value = config
    for part in name.split('.'):
        value = value[part]
    if not holds(value) or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(f'{name}={value} must be {meaning}; set --config.{name}')

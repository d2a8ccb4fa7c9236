"""The settings of a run: the default that config files change, the `:smoke` variant, and the checks of values.

The hyper-parameters of methods and gates are settings too; their names come from the rows (`hyperparameter_types`).
"""

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from cckd_jax.errors import InputError, lookup, nearest

if TYPE_CHECKING:
    from cckd_jax.methods import Gate, Method

# On the command line; a config file may have more.
_MOST_TEACHERS = 8
# Which one teacher it is, and not of what kind: the others do not take it over from the first.
_OF_ONE_TEACHER = ('seed', 'checkpoint', 'logits')
_OF_GATE = ('alpha', 'margin_temperature')


def default() -> ConfigDict:
    """The CCKD paper's settings where it gives any; empty placeholders leave a value to the method's own row."""
    config = ConfigDict()
    config.method = 'cckd_t_reg'
    config.seed = 0
    config.batch_size = 512
    config.validation_fraction = 0.0
    config.precision = 'float32'  # what networks compute in: float32 or bfloat16; parameters and losses are float32

    for name, kind in _built_in_hyperparameters().items():
        config[name] = placeholder(kind)
    config.gate = placeholder(str)  # self_regulated, none, or package.module:NAME; empty: the method's own
    config.self_regulate = placeholder(bool)  # true: gate=self_regulated; false: gate=none
    config.recheck = False  # dropped samples also skip their forward pass until the gate may keep them; student only
    config.compaction = placeholder(bool)  # backward passes over the kept samples alone; empty: where exact and faster
    config.feature_cache_gib = 1.0  # teachers' feature maps that take no more on a device are computed once

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
    config.teacher.margin_temperature = placeholder(float)  # of its gate, 1 unless given; 20 keeps nearly all
    config.teacher.robust = placeholder(str)  # adversarial or ibp training; empty: on the images as they are
    config.teacher.epsilon = placeholder(float)  # of its robust training, 8/255 unless given
    config.teacher.ramp = placeholder(int)  # of its robust training, epochs in which its radius grows
    config.teacher.logits = placeholder(str)  # a file of logits from elsewhere: no teacher network at all
    config.teacher.check_logits = True  # refuse logits that agree with the labels hardly more often than by chance
    config.teacher.seed = placeholder(int)  # the run's unless given
    config.teacher.label_noise = 0.0  # share of its training labels that are shuffled: a worse teacher, on purpose

    config.num_teachers = 1  # the others are like config.teacher, each from a seed of its own
    config.teachers = tuple(_no_overrides(config.teacher) for _ in range(_MOST_TEACHERS))  # by index, the first is 0

    config.student = ConfigDict()
    config.student.model = 'lenet5_half'
    config.student.options = ConfigDict()
    config.student.epochs = 200
    config.student.learning_rate = placeholder(float)

    config.separate = ConfigDict()  # the student trained alone, by the labels
    config.separate.learning_rate = placeholder(float)  # 1e-3 unless given, as the CCKD paper has it

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

    config.evaluate = ConfigDict()  # what is measured beside accuracies, on the test split
    config.evaluate.calibration = True
    config.evaluate.robustness = False  # attacks on the networks themselves: minutes on a CPU
    config.evaluate.faithfulness = False  # teacher and student around the images: minutes on a CPU
    config.evaluate.networks = ('teacher', 'student', 'separate')  # whose; separate is the student trained alone
    config.evaluate.epsilons = (0.1,)  # radii of the last two
    config.evaluate.samples = 500  # images of the last two
    config.evaluate.steps = 20  # of each search along gradients
    config.evaluate.queries = 500  # of the search without any
    config.evaluate.temperatures = (1.0, 20.0)  # at which cross entropy is attacked
    config.evaluate.bounds = 'crown_ibp'  # or ibp, looser and cheaper; or crown, mostly tighter and very slow

    config.save_seconds = 10.0  # a checkpoint at the end of an epoch when the last is that old; 0: every epoch
    return config


def hyperparameter_types(*rows: 'Method | Gate') -> dict[str, type]:
    """The hyper-parameters of methods and gates with their types, by name; None stands for an optional float.

    >>> from cckd_jax.methods import METHODS
    >>> hyperparameter_types(METHODS['cckd_t'])
    {'temperature': <class 'float'>, 'confidence_temperature': <class 'float'>}
    """
    values = {name: value for row in rows for name, value in row.hyperparameters.items()}
    return {name: float if value is None else type(value) for name, value in values.items()}


def declare_hyperparameters(config: ConfigDict, arguments: Sequence[str] = ()) -> None:
    """Adds the hyper-parameters of a config's method and gate that come from outside the package, as empty settings.

    Args:
      config: changed in place; its own method and gate count unless the arguments name others.
      arguments: of a command line; `--config.method=` and `--config.gate=` are read.

    Raises:
      InputError: there is no such method or gate, or a hyper-parameter has the name of another setting.
    """
    from cckd_jax import methods

    names = {name: config.get(name) for name in ('method', 'gate')}
    for argument in arguments:
        (name, _, value) = argument.removeprefix('--config.').partition('=')
        if argument.startswith('--config.') and name in names:
            names[name] = value
    rows: list[Method | Gate | None] = [methods.get(names['method'])]
    if names['gate']:
        rows.append(methods.get_gate(names['gate']))
    reserved = set(default()) - _built_in_hyperparameters().keys()
    with config.unlocked():
        for name, kind in hyperparameter_types(*filter(None, rows)).items():
            if name in reserved:
                raise InputError(
                    f'the hyper-parameter {name!r} of {names["method"]} has the name of another setting; rename it'
                )
            if name not in config or (config[name] is None and config.get_type(name) is not kind):
                config[name] = placeholder(kind)


def active_hyperparameters(config: ConfigDict) -> dict[str, Any]:
    """The hyper-parameters of a config's method and gate, with the values of their rows."""
    from cckd_jax import methods

    method = methods.get(config.method)
    gate = method.gate
    if config.gate is not None or config.self_regulate is not None:
        gate = methods.get_gate(config.gate or ('self_regulated' if config.self_regulate else 'none'))
    if config.recheck and gate is methods.SELF_REGULATED:
        gate = methods.SELF_REGULATED_RECHECK
    return {**(gate.hyperparameters if gate else {}), **method.hyperparameters}


def ignored_hyperparameters(config: ConfigDict, arguments: Sequence[str]) -> list[str]:
    """The hyper-parameters that a command line sets and the config's method does not have."""
    names = [argument.removeprefix('--config.').partition('=')[0] for argument in arguments]
    active = active_hyperparameters(config)
    return [name for name in _built_in_hyperparameters() if name in names and name not in active]


def _built_in_hyperparameters() -> dict[str, type]:
    from cckd_jax import methods  # A config file loads without JAX.

    return hyperparameter_types(*methods.METHODS.values(), *methods.GATES.values())


def _no_overrides(teacher: ConfigDict) -> ConfigDict:
    """The fields of a teacher, all empty."""
    fields = ConfigDict()
    for name in teacher:
        fields[name] = ConfigDict() if name == 'options' else placeholder(teacher.get_type(name))
    return fields


def teachers(config: ConfigDict) -> list[ConfigDict]:
    """The settings of each teacher: those of `config.teacher`, and over them what `config.teachers` has at its index.

    Checkpoint, logits and seed of `config.teacher` are the first's alone. Options belong to a model: where an index
    names another one, they begin anew; and where it takes the gate away, the gate's settings go with it.

    >>> config = default()
    >>> config.num_teachers = 3
    >>> config.teachers[2].model = 'lenet5_half'
    >>> [part.model for part in teachers(config)]
    ['lenet5', 'lenet5', 'lenet5_half']
    """
    found = []
    for place, own in enumerate(config.teachers[: config.num_teachers]):
        part = copy.deepcopy(config.teacher).unlock()
        if place > 0:
            for name in _OF_ONE_TEACHER:
                part[name] = None
        if own.model is not None:
            part.options = ConfigDict()
        if own.self_regulate is False:
            part.update(dict.fromkeys(_OF_GATE))
        part.options.update(own.options)
        part.update({name: value for name, value in own.items() if name != 'options' and value is not None})
        found.append(part.lock())
    return found


def as_dict(config: ConfigDict) -> dict[str, Any]:
    """The settings as JSON has them; of `teachers` those alone that are given, by index."""
    found = json.loads(config.to_json())
    found['teachers'] = {str(place): own for place, own in given_teachers(config)}
    return found


def given_teachers(config: ConfigDict) -> Iterator[tuple[int, dict[str, Any]]]:
    """What `config.teachers` has of its own, by index."""
    for place, own in enumerate(config.teachers):
        given = {name: value for name, value in json.loads(own.to_json()).items() if value not in (None, {})}
        if given:
            yield place, given


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
    for own in config.teachers:
        if own.epochs is not None:
            own.epochs = 2
    config.evaluate.samples = 16
    config.evaluate.steps = 2
    config.evaluate.queries = 10
    for part in (config.teacher, config.student):
        part.options.update(narrow)
    return config


def check(config: ConfigDict) -> None:
    """Raises InputError for the first value that no run can use, naming it and what it may be."""
    for name in (
        'temperature',
        'confidence_temperature',
        'margin_temperature',
        'student.learning_rate',
        'separate.learning_rate',
    ):
        _require(config, name, _or_empty(lambda value: value > 0), 'above 0')
    for name in ('batch_size', 'student.epochs', 'attack.samples'):
        _require(config, name, lambda value: value > 0, 'above 0')
    for name in (
        'alpha',
        'hard_weight',
        'soft_weight',
        'feature_weight',
        'longest_rest',
        'trust_power',
        'warm_up',
        'ramp',
    ):
        _require(config, name, _or_empty(lambda value: value >= 0), '0 or above')
    for name in ('adversarial_weight', 'rho'):
        _require(config, name, _or_empty(lambda value: 0 <= value <= 1), 'in [0, 1]')
    _require(config, 'epsilon', _or_empty(lambda value: 0 <= value <= 1), 'in [0, 1]: pixels are')
    _require(config, 'attack_steps', _or_empty(lambda value: value > 0), 'above 0')
    _require(config, 'seed', lambda value: 0 <= value < 2**32, 'in [0, 2^32)')
    for name in ('optimizer.weight_decay', 'save_seconds', 'feature_cache_gib'):
        _require(config, name, lambda value: value >= 0, '0 or above')
    _require(config, 'validation_fraction', lambda value: 0 <= value < 1, 'in [0, 1)')
    _require(config, 'attack.epsilon', lambda value: 0 <= value <= 1, 'in [0, 1]: pixels are')
    for name in ('samples', 'steps', 'queries'):
        _require(config, f'evaluate.{name}', lambda value: value > 0, 'above 0')
    for name in config.evaluate.networks:
        lookup(dict.fromkeys(('teacher', 'student', 'separate')), name, 'name in evaluate.networks')
    number = lambda value: isinstance(value, (int, float))
    in_range = lambda values: values and all(number(value) and 0 <= value <= 1 for value in values)
    _require(config, 'evaluate.epsilons', in_range, 'one or more in [0, 1]: pixels are')
    above = lambda values: values and all(number(value) and value > 0 for value in values)
    _require(config, 'evaluate.temperatures', above, 'one or more above 0')
    _require(config, 'dataset.examples', lambda value: value is None or value > 0, 'above 0')
    _require(config, 'augmentation.crop', lambda value: value >= 0, '0 or above')
    _require(config, 'precision', lambda value: value in ('float32', 'bfloat16'), 'float32 or bfloat16')
    _require(config, 'reduction', _or_empty(lambda value: value in ('official', 'paper')), 'official or paper')
    _require(config, 'largest_weight', _or_empty(lambda value: 0 < value <= 1), 'in (0, 1]')
    _check_teachers(config)


def _check_teachers(config: ConfigDict) -> None:
    most = len(config.teachers)
    _require(config, 'num_teachers', lambda value: 1 <= value <= most, f'from 1 to {most}, the length of teachers')
    for place, own in given_teachers(config):
        if place >= config.num_teachers:
            raise InputError(
                f'teachers.{place}.{next(iter(own))} is given, and num_teachers={config.num_teachers}, counted from 0; '
                f'set --config.num_teachers={place + 1} or more'
            )
    for group in ('teacher', *(f'teachers.{place}' for place in range(most))):
        for name in ('margin_temperature', 'learning_rate', 'epochs'):
            _require(config, f'{group}.{name}', _or_empty(lambda value: value > 0), 'above 0')
        for name in ('alpha', 'ramp'):
            _require(config, f'{group}.{name}', _or_empty(lambda value: value >= 0), '0 or above')
        _require(config, f'{group}.epsilon', _or_empty(lambda value: 0 <= value <= 1), 'in [0, 1]: pixels are')
        _require(config, f'{group}.label_noise', _or_empty(lambda value: 0 <= value <= 1), 'in [0, 1]')
        _require(config, f'{group}.seed', _or_empty(lambda value: 0 <= value < 2**32), 'in [0, 2^32)')
    for place, part in enumerate(teachers(config)):
        _check_teacher(config, 'teacher' if config.num_teachers == 1 else f'teachers.{place}', part)


def _check_teacher(config: ConfigDict, name: str, part: ConfigDict) -> None:
    if part.logits is not None and (config.augmentation.crop or config.augmentation.flip):
        raise InputError(
            f'{name}.logits belong to images as they are, and augmentation changes them every epoch; '
            f'give {name}.checkpoint, or set augmentation.crop=0 and augmentation.flip=false'
        )
    if part.checkpoint is not None and part.logits is not None:
        raise InputError(f'{name}.checkpoint and {name}.logits are both given; a teacher comes from one of them')
    if part.logits is not None and part.self_regulate:
        raise InputError(
            f'{name}.self_regulate=true needs a teacher that is trained, and {name}.logits are given; '
            'give --config.significance.file instead'
        )
    if part.logits is not None and part.robust is not None:
        raise InputError(
            f'{name}.robust={part.robust} needs a teacher that is trained, and {name}.logits are given; '
            'leave one of them out'
        )
    for field in ('epsilon', 'ramp'):
        if part[field] is not None and part.robust is None:
            raise InputError(
                f'{name}.{field} is of robust training, which the teacher does not have; set --config.{name}.robust'
            )
    for gate in _OF_GATE:
        if part[gate] is not None and not part.self_regulate:
            raise InputError(
                f'{name}.{gate} is of the gate that the teacher does not have; set --config.{name}.self_regulate=true'
            )
    if part.label_noise and (part.checkpoint or part.logits) is not None:
        given = 'checkpoint' if part.checkpoint else 'logits'
        raise InputError(
            f'{name}.label_noise={part.label_noise} is of a teacher that is trained, and {name}.{given} is given; '
            'leave one of them out'
        )


def _or_empty(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _require(config: ConfigDict, name: str, holds: Callable[[Any], bool], meaning: str) -> None:
    value = config
    for part in name.split('.'):
        value = value[int(part) if part.isdecimal() else part]
    if not holds(value) or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(f'{name}={value} must be {meaning}; set --config.{name}')

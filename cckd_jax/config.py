"""The settings of a run: the defaults, which config files change, and the `:smoke` variant.

The hyper-parameters of methods and gates are settings too; their names come from the rows (`hyperparameter_types`).
"""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from cckd_jax.config_networks import (
    INPUT_FIELDS as INPUT_FIELDS,
    given_fields as given_fields,
    is_weights_file as is_weights_file,
    logits_source as logits_source,
    students as students,
    teachers as teachers,
)
from cckd_jax.errors import InputError, nearest

if TYPE_CHECKING:
    from cckd_jax.methods import Gate, Method

# The most that a command line can set; a config file may have more.
_MAX_TEACHERS = 8
_MAX_STUDENTS = 8
# Fields that students who train together share.
_SHARED_FIELDS = ('epochs',)
# Settings that do not affect results, which may change when a run directory is reused.
WITHOUT_EFFECT = ('dataset.data_dir', 'dataset.memory_gib', 'save_seconds', 'feature_cache_gib', 'tracker')


def default() -> ConfigDict:
    """The CCKD paper's settings; an empty placeholder leaves the value to the method's row."""
    return _default(_built_in_hyperparameters(), _transfer_settings())


def default_without_hyperparameters() -> ConfigDict:
    """`default()` without the settings of methods, gates and transfer sets, which takes no import of JAX.

    >>> config = default_without_hyperparameters()
    >>> config.batch_size, 'temperature' in config
    (512, False)
    """
    return _default({}, {})


def _default(hyperparameters: Mapping[str, type], transfer: Mapping[str, type]) -> ConfigDict:
    config = ConfigDict()
    config.method = 'cckd_t_reg'
    config.seed = 0
    config.batch_size = 512
    config.validation_fraction = 0.0
    config.precision = 'float32'  # of the networks' computation: float32 or bfloat16; parameters and losses are float32

    for name, kind in hyperparameters.items():
        config[name] = placeholder(kind)
    config.gate = placeholder(str)  # self_regulated, none, or package.module:NAME; empty: the method's own
    config.self_regulate = placeholder(bool)  # true: gate=self_regulated; false: gate=none
    config.recheck = False  # dropped samples also skip their forward pass until the gate may keep them; student only
    config.compaction = placeholder(bool)  # backward passes over the kept samples only; empty: where exact and faster
    config.feature_cache_gib = 1.0  # teachers' feature maps up to this size per device are computed once

    config.dataset = ConfigDict()
    config.dataset.name = 'digits'
    config.dataset.data_dir = placeholder(str)
    # Of the embedded digits, (28, 28, 1) if empty, and of the images of a folder; other data sets keep their shape.
    config.dataset.image_shape = placeholder(tuple)
    config.dataset.test_fraction = 0.2  # of a folder without test images
    config.dataset.split_seed = 0  # of this choice, so that runs with other seeds have the same test split
    config.dataset.skip_unreadable = False  # leaves out files of a folder that cannot be read
    config.dataset.memory_gib = placeholder(float)  # larger data stays on the disk; empty: half of the free memory
    config.dataset.examples = placeholder(int)  # number of training examples to keep; empty: all

    config.augmentation = ConfigDict()  # with augmentation, the teacher runs inside the step
    config.augmentation.crop = 0  # pixels of padding from which images are cropped at random
    config.augmentation.flip = False  # flips images left to right at random
    config.augmentation.per_student = False  # each of several students draws its own

    config.teacher = ConfigDict()
    config.teacher.model = 'lenet5'  # a name, or package.module:factory
    config.teacher.options = ConfigDict()  # fields of the network's class, such as width
    config.teacher.epochs = 200
    config.teacher.learning_rate = 1e-3
    config.teacher.checkpoint = placeholder(
        str
    )  # a folder of a trained network, such as RUN/teacher, or a file of weights
    config.teacher.self_regulate = False  # trains the teacher with the gate, which counts the significance of samples
    config.teacher.alpha = placeholder(float)  # of its gate; empty: 0.01
    config.teacher.margin_temperature = placeholder(float)  # of its gate; empty: 1; 20 keeps nearly all samples
    config.teacher.robust = placeholder(str)  # adversarial or ibp training; empty: ordinary training
    config.teacher.epsilon = placeholder(float)  # of its robust training; empty: 8/255
    config.teacher.ramp = placeholder(int)  # epochs in which the radius of its robust training grows
    config.teacher.logits = placeholder(str)  # a file of logits that replaces the teacher network
    config.teacher.onnx = placeholder(str)  # an ONNX file that replaces the teacher network
    config.teacher.input_layout = placeholder(str)  # of an ONNX teacher: nhwc or nchw; empty: as the graph shows
    config.teacher.input_range = placeholder(tuple)  # of its pixels before mean and std; empty: (0, 1)
    config.teacher.input_mean = placeholder(
        tuple
    )  # subtracted from its pixels, or from those of a file of weights; empty: 0
    config.teacher.input_std = placeholder(tuple)  # by which they are divided; empty: 1
    config.teacher.check_logits = True  # refuses probabilities, and a file of logits whose accuracy is at chance
    config.teacher.seed = placeholder(int)  # empty: the run's
    config.teacher.label_noise = 0.0  # fraction of its training labels that are shuffled, for a worse teacher

    config.num_teachers = 1  # the others are like config.teacher, each with its own seed; 0: none
    config.teachers = tuple(_no_overrides(config.teacher) for _ in range(_MAX_TEACHERS))  # by index, the first is 0

    config.student = ConfigDict()
    config.student.model = 'lenet5_half'
    config.student.options = ConfigDict()
    config.student.epochs = 200
    config.student.learning_rate = placeholder(float)
    config.student.seed = placeholder(int)  # empty: the run's

    config.num_students = 1  # students that train together; the others are like config.student, each with its own seed
    config.students = tuple(_no_overrides(config.student, without=_SHARED_FIELDS) for _ in range(_MAX_STUDENTS))

    config.separate = ConfigDict()  # the baseline: the student trained without a teacher
    config.separate.enabled = True  # false omits the baseline, and with it the comparison and the transfer attack
    config.separate.learning_rate = placeholder(float)  # empty: 1e-3, as in the CCKD paper

    config.significance = ConfigDict()
    config.significance.normalization = 'epochs'  # or max, or mean_one
    config.significance.file = placeholder(str)  # counts that replace the teacher's, such as RUN/significance.npz

    config.transfer = ConfigDict()  # a transfer set that takes the place of the student's training set
    config.transfer.name = placeholder(str)  # the system that makes it; empty: the student learns on the training set
    config.transfer.scale = 1.0  # of its numbers of images and steps
    config.transfer.label = placeholder(str)  # nominal, soft or teacher; empty: the system's own
    config.transfer.reject = False  # leaves out samples whose label is not the teacher's class
    config.transfer.augment = False  # shows samples under the transformations of ZSKD, which labels do not follow
    for name, kind in transfer.items():
        config.transfer[name] = placeholder(kind)

    config.optimizer = ConfigDict()
    config.optimizer.name = 'adam'
    config.optimizer.schedule = 'constant'
    config.optimizer.weight_decay = 0.0

    config.attack = ConfigDict()
    config.attack.epsilon = 0.15
    config.attack.samples = 30_000
    config.attack.checkpoint = placeholder(str)  # a trained baseline, such as RUN/separate

    config.evaluate = ConfigDict()  # measurements in addition to accuracies, on the test split
    config.evaluate.extra = ()  # evaluators from outside the package, package.module:NAME
    config.evaluate.attacks = ()  # attacks from outside the package, package.module:NAME
    config.evaluate.transfer_attack = True  # attacks the student with examples of the baseline (config.attack)
    config.evaluate.calibration = True
    config.evaluate.robustness = False  # attacks on each network; takes minutes on a CPU
    config.evaluate.faithfulness = False  # teacher against student under perturbations; takes minutes on a CPU
    # Networks to attack; separate is the baseline.
    config.evaluate.networks = ('teacher', 'student', 'separate')
    config.evaluate.epsilons = (0.1,)  # radii of robustness and faithfulness
    config.evaluate.samples = 500  # test images for robustness and faithfulness
    config.evaluate.steps = 20  # steps of each attack that follows gradients
    config.evaluate.queries = 500  # queries of the attack without gradients
    config.evaluate.temperatures = (1.0, 20.0)  # of the cross entropy that attacks maximise
    config.evaluate.bounds = 'crown_ibp'  # or ibp, looser and cheaper; or crown, mostly tighter and very slow

    config.save_seconds = 10.0  # saves after an epoch if the last checkpoint is this old; 0: after every epoch
    config.tracker = placeholder(str)  # wandb, trackio, or package.module:NAME; empty: none
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
      config: changed in place; its method and gate apply unless the arguments name others.
      arguments: of a command line; `--config.method=` and `--config.gate=` are read.

    Raises:
      InputError: there is no such method or gate, or a hyper-parameter has the name of another setting.
    """
    from cckd_jax import methods  # importing this module must not import JAX

    names = {name: config.get(name) for name in ('method', 'gate')}
    for argument in arguments:
        (name, _, value) = argument.removeprefix('--config.').partition('=')
        if argument.startswith('--config.') and name in names:
            names[name] = value
    rows: list[Method | Gate] = [methods.get(names['method'])]
    gate = methods.get_gate(names['gate'] or 'none')
    if gate is not None:
        rows.append(gate)
    reserved = set(default()) - _built_in_hyperparameters().keys()
    with config.unlocked():
        for name, kind in hyperparameter_types(*rows).items():
            if name in reserved:
                raise InputError(
                    f'the hyper-parameter {name!r} of {names["method"]} has the name of another setting; rename it'
                )
            if name not in config or (config[name] is None and config.get_type(name) is not kind):
                config[name] = placeholder(kind)


def active_hyperparameters(config: ConfigDict) -> dict[str, Any]:
    """The hyper-parameters of a config's method and gate, with the values of their rows."""
    from cckd_jax import methods  # importing this module must not import JAX

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
    from cckd_jax import methods  # importing this module must not import JAX

    return hyperparameter_types(*methods.METHODS.values(), *methods.GATES.values())


def _transfer_settings() -> dict[str, type]:
    from cckd_jax import synthesis  # importing this module must not import JAX

    return synthesis.setting_types()


def _no_overrides(network: ConfigDict, without: Sequence[str] = ()) -> ConfigDict:
    """The fields of a teacher or a student, all empty."""
    fields = ConfigDict()
    for name in network:
        if name not in without:
            fields[name] = ConfigDict() if name == 'options' else placeholder(network.get_type(name))
    return fields


def as_dict(config: ConfigDict) -> dict[str, Any]:
    """The settings as JSON values; `teachers` and `students` contain only the fields that are set, by index."""
    settings = json.loads(config.to_json())
    for name in ('teachers', 'students'):
        settings[name] = {str(index): fields for index, fields in given_fields(config[name])}
    return settings


def variant(config: ConfigDict, name: str, *, narrow: Mapping[str, Any] = MappingProxyType({})) -> ConfigDict:
    """Applies the variant after the colon of `--config=FILE:name`: none, or `smoke`, a whole run in seconds.

    Args:
      config: the config of the file; changed in place.
      name: name of the variant.
      narrow: options that make both networks small enough for `smoke`.

    Raises:
      InputError: there is no such variant.
    """
    if name == '':
        return config
    if name != 'smoke':
        raise InputError(f'unknown config variant {name!r}{nearest(name, ["smoke"])}; there is: smoke')
    config.dataset.name = 'digits'
    config.dataset.examples = 256
    config.batch_size = 64
    config.teacher.epochs = 2
    config.student.epochs = 2
    config.attack.samples = 64
    if config.transfer.name is not None:
        config.transfer.images = 256
        config.transfer.steps = 10
    for teacher in config.teachers:
        if teacher.epochs is not None:
            teacher.epochs = 2
    config.evaluate.samples = 16
    config.evaluate.steps = 2
    config.evaluate.queries = 10
    for network_config in (config.teacher, config.student):
        network_config.options.update(narrow)
    return config

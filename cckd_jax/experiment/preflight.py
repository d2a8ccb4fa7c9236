"""Pre-flight checks for robust training and evaluation."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from cckd_jax import config as settings, robustness
from cckd_jax.errors import InputError, lookup
from cckd_jax.experiment.networks import Run, create_model
from cckd_jax.experiment.teachers import resolve_method
from cckd_jax.methods import Method
from cckd_jax.models import Network
from cckd_jax.paths import network_names


def check(config: ConfigDict, method: Method, teacher_configs: Sequence[ConfigDict]) -> None:
    """Raises InputError if the settings alone show that the run needs a live teacher, or bounds, that it lacks."""
    for row in (method, *map(resolve_method, teacher_configs)):
        lookup(robustness.PROPAGATIONS, row.hyperparameters.get('bounds', 'ibp'), 'bounds')
    lookup(robustness.PROPAGATIONS, config.evaluate.bounds, 'evaluate.bounds')
    if config.evaluate.faithfulness and config.precision != 'float32':
        raise InputError(
            f'evaluate.faithfulness=true certifies networks in float32, and precision={config.precision}; set one of '
            'them otherwise'
        )
    if config.evaluate.faithfulness and len(teacher_configs) != 1:
        raise InputError(
            f'evaluate.faithfulness=true compares a student with one teacher, and num_teachers={len(teacher_configs)}; '
            'set evaluate.faithfulness=false'
        )
    if not teacher_configs:
        return
    source = settings.logits_source(teacher_configs[0])
    if source and config.evaluate.faithfulness:
        raise InputError(
            f'evaluate.faithfulness=true evaluates the teacher at points near the images, and teacher.{source} covers '
            'the images alone; give --config.teacher.checkpoint instead, or set evaluate.faithfulness=false'
        )
    if source and method.live_teacher:
        raise InputError(
            f'{config.method} evaluates the teacher at points near the images, and teacher.{source} covers the images '
            'alone; give --config.teacher.checkpoint, or a method that reads logits, such as cckd_t or kd'
        )


def check_layers(run: Run, method: Method) -> None:
    """Raises InputError for a network that the run bounds and that has a layer without a rule."""
    config = run.config
    bounds_pair = 'bounds' in method.hyperparameters or config.evaluate.faithfulness
    bounded = [('student', student_config) for student_config in run.students] if bounds_pair else []
    for name, teacher_config in zip(network_names('teacher', len(run.teachers)), run.teachers, strict=True):
        if bounds_pair or 'bounds' in resolve_method(teacher_config).hyperparameters:
            bounded.append((name, teacher_config))
    for name, network_config in bounded:
        module = create_model(config, network_config, run.dataset.num_classes)
        try:
            robustness.check_layers(Network(module, {}))
        except InputError as error:
            raise InputError(f'the {name}, {network_config.model}: {error}') from None

"""Whether what a run is asked about the surroundings of samples can be answered, said before anything is trained."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from cckd_jax.errors import InputError, lookup
from cckd_jax.experiment.networks import Run, create_model
from cckd_jax.experiment.teachers import names, resolve_method
from cckd_jax.methods import Method
from cckd_jax.models import Network
from cckd_jax.robustness import PROPAGATIONS, check_layers as check_known


def check(config: ConfigDict, method: Method, parts: Sequence[ConfigDict]) -> None:
    """Raises InputError where it is certain from the settings that the teacher itself is asked for and is not there."""
    for each in (method, *map(resolve_method, parts)):
        lookup(PROPAGATIONS, each.hyperparameters.get('bounds', 'ibp'), 'bounds')
    lookup(PROPAGATIONS, config.evaluate.bounds, 'evaluate.bounds')
    if config.evaluate.faithfulness and config.precision != 'float32':
        raise InputError(
            f'evaluate.faithfulness=true certifies networks in float32, and precision={config.precision}; set one of '
            'them otherwise'
        )
    if config.evaluate.faithfulness and len(parts) > 1:
        raise InputError(
            f'evaluate.faithfulness=true compares a student with one teacher, and num_teachers={len(parts)}; '
            'set evaluate.faithfulness=false'
        )
    if parts[0].logits and config.evaluate.faithfulness:
        raise InputError(
            'evaluate.faithfulness=true asks the teacher about points near the images, and teacher.logits are of the '
            'images alone; give --config.teacher.checkpoint instead, or set evaluate.faithfulness=false'
        )
    if parts[0].logits and method.live_teacher:
        raise InputError(
            f'{config.method} asks the teacher about points near the images, and teacher.logits are of the images '
            'alone; give --config.teacher.checkpoint instead'
        )


def check_layers(this: Run, method: Method) -> None:
    """Raises InputError for a network that is to be bounded and has a layer without a rule."""
    config = this.config
    both = 'bounds' in method.hyperparameters or config.evaluate.faithfulness
    asked = [('student', config.student, both)]
    for name, part in zip(names(len(this.teachers)), this.teachers, strict=True):
        asked.append((name, part, both or 'bounds' in resolve_method(part).hyperparameters))
    for name, part, bounded in asked:
        if bounded:
            try:
                check_known(Network(create_model(config, part, this.dataset.num_classes), {}))
            except InputError as error:
                raise InputError(f'the {name}, {part.model}: {error}') from None

"""The stages that a run has, with the work of those that train."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cckd_jax import models, synthesis
from cckd_jax.experiment import networks, students, teachers, transfer
from cckd_jax.experiment.networks import Run
from cckd_jax.memoize import memoize
from cckd_jax.methods import Method
from cckd_jax.paths import network_names
from cckd_jax.report.stages import EVALUATION, REPORT, TEACHER_OUTPUTS, TRANSFER_SET, Stage, Stages
from cckd_jax.training.teacher_outputs import TeacherOutputs


def plan(run: Run, method: Method, pretrained: Sequence[teachers.Loaded], *, trains_baseline: bool) -> Stages:
    """The stages of a run, in order.

    Args:
      run: the run.
      method: the method that trains the students.
      pretrained: for each teacher what was loaded, or None if the run trains it.
      trains_baseline: whether the run trains the student without a teacher.
    """
    config = run.config
    images = len(run.dataset.train)
    stages = [
        _training(run, name, [teacher], images, teachers.resolve_method(teacher))
        for name, teacher, loaded in zip(
            network_names('teacher', len(run.teachers)), run.teachers, pretrained, strict=True
        )
        if loaded is None
    ]
    if not all(isinstance(loaded, TeacherOutputs) for loaded in pretrained):
        stages.append(Stage(TEACHER_OUTPUTS))
    images_of_students = images
    if config.transfer.name is not None:
        stages.append(Stage(TRANSFER_SET, config.transfer.name, cost=None))
        values = transfer.resolve(config, synthesis.SYSTEMS[config.transfer.name])
        images_of_students = values.get('images', 0) + values.get('num_samples', 0)
    stages.append(_training(run, students.stage_name(len(run.students)), run.students, images_of_students, method))
    if trains_baseline:
        stages.append(_training(run, 'separate', run.students[:1], images))
    evaluate = config.evaluate
    takes_minutes = evaluate.robustness or evaluate.faithfulness or evaluate.extra
    return Stages([*stages, Stage(EVALUATION, cost=None if takes_minutes else 0.0), Stage(REPORT)])


def _training(
    run: Run, name: str, network_configs: Sequence[ConfigDict], images: int, method: Method | None = None
) -> Stage:
    """A stage that trains networks together; its cost is the number of operations of their forward passes."""
    epochs = network_configs[0].epochs
    operations = [_operations(run, network_config) for network_config in network_configs]
    # How often a search for adversarial images or a bound runs the networks is not known here.
    is_known = all(operations) and (method is None or method.perturb is None)
    return Stage(name, f'{epochs} epoch{"s" * (epochs > 1)}', epochs * images, sum(operations) if is_known else None)


def _operations(run: Run, network_config: ConfigDict) -> float:
    module = networks.create_model(run.config, network_config, run.dataset.num_classes)
    return _forward_operations(module, run.dataset.image_shape)


@memoize
def _forward_operations(module: nn.Module, image_shape: tuple[int, ...]) -> float:
    """Floating-point operations of the forward pass of one image as XLA counts them; 0 if it does not."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(lambda images: models.init(module, jax.random.key(0), images), images)
    forward = jax.jit(lambda variables, images: models.Network(module, variables)(images))
    costs: Any = forward.lower(variables, images).cost_analysis()
    return (costs or {}).get('flops', 0.0)

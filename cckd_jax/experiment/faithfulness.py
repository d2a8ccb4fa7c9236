"""Whether students imitate their teacher all around the images: what attacks find beside what bounds certify.

Readings of Faithful KD (arXiv:2306.04431), whose body could not be had; see `evaluation.faithfulness`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax import data, evaluation, models
from cckd_jax.console import say
from cckd_jax.experiment.judged import EACH, Judged, example_keys
from cckd_jax.experiment.networks import Run
from cckd_jax.reporting import faithfulness as pictures
from cckd_jax.robustness.bounds import exactly

KAPPAS = np.arange(21) / 20


def measure(this: Run, found: Judged) -> dict[str, Any]:
    """Disagreement and gap of confidence for each radius, over the first test images that the teacher has right.

    Attacks give lower bounds and certificates upper ones; `clean` is what is seen at the images themselves, and equals
    both at radius 0. Means are over the images; None where the teacher has none of them right. Draws its figure.
    """
    evaluate = this.config.evaluate
    split = this.dataset.test
    count = min(evaluate.samples, len(split))
    teacher = found.networks['teacher']
    chosen = np.flatnonzero(evaluation.correct(found.logits['teacher'][:count], split.labels[:count])).astype(np.int32)
    rows = (split.images[chosen], split.labels[chosen], chosen)
    comparers: dict[nn.Module, Callable[..., Any]] = {}
    students: dict[str, list[dict[str, Any]]] = {}
    curves: dict[str, list[Any]] = {}
    compared = [name for name in found.students() if name in evaluate.networks]
    for name in compared if len(chosen) else ():
        student = found.networks[name]
        compare = comparers.setdefault(student.module, _comparer(this, teacher.module, student.module))
        for epsilon in evaluate.epsilons:
            say(f'faithfulness: {name} beside its teacher around {len(chosen):,} images, ε = {epsilon:.4g}')
            each = compare((teacher.variables, student.variables, np.float32(epsilon)), *rows)
            students.setdefault(name, []).append({'epsilon': float(epsilon), **summary(each)})
            curves.setdefault(name, []).append({way: each[f'gap_{way}'].max(-1) for way in ('found', 'certified')})
    measured = {
        'samples': count,
        'teacher_correct': len(chosen),
        'steps': evaluate.steps,
        'bounds': evaluate.bounds,
        'kappas': KAPPAS.tolist(),
        'students': students,
    }
    if students:
        pictures.fractions(this.workdir / 'figures' / 'faithfulness.png', list(evaluate.epsilons), curves)
    return measured


def summary(each: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over images `[N]` of what was seen, found and certified of each.

    Args:
      each: by `clean`, `found` and `certified`: bool `agrees_*` `[N]`, and `gap_*` `[N, 2]`, over- and
        under-confidence.
    """
    ways = ('clean', 'found', 'certified')
    mean = lambda of: {way: float(of(each[f'gap_{way}']).mean()) for way in ways}
    return {
        'disagreement': {way: float(1 - each[f'agrees_{way}'].mean()) for way in ways},
        'gap': mean(lambda gap: gap.max(-1)),
        'over_confidence': mean(lambda gap: gap[:, 0]),
        'under_confidence': mean(lambda gap: gap[:, 1]),
        'faithful_fraction': {
            way: evaluation.faithful_fraction(each[f'gap_{way}'].max(-1), KAPPAS).tolist()
            for way in ('found', 'certified')
        },
    }


def _comparer(this: Run, teacher: nn.Module, student: nn.Module) -> Callable[..., Any]:
    """`((teacher's variables, student's, epsilon), images, labels, index)` to what `summary` takes."""
    evaluate = this.config.evaluate

    # What is found and what is certified must be of the same arithmetic.
    @exactly()
    def compare(constants: Any, pixels: jax.Array, labels: jax.Array, index: jax.Array) -> dict[str, jax.Array]:
        (of_teacher, of_student, epsilon) = constants
        pair = (models.Network(teacher, of_teacher), models.Network(student, of_student))
        images = data.to_unit(pixels)
        how = {'key': example_keys(this, index), 'steps': evaluate.steps}
        logits = [network(images) for network in pair]
        sure = [jnp.take_along_axis(jax.nn.softmax(each), labels[:, None], 1)[:, 0] for each in logits]
        found = evaluation.signed_attack_gaps(*pair, images, labels, epsilon, **how)
        certified = evaluation.signed_gap_bounds(*pair, images, labels, epsilon, method=evaluate.bounds)
        return {
            'gap_clean': jnp.stack([sure[1] - sure[0], sure[0] - sure[1]], -1),
            'gap_found': jnp.stack(found, -1),
            'gap_certified': jnp.stack(certified, -1),
            'agrees_clean': jnp.argmax(logits[0], -1) == jnp.argmax(logits[1], -1),
            'agrees_found': evaluation.attack_agreement(*pair, images, epsilon, **how),
            'agrees_certified': evaluation.certified_agreement(*pair, images, epsilon, method=evaluate.bounds),
        }

    return evaluation.batched(
        compare, arrays=3, devices=this.devices, batch_size=EACH * len(this.devices), title='comparing'
    )

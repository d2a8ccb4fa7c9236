"""Faithfulness: does a student imitate its teacher under small perturbations? Attacks beside certified bounds.

The definitions are our interpretation of Faithful KD (arXiv:2306.04431), of which only the abstract was available; see
`cckd_jax.evaluation`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from cckd_jax import data, evaluation, losses, models, robustness
from cckd_jax.console import log
from cckd_jax.evaluators.base import Evaluator, load_arrays, save_arrays
from cckd_jax.evaluators.finished_run import FinishedRun
from cckd_jax.evaluators.predictions import IMAGES_PER_DEVICE, Predictions, selected
from cckd_jax.report import markdown, style

KAPPAS = np.arange(21) / 20

_SOURCES = ('clean', 'found', 'certified')
_MEASURES = {
    'disagreement': ('share of images with a perturbation where they predict different classes', '.2%'),
    'gap': ('largest gap of confidence in the label', '.4f'),
    'over_confidence': ('student above teacher', '.4f'),
    'under_confidence': ('student below teacher', '.4f'),
}


def measure(run: FinishedRun, predictions: Predictions) -> dict[str, Any]:
    """Disagreement and confidence gap within each radius, on the first test images if the teacher is correct there.

    `clean` is at the images themselves, `found` by attacks (a lower bound), and `certified` an upper bound; all three
    are equal at radius 0. Values are means over the images.
    """
    evaluate = run.config.evaluate
    split = run.dataset.test
    count = min(evaluate.samples, len(split))
    teacher = predictions.networks['teacher']
    correct = evaluation.correct(predictions.logits['teacher'][:count], split.labels[:count])
    index = np.flatnonzero(correct).astype(np.int32)
    rows = (split.images[index], split.labels[index], index)
    comparers: dict[nn.Module, Callable[..., Any]] = {}
    students: dict[str, list[dict[str, Any]]] = {}
    gaps: dict[str, np.ndarray] = {}
    compared = selected(predictions.students(), evaluate.networks)
    for name in compared if len(index) else ():
        student = predictions.networks[name]
        compare = comparers.setdefault(student.module, _comparer(run, teacher.module, student.module))
        largest = []
        for epsilon in evaluate.epsilons:
            log(f'faithfulness: comparing {name} with its teacher near {len(index):,} images, ε = {epsilon:.4g}')
            values = compare((teacher.variables, student.variables, np.float32(epsilon)), *rows)
            students.setdefault(name, []).append({'epsilon': float(epsilon), **summarize(values)})
            largest.append([values[f'gap_{source}'].max(-1) for source in ('found', 'certified')])
        gaps[name] = np.asarray(largest, np.float32)
    save_arrays(run.workdir, 'faithfulness', **gaps)
    return {
        'samples': count,
        'teacher_correct': len(index),
        'steps': evaluate.steps,
        'bounds': evaluate.bounds,
        'kappas': KAPPAS.tolist(),
        'students': students,
    }


def summarize(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Means over images `[N]`: at the image, found by attacks, and certified.

    Args:
      values: for each of `clean`, `found` and `certified`: bool `agrees_*` `[N]`, and `gap_*` `[N, 2]`, over- and
        under-confidence.
    """
    mean = lambda reduce: {source: float(reduce(values[f'gap_{source}']).mean()) for source in _SOURCES}
    return {
        'disagreement': {source: float(1 - values[f'agrees_{source}'].mean()) for source in _SOURCES},
        'gap': mean(lambda gap: gap.max(-1)),
        'over_confidence': mean(lambda gap: gap[:, 0]),
        'under_confidence': mean(lambda gap: gap[:, 1]),
        'faithful_fraction': {
            source: evaluation.faithful_fraction(values[f'gap_{source}'].max(-1), KAPPAS).tolist()
            for source in ('found', 'certified')
        },
    }


def table(section: Mapping[str, Any]) -> str:
    """What was measured, and a table for each student."""
    text = [
        '## Faithfulness',
        'Does the student agree with its teacher, and match its confidence, under small perturbations? Measured on '
        f'{section["teacher_correct"]:,} of the first {section["samples"]:,} test images, those that the teacher '
        'classifies correctly, with every pixel changed by at most ε. The largest value lies between `found`, by '
        f'attacks of {section["steps"]} steps, and `certified`, by `{section["bounds"]}` bounds. Values are means over '
        'the images. The definitions are our interpretation of arXiv:2306.04431; only its abstract was available.',
    ]
    if not section['teacher_correct']:
        return '\n\n'.join([*text, 'The teacher classifies none of them correctly, so there is nothing to imitate.'])
    if not section['students']:
        return ''
    for name, radii in section['students'].items():
        rows = [
            [label, f'{radius["epsilon"]:.4g}', *(format(radius[measure][source], form) for source in _SOURCES)]
            for radius in radii
            for measure, (label, form) in _MEASURES.items()
        ]
        text.append(markdown.table([style.label(name), 'ε', 'at the image', 'found', 'certified'], rows))
    return '\n\n'.join([*text, '![faithful fraction](figures/faithfulness.png)'])


def figure(workdir: Path, section: Mapping[str, Any]) -> None:
    """Draws `faithfulness.png`."""
    if section['students']:
        gaps = load_arrays(workdir, 'faithfulness')
        epsilons = [radius['epsilon'] for radius in next(iter(section['students'].values()))]
        fractions(
            workdir / 'figures' / 'faithfulness.png', epsilons, {name: gaps[name] for name in section['students']}
        )


def fractions(path: Path, epsilons: Sequence[float], gaps: Mapping[str, np.ndarray]) -> None:
    """Draws the share of images on which student and teacher are (ε, κ)-faithful, against κ, a panel for each radius.

    The true curve lies between that of the certified gaps and that of the gaps that attacks find.

    Args:
      path: of the PNG.
      epsilons: R radii.
      gaps: by student, float `[R, 2, N]`: gaps that attacks find, and certified gaps.
    """
    drawing = Figure(figsize=(3.9 * len(epsilons) + 2.2, 3.9), layout='constrained')
    panels = drawing.subplots(1, len(epsilons), sharey=True, squeeze=False)[0]
    kappas = np.linspace(0, 1, 401)
    fraction = lambda gap: (gap[None] <= kappas[:, None]).mean(-1)
    for axes, index in zip(panels, np.argsort(epsilons), strict=True):
        for name, radii in gaps.items():
            (most, least) = (fraction(gap) for gap in radii[index])
            color, label = style.color(name), style.label(name)
            axes.fill_between(kappas, least, most, color=color, alpha=0.15, linewidth=0)
            axes.plot(kappas, most, color=color, linestyle='--', linewidth=1.3, label=f'{label}, at most')
            axes.plot(kappas, least, color=color, linewidth=1.8, label=f'{label}, certified')
        axes.set(xlabel='κ, allowed gap of confidence', xlim=(0, 1), ylim=(0, 1.02))
        axes.set_title(f'ε = {epsilons[index]:.4g}', fontsize=11)
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
        style.clean(axes)
    panels[0].set_ylabel('share of images that are (ε, κ)-faithful')
    (handles, labels) = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc='outside right center', frameon=False, fontsize=9)
    style.save(drawing, path)


def _comparer(run: FinishedRun, teacher: nn.Module, student: nn.Module) -> Callable[..., Any]:
    """`((teacher's variables, student's, epsilon), images, labels, index)` to what `summarize` takes."""
    evaluate = run.config.evaluate

    # Attacks and bounds must use the same arithmetic.
    @robustness.full_precision()
    def compare(constants: Any, pixels: jax.Array, labels: jax.Array, index: jax.Array) -> dict[str, jax.Array]:
        (teacher_variables, student_variables, epsilon) = constants
        pair = (models.Network(teacher, teacher_variables), models.Network(student, student_variables))
        images = data.to_unit(pixels)
        options = {'key': robustness.example_keys(jax.random.key(run.config.seed), index), 'steps': evaluate.steps}
        logits = [network(images) for network in pair]
        (teacher_probability, student_probability) = (losses.label_probability(values, labels) for values in logits)
        signed_gaps = (student_probability - teacher_probability, teacher_probability - student_probability)
        attacked = evaluation.signed_attack_gaps(*pair, images, labels, epsilon, **options)
        certified = evaluation.signed_gap_bounds(*pair, images, labels, epsilon, method=evaluate.bounds)
        return {
            'gap_clean': jnp.stack(signed_gaps, -1),
            'gap_found': jnp.stack(attacked, -1),
            'gap_certified': jnp.stack(certified, -1),
            'agrees_clean': jnp.argmax(logits[0], -1) == jnp.argmax(logits[1], -1),
            'agrees_found': evaluation.attack_agreement(*pair, images, epsilon, **options),
            'agrees_certified': evaluation.certified_agreement(*pair, images, epsilon, method=evaluate.bounds),
        }

    return evaluation.map_dataset(
        compare, arrays=3, devices=run.devices, batch_size=IMAGES_PER_DEVICE * len(run.devices), title='comparing'
    )


FAITHFULNESS = Evaluator(measure, table, figure)

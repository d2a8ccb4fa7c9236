"""The study of convergence: how soft the targets of KD and CCKD are, and how their gradients pull on the student.

For each config and seed, all methods share one teacher. Each method is the row of the table of that name, with measures
of every example in every epoch: `METHODS` here, which `metrics.jsonl` records and `curves.png` shows.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from cckd_jax import losses, methods
from cckd_jax.methods import Inputs, Method
from cckd_jax.report import style
from cckd_jax.report.metrics import read_rows
from cckd_jax.studies import figures
from cckd_jax.studies.jobs import Job, override, restore_networks
from cckd_jax.studies.study import Column, Measures, Options, Study

_MEASURES = {
    'target_entropy': 'entropy of the soft target (nats)',
    'gradient_norm': 'norm of the gradient of the logits',
    'angle': 'angle of teacher and label term (degrees)',
    'logit_gap': 'logit gap of the label',
}


def kd_measures(inputs: Inputs) -> Mapping[str, jax.Array]:
    """`target_measures` of KD: the teacher's distribution, and the label with its weight at temperature 1."""
    hyper = inputs.hyper
    teacher = jax.nn.softmax(inputs.teacher_logits / hyper.temperature)
    label = jax.nn.one_hot(inputs.labels, teacher.shape[-1])
    return target_measures(
        inputs,
        target=teacher,
        teacher_term=(jax.nn.softmax(inputs.logits / hyper.temperature) - teacher) / hyper.temperature,
        label_term=hyper.hard_weight * (jax.nn.softmax(inputs.logits) - label),
    )


def cckd_t_measures(inputs: Inputs) -> Mapping[str, jax.Array]:
    """`target_measures` of CCKD-T: the mixed target, whose teacher and label share one temperature."""
    hyper = inputs.hyper
    confidence_temperature = hyper.confidence_temperature
    temperatures = {'temperature': hyper.temperature, 'confidence_temperature': confidence_temperature}
    trust = losses.confidence(
        inputs.teacher_logits,
        inputs.labels,
        temperature=hyper.temperature if confidence_temperature is None else confidence_temperature,
    )[:, None]
    student = jax.nn.softmax(inputs.logits / hyper.temperature)
    teacher = jax.nn.softmax(inputs.teacher_logits / hyper.temperature)
    label = jax.nn.one_hot(inputs.labels, teacher.shape[-1])
    return target_measures(
        inputs,
        target=losses.confidence_targets(inputs.teacher_logits, inputs.labels, **temperatures),
        teacher_term=trust * (student - teacher) / hyper.temperature,
        label_term=(1.0 - trust) * (student - label) / hyper.temperature,
    )


def target_measures(
    inputs: Inputs, *, target: jax.Array, teacher_term: jax.Array, label_term: jax.Array
) -> Mapping[str, jax.Array]:
    """The measures of an example, `[B]` each.

    Args:
      inputs: of the column.
      target: the soft target, `[B, C]`.
      teacher_term: gradient of the teacher's part of the loss with respect to the student's logits, `[B, C]`.
      label_term: that of the label's part, `[B, C]`.

    Returns:
      `target_entropy`; `gradient_norm`, of the sum of both terms; `angle` between them in degrees, 90 where one is 0;
      `logit_gap`, that of the label (`losses.label_gap`).
    """
    norm = lambda values: jnp.sqrt(jnp.sum(values**2, axis=-1))
    cosine = jnp.sum(teacher_term * label_term, axis=-1) / jnp.maximum(norm(teacher_term) * norm(label_term), 1e-12)
    return {
        'target_entropy': -jnp.sum(jax.scipy.special.xlogy(target, target), axis=-1),
        'gradient_norm': norm(teacher_term + label_term),
        'angle': jnp.degrees(jnp.arccos(jnp.clip(cosine, -1.0, 1.0))),
        'logit_gap': losses.label_gap(inputs.logits, inputs.labels),
    }


def _measured(name: str, measures: Any, **values: Any) -> Method:
    return dataclasses.replace(methods.METHODS[name].override(**values), measures=measures, check=False)


KD = _measured('kd', kd_measures)
CCKD_T = _measured('cckd_t', cckd_t_measures)
CCKD_T_1 = _measured('cckd_t', cckd_t_measures, confidence_temperature=1.0)
# `cckd_t_c1` takes the confidence at temperature 1.
METHODS: Mapping[str, str] = {'kd': 'KD', 'cckd_t': 'CCKD_T', 'cckd_t_c1': 'CCKD_T_1'}


def jobs(options: Options) -> Iterator[Job]:
    """The runs: for each config and seed the first row, whose teacher and baseline the others share."""
    for seed, dataset, config in options.groups():
        shared: dict[str, Any] = {'seed': seed}
        base: tuple[str, ...] = ()
        for row in options.rows:
            name = f'{dataset}/seed{seed}/{row}'
            method = {'method': f'{__name__}:{METHODS[row]}'}
            yield Job(name, override(config, {**shared, **method}), dataset, row, seed, needs=base)
            if not base:
                base = (name,)
                shared |= restore_networks(config, options.workdir / name, baseline='separate')


def measures(job: Job, results: Mapping[str, Any]) -> Measures:
    """Accuracy on both splits, their difference, and calibration of the student."""
    student = results['student']
    calibration = results['calibration']
    error = None if calibration is None else calibration['networks']['student']['expected_calibration_error']
    return {
        job.row: {
            'test_accuracy': student['test_accuracy'],
            'generalization_gap': student['train_accuracy'] - student['test_accuracy'],
            'calibration_error': error,
            'alone': results['separate']['test_accuracy'],
        }
    }


def export(workdir: Path, summary: Mapping[str, Any]) -> None:
    """Draws `curves.png`: the measures over the epochs, a line for each method, means over seeds.

    Args:
      workdir: of the study.
      summary: the content of `study.json`.
    """
    names = figures.datasets(summary)
    drawing = Figure(figsize=(3.8 * len(_MEASURES), 3.3 * len(names)), layout='constrained')
    for line, dataset in zip(drawing.subplots(len(names), len(_MEASURES), squeeze=False), names, strict=True):
        runs = figures.select(summary, 'runs', dataset)
        for index, row in enumerate(dict.fromkeys(run['row'] for run in runs)):
            folders = [workdir / run['run'] / 'student' for run in runs if run['row'] == row]
            rows = [read_rows(folder) for folder in folders]
            for axes, (name, label) in zip(line, _MEASURES.items(), strict=True):
                values = np.mean([[epoch[name] for epoch in seed] for seed in rows], axis=0)
                axes.plot(np.arange(1, len(values) + 1), values, color=style.STUDENT_COLORS[index], lw=1.4, label=row)
                axes.set(ylabel=label)
                style.epoch_axis(axes)
        line[0].set_title(dataset)
        line[1].set_yscale('log')
    figures.finish(drawing, workdir / 'curves.png', list(drawing.axes[:1]))


STUDY = Study(
    name='convergence',
    description=(
        'KD and CCKD-T from the same teacher. `cckd_t_c1` takes the confidence at temperature 1. `curves.png` shows '
        'the entropy of the soft target, the gradient of the loss with respect to the logits, the angle between the '
        'terms of teacher and label, and the logit gap, as means over the training examples of each epoch.'
    ),
    jobs=jobs,
    measures=measures,
    columns={
        'test_accuracy': Column('test accuracy', percent=True, digits=2, compared=True),
        'generalization_gap': Column('training minus test accuracy', percent=True, digits=2, compared=True),
        'calibration_error': Column('calibration error', digits=4, compared=True),
        'alone': Column('student alone', percent=True, digits=2, interval=False),
    },
    configs=('digits_lenet',),
    rows=tuple(METHODS),
    export=export,
)

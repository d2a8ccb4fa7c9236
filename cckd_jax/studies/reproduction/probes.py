"""Measurements that explain where our tables and the paper's differ; every run of the reproduction makes them.

The paper leaves open which split Table 7 uses, whether the attack of Table 9 is iterated, and how confident its
teachers are. The probes measure the alternatives for the same networks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cckd_jax import evaluation, losses, models
from cckd_jax.evaluators import Evaluator, FinishedRun, Predictions
from cckd_jax.evaluators.transfer import transfer_attack
from cckd_jax.report import markdown, style
from cckd_jax.selection import margin

# Images of a split that are attacked. The attack on 30,000 training images is a section of every report.
_SAMPLES = 5000
_TEMPERATURE = 20.0
# Attacked network, number of steps and splits. One step on the student trained alone is the paper's equation 9.
_ATTACKS = (
    ('separate', 1, ('train', 'test')),
    ('separate', 10, ('train',)),
    ('teacher', 1, ('train',)),
    ('student', 1, ('train',)),
)


def measure(run: FinishedRun, predictions: Predictions) -> dict[str, Any]:
    """The confidence of the teacher, rates on the test split, and accuracies under other attacks."""
    attacks = []
    networks = {'separate': run.baseline and run.baseline.network, **predictions.networks}
    for attacked, steps, splits in _ATTACKS:
        network = networks.get(attacked)
        if network is not None:
            attacks += [{'attacked': attacked, 'steps': steps, **row} for row in _attack(run, network, steps, splits)]
    return {'teacher': _confidence(run), 'test': _test_rates(run, predictions), 'attacks': attacks}


def table(section: Mapping[str, Any]) -> str:
    """The attacks, and the other measurements in words."""
    (teacher, test) = (section['teacher'], section['test'])
    rows = [
        [
            style.label(attack['attacked']),
            attack['split'],
            str(attack['steps']),
            f'{attack["accuracy_of_attacked"]:.2%}',
            f'{attack["student_accuracy"]:.2%}',
        ]
        for attack in section['attacks']
    ]
    return '\n\n'.join(
        [
            '## Other readings of the paper',
            f'At temperature {_TEMPERATURE:g} the confidence λ of the teacher on training images is '
            f'{teacher["mean_confidence"]:.3f} on average; its logits exceed the second largest by '
            f'{teacher["median_logit_gap"]:.1f} (median), and the target of CCKD-T has a margin of '
            f'{teacher["median_target_margin"]:.3f} (median). The teacher misclassifies {teacher["train_errors"]:,} '
            f'training images. On the test split, where it misclassifies {test["teacher_errors"]:,}, the success rate '
            f'is {markdown.cell(test["success_rate"], ".4f")} and the failure rate '
            f'{markdown.cell(test["failure_rate"], ".4f")}.',
            markdown.table(['attacked network', 'split', 'steps', 'its accuracy', "student's accuracy"], rows),
        ]
    )


def _confidence(run: FinishedRun) -> dict[str, Any]:
    logits = jnp.asarray(evaluation.ensemble(run.teachers.outputs.train))
    labels = jnp.asarray(run.dataset.train.labels)
    confidence = losses.confidence(logits, labels, temperature=_TEMPERATURE)
    targets = losses.confidence_targets(logits, labels, temperature=_TEMPERATURE)
    # The margin of a distribution is that of its logarithm at temperature 1.
    target_margin = margin(jnp.log(jnp.maximum(targets, jnp.finfo(jnp.float32).tiny)), temperature=1.0)
    largest = jnp.sort(logits, -1)[:, -2:]
    return {
        'train_errors': int(jnp.sum(jnp.argmax(logits, -1) != labels)),
        'mean_confidence': float(confidence.mean()),
        'median_logit_gap': float(jnp.median(largest[:, 1] - largest[:, 0])),
        'median_target_margin': float(jnp.median(target_margin)),
    }


def _test_rates(run: FinishedRun, predictions: Predictions) -> dict[str, Any]:
    if 'teacher' not in predictions.logits:
        return dict.fromkeys(('teacher_errors', 'success_rate', 'failure_rate'))
    labels = run.dataset.test.labels
    (teacher, student) = (evaluation.correct(predictions.logits[name], labels) for name in ('teacher', 'student'))
    (success, failure) = evaluation.transfer_rates(teacher, student)
    return {'teacher_errors': int(np.sum(~teacher)), 'success_rate': success, 'failure_rate': failure}


def _attack(run: FinishedRun, attacked: models.Network, steps: int, splits: Sequence[str]) -> list[dict[str, Any]]:
    """Accuracies of the attacked network and of the student on the attacked images of each split."""
    student = run.student.network
    apply = transfer_attack(
        attacked.module,
        student.module,
        run.config.attack.epsilon,
        'softmax_cross_entropy',
        tuple(run.devices),
        steps=steps,
    )
    rows = []
    for split in splits:
        examples = getattr(run.dataset, split)
        (images, labels) = (examples.images[:_SAMPLES], examples.labels[:_SAMPLES])
        (_, *classes) = apply((attacked.variables, student.variables), images, labels)
        (attacked_accuracy, student_accuracy) = (float((predicted == labels).mean()) for predicted in classes)
        row = {'split': split, 'accuracy_of_attacked': attacked_accuracy, 'student_accuracy': student_accuracy}
        rows.append(row)
    return rows


PROBES = Evaluator(measure, table)

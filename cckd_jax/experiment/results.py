"""What a finished run is worth: every number of the report, and its figures."""

import importlib.metadata
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax import data, evaluation, models
from cckd_jax.experiment import calibration, faithfulness, robustness, teachers
from cckd_jax.experiment.judged import Judged, judged
from cckd_jax.experiment.networks import Run, Trained
from cckd_jax.experiment.teachers import Teachers
from cckd_jax.methods import Method
from cckd_jax.reporting import figures, teachers as pictures

# Each a setting of `config.evaluate`, and a section of the report.
SECTIONS: Mapping[str, Callable[[Run, Judged], dict[str, Any]]] = {
    'calibration': calibration.measure,
    'robustness': robustness.measure,
    'faithfulness': faithfulness.measure,
}


def evaluate(
    this: Run,
    method: Method,
    taught: Teachers,
    student: Trained,
    separate: Trained,
) -> dict[str, Any]:
    """Every number of the report, and its figures. The test split is looked at here and nowhere before.

    Of several teachers success and failure rate are those of the ensemble, and `teacher` holds lists.
    """
    started = time.monotonic()
    config, dataset = this.config, this.dataset
    student_train = evaluation.correct(
        evaluation.predict(student.network, dataset.train.images, devices=this.devices), dataset.train.labels
    )
    together = evaluation.correct(evaluation.ensemble(taught.outputs.train), dataset.train.labels)
    (success, failure) = evaluation.transfer_rates(together, student_train)
    attack = attack_transfer(this, student.network, separate.network)
    found = judged(this, taught, student, separate)
    tests = {
        name: float(evaluation.correct(found.logits[name], dataset.test.labels).mean()) for name in found.students()
    }
    tests.setdefault('separate', tests['student'])
    each = [_teacher(this, taught, place) for place in range(len(this.teachers))]
    by_name = dict(zip(teachers.names(len(each)), each, strict=True))
    used = sum(row['samples_used'] for row in student.rows)
    presented = sum(row['samples_presented'] for row in student.rows)
    whole = config.student.epochs * len(dataset.train)
    alpha = method.hyperparameters.get('alpha')
    runs = {name: network.rows for name, network in zip(by_name, taught.networks, strict=True) if network is not None}
    runs |= {'student': student.rows} if separate is student else {'separate': separate.rows, 'student': student.rows}
    folder = this.workdir / 'figures'
    accuracies = {**tests, **{name: facts['test_accuracy'] for name, facts in by_name.items()}}
    figures.curves(folder / 'curves.png', {name: rows for name, rows in runs.items() if rows}, accuracies)
    figures.participation(folder / 'participation.png', student.rows, alpha, examples=len(dataset.train))
    weights = teacher_weights(student.rows)
    if weights:
        pictures.weights(folder / 'teacher_weights.png', student.rows, weights)
    return {
        'method': config.method,
        'dataset': dataset.name,
        'seed': config.seed,
        'commit': _commit(),
        'device': f'{len(this.devices)} x {this.devices[0].device_kind}',
        'versions': {name: importlib.metadata.version(name) for name in ('cckd-jax', 'jax', 'flax', 'optax')},
        'hyperparameters': {
            **method.hyperparameters,
            'learning_rate': config.student.learning_rate or method.learning_rate,
            'batch_size': config.batch_size,
        },
        'teacher': each[0] if len(each) == 1 else _together(this, taught, each),
        'teacher_weights': weights,
        'student': {
            'model': config.student.model,
            'parameters': _parameters(student.network),
            'epochs': config.student.epochs,
            'test_accuracy': tests['student'],
            'train_accuracy': float(student_train.mean()),
            'samples_used': used,
            'samples_looked_at': sum(row['samples_looked_at'] for row in student.rows),
            'samples_presented': presented,
            'samples_in_all': whole,
            'share_used': used / whole,
            'success_rate': success,
            'failure_rate': failure,
            'adversarial_accuracy': attack['accuracy'],
            'seconds': student.seconds,
        },
        'separate': {'test_accuracy': tests['separate'], 'epochs': separate.meta['epochs']},
        **{name: measure(this, found) if config.evaluate[name] else None for name, measure in SECTIONS.items()},
        'attack': {name: attack[name] for name in ('epsilon', 'samples', 'accuracy_of_attacked')},
        'seconds': sum(sum(row['epoch_seconds'] for row in rows) for rows in runs.values())
        + time.monotonic()
        - started,
    }


def teacher_weights(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How much each teacher counted in a student's training: the mean of the epochs in its rows, overall and by class.

    By name, `overall` is of shares that sum to 1 over the teachers, and `by_class` has such for each class; None where
    no example was ever kept. Nothing for a method that does not weigh teachers.
    """

    def mean(shares: list[list[float] | None]) -> list[float] | None:
        known = [each for each in shares if each is not None]
        return np.mean(known, axis=0).tolist() if known else None

    found = {}
    known = [row['teacher_shares'] for row in rows if 'teacher_shares' in row]
    for name in known[0] if known else ():
        of_epochs = [each[name] for each in known]
        by_class = zip(*(epoch['by_class'] for epoch in of_epochs), strict=True)
        found[name] = {
            'overall': mean([epoch['overall'] for epoch in of_epochs]),
            'by_class': [mean(list(each)) for each in by_class],
        }
    return found


def _teacher(this: Run, taught: Teachers, place: int) -> dict[str, Any]:
    (network, outputs) = (taught.networks[place], taught.outputs)
    right = lambda logits, split: float(evaluation.correct(logits[:, place], split.labels).mean())
    measured = {
        'test_accuracy': None if outputs.test is None else right(outputs.test, this.dataset.test),
        'train_accuracy': right(outputs.train, this.dataset.train),
    }
    if network is None:
        given = dict.fromkeys(('parameters', 'epochs', 'method', 'epsilon', 'label_noise'))
        return {'model': 'logits', **given, **measured, 'seconds': 0.0}
    return {
        'model': network.meta['model'],
        'parameters': _parameters(network.network),
        'epochs': network.meta['epochs'],
        'method': network.meta['method'],
        'epsilon': network.meta.get('epsilon'),
        'label_noise': network.meta.get('label_noise', 0.0),
        **measured,
        'seconds': network.seconds,
    }


def _together(this: Run, taught: Teachers, each: list[dict[str, Any]]) -> dict[str, Any]:
    (outputs, dataset) = (taught.outputs, this.dataset)
    right = lambda logits, split: float(evaluation.correct(evaluation.ensemble(logits), split.labels).mean())
    return {
        **{name: [facts[name] for facts in each] for name in each[0]},
        'ensemble_test_accuracy': None if outputs.test is None else right(outputs.test, dataset.test),
        'ensemble_train_accuracy': right(outputs.train, dataset.train),
    }


def attack_transfer(this: Run, student: models.Network, attacked: models.Network) -> dict[str, Any]:
    """Accuracy of the student on training images moved by FGSM on another network (Tables 8-9), and a panel of them."""
    epsilon = this.config.attack.epsilon
    split = this.dataset.train
    count = min(this.config.attack.samples, len(split))
    images, labels = split.images[:count], split.labels[:count]

    def attack(variables: Any, pixels: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        (victim, other) = variables
        moved = evaluation.fgsm(models.Network(attacked.module, victim), data.to_unit(pixels), labels, epsilon=epsilon)
        seen = (
            jnp.argmax(network(moved), -1)
            for network in (models.Network(attacked.module, victim), models.Network(student.module, other))
        )
        # A quarter of the memory of floats, and enough for a picture.
        return (jnp.round(moved * 255).astype(jnp.uint8), *seen)

    apply = evaluation.batched(attack, arrays=2, devices=this.devices, title='attacking')
    (moved, by_attacked, by_student) = apply((attacked.variables, student.variables), images, labels)
    figures.adversarial(
        this.workdir / 'figures' / 'adversarial.png', moved[:24] / 255, labels[:24], by_attacked[:24], epsilon=epsilon
    )
    return {
        'epsilon': epsilon,
        'samples': count,
        'accuracy': float((by_student == labels).mean()),
        'accuracy_of_attacked': float((by_attacked == labels).mean()),
    }


def _parameters(network: models.Network) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(network.variables['params']))


def _commit() -> str | None:
    command = ['git', '-C', str(Path(__file__).parent), 'describe', '--always', '--dirty', '--abbrev=40', '--match=']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

"""What a finished run is worth: every number of the report, and its figures."""

import importlib.metadata
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from cckd_jax import data, evaluation, models
from cckd_jax.experiment.networks import Run, Trained
from cckd_jax.methods import Method
from cckd_jax.reporting import figures
from cckd_jax.training.teacher_outputs import TeacherOutputs


def evaluate(
    this: Run,
    method: Method,
    teachers: Sequence[Trained],
    outputs: TeacherOutputs,
    student: Trained,
    separate: Trained,
) -> dict[str, Any]:
    """Every number of the report, and its figures. The test split is looked at here and nowhere before."""
    started = time.monotonic()
    config, dataset = this.config, this.dataset
    student_train = evaluation.correct(
        evaluation.predict(student.network, dataset.train.images, devices=this.devices), dataset.train.labels
    )
    teacher_train = evaluation.correct(outputs.train[:, 0], dataset.train.labels)
    (success, failure) = evaluation.transfer_rates(teacher_train, student_train)
    attack = attack_transfer(this, student.network, separate.network)
    tests = {
        'student': _accuracy(this, student.network, dataset.test),
        'separate': _accuracy(this, separate.network, dataset.test),
        'teacher': None
        if outputs.test is None
        else float(evaluation.correct(outputs.test[:, 0], dataset.test.labels).mean()),
    }
    used = sum(row['samples_used'] for row in student.rows)
    presented = sum(row['samples_presented'] for row in student.rows)
    whole = config.student.epochs * len(dataset.train)
    given = not teachers
    alpha = method.hyperparameters.get('alpha')
    runs = {'teacher': [] if given else teachers[0].rows, 'separate': separate.rows, 'student': student.rows}
    if separate is student:
        del runs['separate']
    folder = this.workdir / 'figures'
    figures.curves(folder / 'curves.png', {name: rows for name, rows in runs.items() if rows}, tests)
    figures.participation(folder / 'participation.png', student.rows, alpha, examples=len(dataset.train))
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
        'teacher': {
            'model': 'logits' if given else config.teacher.model,
            'parameters': None if given else _parameters(teachers[0].network),
            'epochs': None if given else teachers[0].meta['epochs'],
            'test_accuracy': tests['teacher'],
            'train_accuracy': float(teacher_train.mean()),
            'seconds': 0.0 if given else teachers[0].seconds,
        },
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
        'attack': {name: attack[name] for name in ('epsilon', 'samples', 'accuracy_of_attacked')},
        'seconds': sum(sum(row['epoch_seconds'] for row in rows) for rows in runs.values())
        + time.monotonic()
        - started,
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


def _accuracy(this: Run, network: models.Network, split: data.Split) -> float:
    logits = evaluation.predict(network, split.images, devices=this.devices)
    return float(evaluation.correct(logits, split.labels).mean())


def _parameters(network: models.Network) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(network.variables['params']))


def _commit() -> str | None:
    command = ['git', '-C', str(Path(__file__).parent), 'describe', '--always', '--dirty', '--abbrev=40', '--match=']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

"""Transfer from teacher to student: success and failure rate, and adversarial examples of the student trained alone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from cckd_jax import data, evaluation, models
from cckd_jax.evaluators.base import Evaluator, load_arrays, one_or_lists, save_arrays
from cckd_jax.evaluators.finished_run import FinishedRun
from cckd_jax.evaluators.predictions import Predictions
from cckd_jax.memoize import memoize
from cckd_jax.report import markdown, style

_SHOWN = 24
# The paper's framework follows the gradient of the softmax cross entropy in float32. It is rounded where the network
# is certain, which weakens the attack; the exact gradient stands beside it.
_LOSSES = {'': 'softmax_cross_entropy', '_exact': 'cross_entropy'}


def measure(run: FinishedRun, predictions: Predictions) -> dict[str, Any]:
    """Success and failure rate on the training set, and accuracy under the attack unless it is left out."""
    attack = dict.fromkeys(('epsilon', 'samples', *(f'accuracy_of_attacked{suffix}' for suffix in _LOSSES)))
    students = [_rates(predictions, name) for name in run.student_names]
    if run.baseline is not None and run.config.evaluate.transfer_attack:
        attack |= {
            'epsilon': run.config.attack.epsilon,
            'samples': min(run.config.attack.samples, len(run.dataset.train)),
        }
        for index, student in enumerate(students):
            for suffix, loss in _LOSSES.items():
                (attacked_accuracy, student_accuracy) = _attack_accuracies(
                    run, run.baseline.network, run.students[index].network, loss, store=index == 0 and suffix == ''
                )
                attack[f'accuracy_of_attacked{suffix}'] = attacked_accuracy
                student[f'adversarial_accuracy{suffix}'] = student_accuracy
    return {'student': one_or_lists(students), 'attack': attack}


def _rates(predictions: Predictions, student: str) -> dict[str, Any]:
    correct = predictions.train_correct
    success: float | None = None
    failure: float | None = None
    if 'teacher' in correct:
        (success, failure) = evaluation.transfer_rates(correct['teacher'], correct[student])
    unmeasured = dict.fromkeys(f'adversarial_accuracy{suffix}' for suffix in _LOSSES)
    return {'success_rate': success, 'failure_rate': failure, **unmeasured}


def table(results: Mapping[str, Any]) -> str:
    """The attack in words, and the accuracy of both networks under it."""
    (attack, student) = (results['attack'], results['student'])
    if attack['epsilon'] is None:
        return ''
    labels = {'': 'float32 gradient, as in the paper', '_exact': 'exact gradient'}
    several = isinstance(student['model'], list)
    rows = [
        ['student alone (attacked)', *(f'{attack[f"accuracy_of_attacked{suffix}"]:.2%}' for suffix in labels)],
        [
            'students' if several else 'student',
            *(markdown.cell(student[f'adversarial_accuracy{suffix}'], '.2%') for suffix in labels),
        ],
    ]
    return '\n\n'.join(
        [
            '## Transfer attack',
            f'Accuracy on {attack["samples"]:,} training images, each changed by FGSM: every pixel moves by ε = '
            f'{attack["epsilon"]:g} in the direction that increases the loss of the student trained alone. The attack '
            'does not use the distilled student, so a high accuracy there means that the attack does not transfer, not '
            'that the student is robust.',
            markdown.table(['', *labels.values()], rows),
            'In float32 the gradient of the softmax cross entropy is rounded, to zero in places, where a network is '
            'certain of the label; this makes the attack weaker. The numbers of the paper, and '
            '`student.adversarial_accuracy`, use this gradient.',
            'The figure has the classes that the student predicts.',
            '![adversarial examples](figures/adversarial.png)',
        ]
    )


def figure(workdir: Path, results: Mapping[str, Any]) -> None:
    """Adversarial examples with their classes, `adversarial.png`."""
    epsilon = results['attack']['epsilon']
    if epsilon is not None:
        stored = load_arrays(workdir, 'transfer')
        adversarial(
            workdir / 'figures' / 'adversarial.png',
            stored['images'] / 255,
            stored['labels'],
            stored['predictions'],
            epsilon=epsilon,
        )


def adversarial(path: Path, images: np.ndarray, labels: np.ndarray, predictions: np.ndarray, *, epsilon: float) -> None:
    """Draws a panel of adversarial examples, titled as in the paper's Figures 3-5: true class, then predicted class.

    Args:
      path: of the PNG.
      images: float `[M, H, W, C]` in [0, 1], attacked; up to 24 are shown.
      labels: int `[M]`.
      predictions: int `[M]`, of the attacked network.
      epsilon: size of the attack.
    """
    count = min(_SHOWN, len(images))
    columns = min(8, count)
    rows = -(-count // columns)
    # In inches, and no narrower than the title. One frame holds all images, because laying out a frame each is slow.
    width, height = 1.15 * max(4, columns), 1.35 * rows + 0.3
    drawing = Figure(figsize=(width, height))
    axes = drawing.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.autoscale(False)
    axes.axis('off')
    for index in range(count):
        image = style.displayed(images[index])
        left, top = 1.15 * (index % columns) + 0.05, 1.35 * (index // columns) + 0.55
        high, wide = 1.05 * np.array(image.shape[:2]) / max(image.shape[:2])
        axes.imshow(image, cmap='gray', vmin=0, vmax=1, extent=(left, left + wide, top + high, top))
        color = style.COLORS['student'] if labels[index] != predictions[index] else 'black'
        classes = f'{labels[index]} → {predictions[index]}'
        axes.text(left + wide / 2, top - 0.05, classes, fontsize=10, color=color, horizontalalignment='center')
    title = f'true → predicted class (orange: wrong), FGSM with ε = {epsilon:g}'
    axes.text(width / 2, 0.2, title, fontsize=10, horizontalalignment='center')
    style.save(drawing, path)


def _attack_accuracies(
    run: FinishedRun, attacked: models.Network, student: models.Network, loss: str, *, store: bool
) -> tuple[float, float]:
    """Accuracy of the baseline and of a student on training images attacked on the baseline (Tables 8-9)."""
    count = min(run.config.attack.samples, len(run.dataset.train))
    (images, labels) = (run.dataset.train.images.take(np.arange(count), axis=0), run.dataset.train.labels[:count])
    apply = transfer_attack(attacked.module, student.module, run.config.attack.epsilon, loss, tuple(run.devices))
    (adversarial, attacked_classes, student_classes) = apply((attacked.variables, student.variables), images, labels)
    if store:
        save_arrays(
            run.workdir,
            'transfer',
            images=adversarial[:_SHOWN],
            labels=labels[:_SHOWN],
            predictions=attacked_classes[:_SHOWN],
        )
    return float((attacked_classes == labels).mean()), float((student_classes == labels).mean())


@memoize
def transfer_attack(
    attacked: nn.Module,
    student: nn.Module,
    epsilon: float,
    loss: str,
    devices: tuple[jax.Device, ...],
    *,
    steps: int = 1,
) -> Callable[..., Any]:
    """Returns an attack on one network whose examples another network classifies.

    Calls with equal arguments return the same function, which is compiled once.

    Args:
      attacked: module of the network that is attacked.
      student: module of the network that is evaluated.
      epsilon: radius of the attack, in [0, 1].
      loss: that the attack increases, a name in `robustness.LOSSES`.
      devices: to compute on.
      steps: 1 for FGSM, more for PGD.

    Returns:
      A function of the variables of both networks, uint8 images and labels: attacked images as uint8, and the classes
      that both networks predict.
    """

    def attack(variables: Any, pixels: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        networks = (models.Network(attacked, variables[0]), models.Network(student, variables[1]))
        clean = data.to_unit(pixels)
        if steps == 1:
            adversarial = evaluation.fgsm(networks[0], clean, labels, epsilon=epsilon, loss=loss)
        else:
            adversarial = evaluation.pgd(networks[0], clean, labels, epsilon=epsilon, loss=loss, steps=steps)
        (attacked_classes, student_classes) = (jnp.argmax(network(adversarial), -1) for network in networks)
        # A quarter of the memory of floats, and enough for a picture.
        return (jnp.round(adversarial * 255).astype(jnp.uint8), attacked_classes, student_classes)

    return evaluation.map_dataset(attack, arrays=2, devices=devices, title='attacking')


TRANSFER = Evaluator(measure, table, figure, shared=True)

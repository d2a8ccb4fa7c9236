"""Robustness: accuracy of each network when an attack on the network itself changes the image."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cckd_jax import data, evaluation, models, robustness
from cckd_jax.console import log
from cckd_jax.errors import InputError
from cckd_jax.evaluators.base import Evaluator
from cckd_jax.evaluators.finished_run import FinishedRun
from cckd_jax.evaluators.predictions import IMAGES_PER_DEVICE, Predictions, selected
from cckd_jax.imports import import_object
from cckd_jax.report import markdown, style

_MARKERS = 'osD^vP*X'


class Attack(Protocol):
    """Changes images in [0, 1] to fool a network, by at most epsilon per pixel."""

    def __call__(
        self,
        network: models.Network,
        images: jax.Array,
        labels: jax.Array,
        /,
        *,
        epsilon: jax.typing.ArrayLike,
        key: jax.Array,
    ) -> jax.Array: ...


def measure(run: FinishedRun, predictions: Predictions) -> dict[str, Any]:
    """Accuracy of each network on the first test images, attacked on the network itself.

    `worst` counts an image as correct if no attack changes it to a wrong class: every single attack gives an upper
    bound of `worst`.
    """
    evaluate = run.config.evaluate
    split = run.dataset.test
    count = min(evaluate.samples, len(split))
    images, labels, index = split.images[:count], split.labels[:count], np.arange(count, dtype=np.int32)
    attackers: dict[nn.Module, Callable[..., Any]] = {}
    networks = {}
    for name in selected(predictions.networks, evaluate.networks):
        network = predictions.networks[name]
        attack = attackers.setdefault(network.module, _attacker(run, network.module))
        accuracies: dict[str, list[float]] = {}
        for epsilon in evaluate.epsilons:
            log(f'robustness: attacking {count:,} images against {name}, ε = {epsilon:.4g}')
            correct = attack((network.variables, np.float32(epsilon)), images, labels, index)
            correct['worst'] = np.logical_and.reduce(list(correct.values()))
            for attack_name, kept in correct.items():
                accuracies.setdefault(attack_name, []).append(float(kept.mean()))
        networks[name] = {'clean': accuracies.pop('clean')[0], 'attacked': accuracies}
    return {
        'samples': count,
        'epsilons': [float(epsilon) for epsilon in evaluate.epsilons],
        'steps': evaluate.steps,
        'queries': evaluate.queries,
        'networks': networks,
    }


def table(section: Mapping[str, Any]) -> str:
    """What the attacks are, and a table of accuracies for each network."""
    if not section['networks']:
        return ''
    text = [
        '## Robustness',
        f'Accuracy on the first {section["samples"]:,} test images when each network is attacked itself, with every '
        f'pixel changed by at most ε. FGSM is one step along the gradient. PGD takes {section["steps"]} steps from a '
        'random start, on the cross entropy at temperature τ or on the margin between the logits of the label and of '
        f'the best other class. Square is a random search that sees logits alone ({section["queries"]} queries). '
        '`worst` counts an image as correct if it resists all attacks. If Square or the margin finds more than the '
        'cross entropy, the network hides its gradients.',
    ]
    radii = [f'ε = {epsilon:.4g}' for epsilon in section['epsilons']]
    for name, network in section['networks'].items():
        rows = [
            [attack, *(f'{accuracy:.2%}' for accuracy in accuracies)]
            for attack, accuracies in network['attacked'].items()
        ]
        text.append(markdown.table([f'{style.label(name)}, {network["clean"]:.2%} without attack', *radii], rows))
    return '\n\n'.join([*text, '![accuracy under attack](figures/robustness.png)'])


def figure(workdir: Path, section: Mapping[str, Any]) -> None:
    """Accuracy against the radius, a panel for each network and a line for each attack, `robustness.png`."""
    networks = section['networks']
    if not networks:
        return
    drawing = Figure(figsize=(3.9 * len(networks) + 1.3, 3.9), layout='constrained')
    panels = drawing.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    order = np.argsort(section['epsilons'])
    radii = [0.0, *np.asarray(section['epsilons'])[order]]
    for axes, (name, network) in zip(panels, networks.items(), strict=True):
        for index, (attack, accuracy) in enumerate(network['attacked'].items()):
            worst = attack == 'worst'
            axes.plot(
                radii,
                [network['clean'], *np.asarray(accuracy)[order]],
                color='black' if worst else f'C{index}',
                linewidth=2.0 if worst else 1.2,
                marker=_MARKERS[index % len(_MARKERS)],
                markersize=4,
                label=attack,
            )
        axes.set(xlabel='ε, in pixel units', ylim=(-0.02, 1.02))
        axes.set_title(style.label(name), fontsize=11, color=style.color(name))
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
        style.clean(axes)
    panels[0].set_ylabel('accuracy under attack')
    (handles, labels) = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc='outside right center', frameon=False, fontsize=9)
    style.save(drawing, workdir / 'figures' / 'robustness.png')


def attacks(evaluate: ConfigDict) -> dict[str, Attack]:
    """The attacks of the settings by name: the built-in ones, and those of `evaluate.attacks`.

    Args:
      evaluate: `config.evaluate`. `evaluate.attacks` has import paths `package.module:NAME` of functions
        `(network, images, labels, *, epsilon, key) -> images`, which are projected onto the ball and [0, 1].

    Raises:
      InputError: an import path does not lead to a function, or has the name of another attack.
    """
    steps = {'steps': evaluate.steps}
    named: dict[str, Attack] = {
        'fgsm': lambda *batch, epsilon, key: evaluation.fgsm(*batch, epsilon=epsilon),
        **{
            f'pgd, τ = {temperature:g}': functools.partial(evaluation.pgd, temperature=temperature, **steps)
            for temperature in evaluate.temperatures
        },
        'pgd, margin': functools.partial(evaluation.pgd, loss='margin', **steps),
        'square': functools.partial(evaluation.square, queries=evaluate.queries),
    }
    for path in evaluate.attacks:
        name = path.partition(':')[2]
        if name in (*named, 'clean', 'worst'):
            raise InputError(f'evaluate.attacks: {path} has the name of another attack; rename it')
        named[name] = _projected(_checked(path, import_object(path, 'attack')))
    return named


def _checked(path: str, attack: Attack) -> Attack:
    """Runs an attack on abstract arrays, so that a mistake is reported before training."""
    images = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32)
    module = models.create('lenet5_half')
    variables = jax.eval_shape(lambda images: module.init(jax.random.key(0), images), images)

    def move(variables: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        keys = jax.random.split(jax.random.key(0), len(labels))
        return attack(models.Network(module, variables), images, labels, epsilon=jnp.float32(0.1), key=keys)

    try:
        moved = jax.eval_shape(move, variables, images, labels)
    except Exception as error:  # an attack from an import path is a user's code
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise InputError(f'evaluate.attacks: {path} cannot be computed: {type(error).__name__}: {reason}') from error
    if getattr(moved, 'shape', None) != images.shape:
        raise InputError(f'evaluate.attacks: {path} must return images of the shape {images.shape} that it was given')
    return attack


def _projected(attack: Attack) -> Attack:
    """The attack with its images moved back into the ball and into [0, 1], so that radii mean the same for all."""

    def project(network: Any, images: jax.Array, labels: jax.Array, *, epsilon: Any, key: Any) -> jax.Array:
        moved = attack(network, images, labels, epsilon=epsilon, key=key)
        return jnp.clip(jnp.clip(moved, images - epsilon, images + epsilon), 0.0, 1.0)

    return project


def _attacker(run: FinishedRun, module: nn.Module) -> Callable[..., Any]:
    """`((variables, epsilon), images, labels, index)` to bool `[N]` by attack: is the network still correct?"""
    named = attacks(run.config.evaluate)

    def attack(constants: Any, pixels: jax.Array, labels: jax.Array, index: jax.Array) -> dict[str, jax.Array]:
        (variables, epsilon) = constants
        network, images = models.Network(module, variables), data.to_unit(pixels)
        key = robustness.example_keys(jax.random.key(run.config.seed), index)
        adversarial = {name: move(network, images, labels, epsilon=epsilon, key=key) for name, move in named.items()}
        return {
            name: jnp.argmax(network(moved), -1) == labels for name, moved in {'clean': images, **adversarial}.items()
        }

    return evaluation.map_dataset(
        attack, arrays=3, devices=run.devices, batch_size=IMAGES_PER_DEVICE * len(run.devices), title='attacking'
    )


ROBUSTNESS = Evaluator(measure, table, figure)

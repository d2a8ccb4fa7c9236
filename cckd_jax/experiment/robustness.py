"""How often networks are right when an attack on themselves moves the image, by attack and radius."""

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
from cckd_jax.reporting import robustness as pictures


def measure(this: Run, found: Judged) -> dict[str, Any]:
    """Accuracy of each network on the first test images, moved against itself; draws its figure.

    `worst` counts an image as right where no attack moved it to a wrong class: the others are each an upper bound of
    that, and the more they differ, the less a single one of them says.
    """
    evaluate = this.config.evaluate
    split = this.dataset.test
    count = min(evaluate.samples, len(split))
    images, labels, index = split.images[:count], split.labels[:count], np.arange(count, dtype=np.int32)
    attackers: dict[nn.Module, Callable[..., Any]] = {}
    networks = {}
    for name in [name for name in found.networks if name in evaluate.networks]:
        network = found.networks[name]
        apply = attackers.setdefault(network.module, _attacker(this, network.module))
        rows: dict[str, list[float]] = {}
        for epsilon in evaluate.epsilons:
            say(f'robustness: attacking {count:,} images against {name}, ε = {epsilon:.4g}')
            right = apply((network.variables, np.float32(epsilon)), images, labels, index)
            right['worst'] = np.logical_and.reduce(list(right.values()))
            for attack, each in right.items():
                rows.setdefault(attack, []).append(float(each.mean()))
        networks[name] = {'clean': rows.pop('clean')[0], 'attacked': rows}
    measured = {
        'samples': count,
        'epsilons': [float(epsilon) for epsilon in evaluate.epsilons],
        'steps': evaluate.steps,
        'queries': evaluate.queries,
        'networks': networks,
    }
    if networks:
        pictures.accuracies(this.workdir / 'figures' / 'robustness.png', measured)
    return measured


def _attacker(this: Run, module: nn.Module) -> Callable[..., Any]:
    """`((variables, epsilon), images, labels, index)` to bool `[N]` by attack, whether the network is still right."""
    evaluate = this.config.evaluate

    def attack(constants: Any, pixels: jax.Array, labels: jax.Array, index: jax.Array) -> dict[str, jax.Array]:
        (variables, epsilon) = constants
        network, images, keys = models.Network(module, variables), data.to_unit(pixels), example_keys(this, index)
        how = {'epsilon': epsilon, 'key': keys}
        moved = {
            'clean': images,
            'fgsm': evaluation.fgsm(network, images, labels, epsilon=epsilon),
            **{
                f'pgd, τ = {temperature:g}': evaluation.pgd(
                    network, images, labels, steps=evaluate.steps, temperature=temperature, **how
                )
                for temperature in evaluate.temperatures
            },
            'pgd, margin': evaluation.pgd(network, images, labels, steps=evaluate.steps, loss='margin', **how),
            'square': evaluation.square(network, images, labels, queries=evaluate.queries, **how),
        }
        return {name: jnp.argmax(network(points), -1) == labels for name, points in moved.items()}

    return evaluation.batched(
        attack, arrays=3, devices=this.devices, batch_size=EACH * len(this.devices), title='attacking'
    )

"""Two steps of every method on fixed random images, as numbers: `make golden` writes them, `test_golden.py` compares.

Regenerate only after a change that is meant to change numbers, and say in the commit which numbers moved and why.
"""

import json
from pathlib import Path
from typing import Any

if __name__ == '__main__':
    import conftest  # noqa: F401  the settings that tests compile with

import jax
import numpy as np
import optax
from helpers import Bench, Blocks, Flat, PeerBench, random_network

from cckd_jax import training
from cckd_jax.methods import METHODS, ROBUST_TRAINING, Method

PATH = Path(__file__).with_name('golden.json')
ROWS = {**METHODS, **{f'teacher_{name}': method for name, method in ROBUST_TRAINING.items()}}
_SHAPE = (10, 10, 1)
_PEERS = (Blocks(num_classes=10), Blocks(num_classes=10), Flat(num_classes=10))
# Early, where gates drop samples that the student gets right; and after every warm-up and ramp.
_EPOCHS = (1, 75)


def measure(name: str) -> dict[str, float]:
    """Loss, kept and correct examples of two SGD steps, and how far they moved the parameters."""
    if ROWS[name].peers:
        return _measure_peers(ROWS[name])
    method = ROWS[name]
    (student, *teachers) = [random_network(Blocks(num_classes=10), _SHAPE, seed, scale=4.0) for seed in range(4)]
    bench = Bench(
        method,
        devices=1,
        count=16,
        module=student.module,
        optimizer=optax.sgd(0.01),
        shape=_SHAPE,
        teachers=teachers if method.teachers == 'several' else teachers[:1],
        aux={'significance': np.linspace(0, 1, 16, dtype=np.float32)},
    )
    start = jax.device_get(student.variables['params'])  # The step is given the device's own copy.
    params = {**bench.state.params, 'student': start}
    stats = {**bench.state.batch_stats, 'student': student.variables['batch_stats']}
    # Half of the labels are the student's own answers, so that gates have something to drop.
    answers = np.argmax(student(bench.split.images / np.float32(255)), -1)
    labels = np.where(np.arange(16) % 2, answers, bench.split.labels).astype(np.int32)
    bench.state = training.replicate(bench.state.replace(params=params, batch_stats=stats), bench.devices)
    bench.train_data = training.replicate(bench.train_data.replace(labels=labels), bench.devices)
    batches = (np.arange(16), np.r_[np.arange(15, 3, -1), [-1] * 4])
    numbers = {}
    for epoch, batch in zip(_EPOCHS, batches, strict=True):
        (state, (metrics,)) = bench.run([batch], epoch=epoch)
        counts = {name: int(metrics[name]) for name in ('kept', 'correct')}
        numbers[f'epoch_{epoch}'] = {'loss': float(metrics['loss']), **counts}
    return _rounded({**numbers, 'moved': _distance(state.params['student'], start)})


def _measure_peers(method: Method) -> dict[str, float]:
    """The same numbers of three students, two of one architecture, with a teacher if the method takes one."""
    networks = [random_network(module, _SHAPE, seed, scale=4.0) for seed, module in enumerate(_PEERS)]
    bench = PeerBench(
        method,
        _PEERS,
        devices=1,
        count=16,
        optimizers=[optax.sgd(0.01)] * 3,
        shape=_SHAPE,
        teacher=method.teachers != 'none',
    )
    peers = [
        peer.replace(
            params={**peer.params, 'student': jax.device_get(network.variables['params'])},
            batch_stats={**peer.batch_stats, 'student': network.variables.get('batch_stats', {})},
        )
        for peer, network in zip(jax.device_get(bench.state).peers, networks, strict=True)
    ]
    bench.state = training.replicate(training.PeerState(tuple(peers)), bench.devices)
    numbers = {}
    for epoch, batch in zip(_EPOCHS, (np.arange(16), np.r_[np.arange(15, 3, -1), [-1] * 4]), strict=True):
        (state, (metrics,)) = bench.run([batch], epoch=epoch)
        numbers[f'epoch_{epoch}'] = [
            {'loss': float(own['loss']), 'kept': int(own['kept']), 'correct': int(own['correct'])}
            | {measure: float(value) for measure, value in own['measures'].items()}
            for own in metrics['peers']
        ]
    moved = [
        _distance(peer.params['student'], network.variables['params'])
        for peer, network in zip(state.peers, networks, strict=True)
    ]
    return _rounded({**numbers, 'moved': moved})


def _distance(params: Any, start: Any) -> float:
    moved = jax.tree.map(np.subtract, params, start)
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(moved))))


def _rounded(numbers: dict[str, Any]) -> dict[str, Any]:
    # So that rounding in the last bits does not show as a change of the file.
    return jax.tree.map(lambda value: float(f'{value:.5g}'), numbers)


if __name__ == '__main__':
    PATH.write_text(json.dumps({name: measure(name) for name in ROWS}, indent=2) + '\n')
    print(f'wrote {PATH}')

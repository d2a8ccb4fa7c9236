r"""Few-shot distillation with pseudo-examples: a Gaussian process on a few real samples teaches.

Pseudo-examples start between pairs of real samples, and move to where a student f disagrees with the reference g:
$x \leftarrow x + \epsilon \nabla_x KL(g(x) \| f(x))$, in alternation with steps that train f.

Source: Kimura et al., "Few-shot learning of neural networks from scratch by pseudo example optimization"
(arXiv:1802.03039); no code of the authors is known to us. Much here is our reading. The reference is a regression on
one-hot labels, where the paper has an ensemble of variational classifiers, and its uncertainty enters only as outputs
close to 1/C. f is a small network of our own, which exists only here, so that the transfer set is complete before the
student starts; the student of the paper is f itself. Pseudo-examples move by Adam and are clipped to [0, 1]. Numbers
of the paper that we know: 1,250 pseudo-examples grow to 10,000 in eight stages, Adam at 0.02.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cckd_jax.data import to_unit
from cckd_jax.synthesis import gaussian_process, samples
from cckd_jax.synthesis.gaussian_process import GaussianProcess
from cckd_jax.synthesis.inputs import check_finite, make_input_optimizer, progress, repeated, to_pixels
from cckd_jax.synthesis.system import Problem, Samples, System

_STAGES = 8
# The paper's are not known to us.
_MOVES = 5  # Adam steps of each pseudo-example per stage
_LEARNING_RATE = 1e-3  # of f


class Proxy(nn.Module):
    """Two convolutions and a dense layer.

    Attributes:
      num_classes: C.
    """

    num_classes: int

    @nn.compact
    def __call__(self, images: chex.Array) -> chex.Array:
        values = nn.relu(nn.Conv(16, (5, 5), strides=2)(images))
        values = nn.relu(nn.Conv(32, (5, 5), strides=2)(values))
        return nn.Dense(self.num_classes)(values.reshape(len(values), -1))


def interpolate(key: chex.PRNGKey, images: chex.Array, count: int) -> chex.Array:
    """Images `[count, H, W, C]` at random points between pairs of images `[k, H, W, C]`."""
    (first_key, second_key, weight_key) = jax.random.split(key, 3)
    first, second = (images[jax.random.randint(key, (count,), 0, len(images))] for key in (first_key, second_key))
    weights = jax.random.uniform(weight_key, (count, 1, 1, 1))
    return weights * first + (1 - weights) * second


def disagreement(reference: chex.Array, logits: chex.Array) -> chex.Array:
    """KL divergence `[B]` from log-probabilities `[B, C]` of the reference to the prediction of logits `[B, C]`.

    >>> disagreement(jnp.log(jnp.array([[0.5, 0.5]])), jnp.zeros((1, 2))).tolist()
    [0.0]
    """
    return (jnp.exp(reference) * (reference - jax.nn.log_softmax(logits))).sum(1)


def generate(problem: Problem) -> Samples:
    """The pseudo-examples and the real samples, with the outputs of the reference."""
    settings = problem.settings
    (init_key, start_key, train_key) = jax.random.split(problem.key, 3)
    labels = problem.real['labels']
    real = to_unit(jnp.asarray(problem.real['images']))
    targets = jax.nn.one_hot(labels, problem.num_classes)
    reference = gaussian_process.fit(real, targets)

    count, proxy = settings['images'], Proxy(problem.num_classes)
    params, pseudo = jax.jit(proxy.init)(init_key, real[:1]), interpolate(start_key, real, count)
    state = problem.partial.load()
    if state is not None:
        params, pseudo = state['params'], jnp.asarray(state['pseudo'])
    move = _make_move(proxy, problem)
    train = _make_training(proxy, problem, real, targets)
    for stage in progress(range(0 if state is None else int(state['stage']), _STAGES), 'pseudo-examples', 'stage'):
        present = max(1, count * (stage + 1) // _STAGES)
        params = train(params, (reference, pseudo, jnp.int32(present)), jax.random.fold_in(train_key, stage))
        pseudo = move(reference, params, pseudo, present)
        problem.partial.save({'params': params, 'pseudo': np.asarray(pseudo), 'stage': np.int32(stage + 1)})

    images = np.concatenate([to_pixels(pseudo), problem.real['images']])
    outputs = np.asarray(jax.jit(GaussianProcess.log_probabilities)(reference, to_unit(jnp.asarray(images))))
    classes = outputs.argmax(1).astype(np.int32)
    return Samples(images, np.concatenate([classes[:count], labels]), logits=outputs)


def _make_training(proxy: Proxy, problem: Problem, real: chex.Array, targets: chex.Array) -> Any:
    """Returns `(params, (reference, pseudo-examples, number of them), key) -> params`, the steps of one stage."""
    (optimizer, size) = (optax.adam(_LEARNING_RATE), problem.settings['batch_size'])

    def step(constants: Any, carry: Any) -> Any:
        ((reference, pseudo, present), key) = constants
        (params, opt_state, index, first_bad) = carry
        (real_key, pseudo_key) = jax.random.split(jax.random.fold_in(key, index))
        rows = jax.random.randint(real_key, (size,), 0, len(real))
        batch = pseudo[jax.random.randint(pseudo_key, (size,), 0, present)]

        def loss(params: chex.ArrayTree) -> chex.Array:
            labelled = optax.softmax_cross_entropy(proxy.apply(params, real[rows]), targets[rows])
            return (labelled + disagreement(reference.log_probabilities(batch), proxy.apply(params, batch))).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        first_bad = jnp.where((first_bad < 0) & ~jnp.isfinite(value), index, first_bad)
        return optax.apply_updates(params, updates), opt_state, index + 1, first_bad

    run = repeated(step)

    def train(params: chex.ArrayTree, constants: Any, key: chex.PRNGKey) -> chex.ArrayTree:
        carry = jax.tree.map(jnp.array, (params, optimizer.init(params), jnp.int32(0), jnp.int32(-1)))
        (params, _, _, first_bad) = run((constants, key), carry, -(-problem.settings['steps'] // _STAGES))
        check_finite('the loss of the network that disagrees', int(first_bad))
        return params

    return train


def _make_move(proxy: Proxy, problem: Problem) -> Any:
    """Returns `(reference, params, pseudo-examples, number) -> pseudo-examples`, of which the first have moved."""

    def loss(constants: Any, images: chex.Array) -> chex.Array:
        (reference, params) = constants
        return -disagreement(reference.log_probabilities(images), proxy.apply(params, images)).sum()

    optimise = make_input_optimizer(loss, steps=_MOVES, learning_rate=problem.settings['learning_rate'])

    def move(reference: GaussianProcess, params: chex.ArrayTree, pseudo: chex.Array, present: int) -> chex.Array:
        size = min(500, len(pseudo))
        moved = []
        for start in range(0, present, size):
            # The last batch is padded, so that all have one shape.
            rows = np.arange(start, start + size) % len(pseudo)
            moved.append(optimise((reference, params), pseudo[rows])[0])
        return jnp.concatenate([jnp.concatenate(moved)[:present], pseudo[present:]])

    return move


FSKD = System(
    generate,
    {'num_samples': 200, 'images': 10_000, 'steps': 8000, 'batch_size': 100, 'learning_rate': 0.02},
    real_data='samples',
    labels=('nominal',),
    check=samples.check,
    prepare=samples.prepare,
    own_outputs=True,
)

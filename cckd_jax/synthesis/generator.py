"""Training of an image generator through a frozen teacher: Adam steps, each on fresh noise."""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cckd_jax.synthesis.inputs import check_finite, progress, repeated, to_pixels
from cckd_jax.synthesis.system import Problem

# Steps between two looks at the loss and two chances to save.
_CHUNK = 50


class BatchNorm(nn.Module):
    """Batch norm over the batch at hand, in training and in sampling: a generator has no running statistics here.

    Attributes:
      epsilon: added to the variance.
      affine: whether channels have a trained scale and offset.
    """

    epsilon: float = 1e-5
    affine: bool = True

    @nn.compact
    def __call__(self, values: chex.Array) -> chex.Array:
        axes = tuple(range(values.ndim - 1))
        mean, variance = values.mean(axes, keepdims=True), values.var(axes, keepdims=True)
        values = (values - mean) * jax.lax.rsqrt(variance + self.epsilon)
        if not self.affine:
            return values
        shape = (1,) * (values.ndim - 1) + (values.shape[-1],)
        return values * self.param('scale', nn.initializers.ones, shape) + self.param(
            'bias', nn.initializers.zeros, shape
        )


def train_generator(
    problem: Problem,
    params: Any,
    loss: Callable[[Any, Any, chex.PRNGKey], chex.Array],
    *,
    title: str,
    key: chex.PRNGKey,
    state: Any = None,
    save: Callable[[Any, Any, int], None] = lambda state, params, done: None,
) -> Any:
    """Trains the parameters of a generator for `steps` of the problem's settings.

    Args:
      problem: its settings give `steps` and `learning_rate`, its teacher the constants of the loss.
      params: initial parameters.
      loss: `(params, variables of the teacher, key) -> scalar`; the key is fresh in each step.
      title: label of the progress bar.
      key: typed PRNG key of all steps.
      state: what `save` received last in an interrupted run, or None.
      save: receives the state, of dicts and arrays, the parameters and the number of steps so far, after every few.

    Returns:
      The trained parameters.

    Raises:
      NonFiniteSynthesis: the loss became NaN or infinite; its message names the step.
    """
    optimizer = optax.adam(problem.settings['learning_rate'])
    steps = problem.settings['steps']

    def step(variables: Any, carry: Any) -> Any:
        (params, opt_state, count, first_bad) = carry
        value, gradient = jax.value_and_grad(loss)(params, variables, jax.random.fold_in(key, count))
        updates, opt_state = optimizer.update(gradient, opt_state)
        finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradient))
        first_bad = jnp.where((first_bad < 0) & ~finite, count, first_bad)
        return optax.apply_updates(params, updates), opt_state, count + 1, first_bad

    # Copies, because a carry is donated.
    carry = jax.tree.map(jnp.array, (params, optimizer.init(params), jnp.int32(0), jnp.int32(-1)))
    if state is not None:
        leaves = [state[str(index)] for index in range(len(state))]
        carry = jax.tree.unflatten(jax.tree.structure(carry), list(map(jnp.asarray, leaves)))
    run = repeated(step)
    for start in progress(range(int(carry[2]), steps, _CHUNK), title, f'{_CHUNK} steps'):
        carry = run(problem.teacher.variables, carry, min(_CHUNK, steps - start))
        check_finite(f'the loss or gradient of the {title}', int(carry[3]))
        state = {str(index): np.asarray(leaf) for index, leaf in enumerate(jax.tree.leaves(carry))}
        save(state, carry[0], int(carry[2]))
    return carry[0]


def sample(
    draw: Callable[[Any, chex.PRNGKey], tuple[chex.Array, Any]],
    params: Any,
    key: chex.PRNGKey,
    count: int,
    batch_size: int,
) -> tuple[np.ndarray, Any]:
    """Draws images from a generator, batch by batch.

    Args:
      draw: `(params, key) -> (images [batch_size, H, W, C] in [0, 1], conditions)`.
      params: of the generator.
      key: typed PRNG key.
      count: number of images.
      batch_size: of `draw`.

    Returns:
      Images uint8 `[count, H, W, C]`, and the conditions of all of them.
    """
    drawn = jax.jit(draw)
    batches = [drawn(params, jax.random.fold_in(key, start)) for start in range(0, count, batch_size)]
    images = np.concatenate([to_pixels(images) for images, _ in batches])[:count]
    return images, jax.tree.map(
        lambda *leaves: np.concatenate(leaves)[:count], *(conditions for _, conditions in batches)
    )


def crop(images: chex.Array, shape: tuple[int, int, int]) -> chex.Array:
    """The middle of images `[B, H, W, C]` at the size of `shape`.

    >>> crop(jnp.arange(16.0).reshape(1, 4, 4, 1), (2, 2, 1))[0, :, :, 0].tolist()
    [[5.0, 6.0], [9.0, 10.0]]
    """
    (top, left) = ((images.shape[1] - shape[0]) // 2, (images.shape[2] - shape[1]) // 2)
    return images[:, top : top + shape[0], left : left + shape[1]]

"""Optimisation of input images through a frozen network: Adam steps, each followed by a projection."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from cckd_jax.errors import InputError
from cckd_jax.synthesis.system import Problem

T = TypeVar('T')
# `(constants, images [B, H, W, C]) -> scalar`, a sum over the images, so that none depends on the others.
Loss = Callable[[Any, chex.Array], chex.Array]


class NonFiniteSynthesis(InputError):
    """The loss of a synthesis became NaN or infinite; the last good state is kept."""


def make_input_optimizer(
    loss: Loss,
    *,
    steps: int,
    learning_rate: float,
    project: Callable[[chex.Array], chex.Array] = lambda images: jnp.clip(images, 0.0, 1.0),
) -> Callable[[Any, chex.Array], tuple[chex.Array, chex.Array]]:
    """Returns `(constants, images) -> (images, loss)`, which moves images down a loss by Adam.

    Each call starts with fresh moments. It is compiled once for each shape.

    Args:
      loss: `(constants, images) -> scalar`, a sum over the images.
      steps: number of Adam steps.
      learning_rate: of Adam, in pixel values of [0, 1].
      project: applied to the images after each step; clips them to [0, 1] by default.

    Returns:
      The function. Its loss is that before the last step. It raises `NonFiniteSynthesis` with the step at which the
      loss became NaN or infinite.

    >>> to_half = make_input_optimizer(lambda _, images: jnp.sum((images - 0.5) ** 2), steps=200, learning_rate=0.05)
    >>> to_half(None, jnp.zeros((1, 1, 1, 1)))[0].round(2).tolist()
    [[[[0.5]]]]
    """
    optimizer = optax.adam(learning_rate)

    def step(constants: Any, carry: Any) -> Any:
        (images, opt_state, count, _, first_bad) = carry
        value, gradient = jax.value_and_grad(loss, argnums=1)(constants, images)
        updates, opt_state = optimizer.update(gradient, opt_state)
        images = project(optax.apply_updates(images, updates))
        first_bad = jnp.where((first_bad < 0) & ~jnp.isfinite(value), count, first_bad)
        return images, opt_state, count + 1, value, first_bad

    run = repeated(step)

    def optimise(constants: Any, images: chex.Array) -> tuple[chex.Array, chex.Array]:
        # A copy, because the images that the caller holds are donated otherwise.
        images = jnp.array(images)
        carry = (images, optimizer.init(images), jnp.int32(0), jnp.float32(0), jnp.int32(-1))
        (images, _, _, value, first_bad) = run(constants, carry, steps)
        check_finite('the loss of the images', int(first_bad))
        return images, value

    return optimise


def optimise_in_batches(
    problem: Problem,
    optimise: Callable[[Any, chex.Array], tuple[chex.Array, chex.Array]],
    batch: Callable[[np.ndarray, int], tuple[Any, chex.Array]],
    *,
    title: str,
) -> np.ndarray:
    """Optimises as many images as the problem's settings say, and goes on where an interrupted run was saved.

    Args:
      problem: its settings give `images` and `batch_size`.
      optimise: of `make_input_optimizer`.
      batch: `(rows int [B], index of the first) -> (constants, initial images [B, H, W, C])`.
      title: label of the progress bar.

    Returns:
      Images uint8 `[N, H, W, C]`.
    """
    (count, size) = (problem.settings['images'], min(problem.settings['batch_size'], problem.settings['images']))
    state = problem.partial.load()
    chunks = [] if state is None else [state['images']]
    for start in progress(range(sum(map(len, chunks)), count, size), title, 'batch'):
        # The last batch is padded, so that all have one shape.
        (images, _) = optimise(*batch(np.arange(start, start + size) % count, start))
        chunks.append(to_pixels(images)[: count - start])
        problem.partial.save({'images': np.concatenate(chunks)})
    return np.concatenate(chunks)


def repeated(step: Callable[[Any, T], T]) -> Callable[[Any, T, int], T]:
    """Returns `(constants, carry, steps) -> carry`, which takes a number of steps and donates the carry.

    On accelerators it is one program. XLA:CPU runs convolutions inside a loop several times slower, so there each step
    is dispatched alone.
    """
    alone = jax.jit(step, donate_argnums=1)
    looped = jax.jit(
        lambda constants, carry, steps: jax.lax.fori_loop(0, steps, lambda _, carry: step(constants, carry), carry),
        donate_argnums=1,
    )

    def run(constants: Any, carry: T, steps: int) -> T:
        if jax.default_backend() != 'cpu':
            return looped(constants, carry, steps)
        for _ in range(steps):
            carry = alone(constants, carry)
        return carry

    return run


def check_finite(what: str, first_bad: int) -> None:
    """Raises `NonFiniteSynthesis` if a step is given, counted from 0; -1 stands for none."""
    if first_bad >= 0:
        raise NonFiniteSynthesis(
            f'{what} became NaN or infinite in step {first_bad + 1}; the state before it is kept; lower '
            '--config.transfer.learning_rate'
        )


def to_pixels(images: chex.Array) -> np.ndarray:
    """Images in [0, 1] as uint8, as data sets store them.

    >>> to_pixels(jnp.array([0.0, 0.5, 1.0])).tolist()
    [0, 128, 255]
    """
    return np.rint(np.asarray(images) * 255).astype(np.uint8)


def progress(values: Sequence[T], title: str, unit: str) -> Iterator[T]:
    """Yields the values and shows how far it is: a bar on a terminal, a line every ten seconds elsewhere."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return iter(tqdm(values, title, unit=unit, delay=2, mininterval=interval, leave=False))

"""What attacks and bounds may be asked: radii, images, keys, and networks that can take the images.

Values are checked where they are concrete; under `jit` or `pmap` they are traced, and taken on trust.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.checks import check_labels
from cckd_jax.errors import InputError


def check_epsilon(epsilon: chex.Numeric, largest: float = 1.0) -> None:
    """Raises InputError for a radius below 0 or above that which holds every image already.

    >>> check_epsilon(0.3)
    """
    if not isinstance(epsilon, jax.core.Tracer) and not 0 <= epsilon <= largest:
        raise InputError(f'epsilon must be in [0, {largest:.4g}], not {epsilon}: pixels are in [0, 1]')


def check_images(images: chex.Array) -> None:
    """Asserts float `[B, H, W, C]`, and raises InputError for pixels outside [0, 1].

    >>> check_images(jnp.ones((1, 2, 2, 1)))
    """
    chex.assert_rank(images, 4)
    chex.assert_type(images, float)
    if isinstance(images, jax.core.Tracer) or not images.size:
        return
    pixels = np.asarray(images)  # inside of a traced function, jax.numpy would trace even what is known
    (low, high) = (pixels.min(), pixels.max())
    if not (low >= 0 and high <= 1):
        raise InputError(f'images must be in [0, 1], not from {low:.4g} to {high:.4g}: divide uint8 pixels by 255')


def check_takes(role: str, network: Callable[[chex.Array], chex.Array], images: chex.Array) -> int:
    """The number of classes of a network over such images, found without computing anything.

    Raises:
      InputError: the network cannot take images of this shape.

    >>> check_takes('the network', lambda x: x.reshape(len(x), -1), jnp.zeros((2, 1, 3, 1)))
    3
    """
    shape = 'x'.join(map(str, images.shape[1:]))
    try:
        logits = jax.eval_shape(network, images)
    except InputError:
        raise
    except Exception as error:  # a module may raise anything; XLA and Flax raise their own for bad shapes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f'{role} cannot take images of {shape}: {reason}') from None
    if len(logits.shape) != 2 or logits.shape[0] != len(images):
        raise InputError(f'{role} gives outputs of shape {logits.shape} for {len(images)} images, not [B, C]')
    return logits.shape[1]


def check_label_range(labels: chex.Array, images: chex.Array, classes: int) -> None:
    """Asserts int `[B]` for images `[B, ...]`, and raises InputError for a label that is no class.

    >>> check_label_range(jnp.array([0, 2]), jnp.zeros((2, 1, 1, 1)), 3)
    """
    check_labels(labels, images)
    if isinstance(labels, jax.core.Tracer) or not len(labels):
        return
    given = np.asarray(labels)
    (low, high) = (given.min(), given.max())
    if low < 0 or high >= classes:
        raise InputError(f'labels must be from 0 to {classes - 1}, not from {low} to {high}')


def check_counts(**values: chex.Numeric) -> None:
    """Raises InputError for what is no whole number of 1 or above.

    >>> check_counts(steps=10)
    """
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and (value < 1 or value != int(value)):
            raise InputError(f'{name} must be a whole number of 1 or above, not {value}')


def check_pair(
    teacher: Callable[[chex.Array], chex.Array], student: Callable[[chex.Array], chex.Array], images: chex.Array
) -> int:
    """The number of classes of a teacher and a student.

    Raises:
      InputError: they do not take the same images to the same classes.

    >>> flat = lambda x: x.reshape(len(x), -1)
    >>> check_pair(flat, flat, jnp.zeros((2, 1, 3, 1)))
    3
    """
    classes = [
        check_takes(role, network, images) for role, network in (('the teacher', teacher), ('the student', student))
    ]
    if classes[0] != classes[1]:
        raise InputError(f'the teacher has {classes[0]} classes and the student {classes[1]}; they must be the same')
    return classes[0]


def example_keys(key: chex.PRNGKey, count: int) -> chex.Array:
    """One key for each example `[count]`: the given ones, or one key folded with each example's place.

    >>> example_keys(jax.random.key(0), 3).shape
    (3,)
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise InputError(f'key must be made by jax.random.key, not an array of {key.dtype}')
    if key.shape == ():
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))
    if key.shape != (count,):
        raise InputError(f'key must be one key or one for each of the {count} examples, not of shape {key.shape}')
    return key

"""Checks of the arguments of attacks and bounds, and the random keys of examples.

Values are checked if they are concrete. Under `jit` and `pmap` they are traced and cannot be checked.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.checks import check_labels, check_positive
from cckd_jax.errors import InputError
from cckd_jax.models import LogitsFn as LogitsFn

# Loops count in int32, with and without JAX's 64-bit mode.
_MAX_COUNT = 2**31 - 1


def check_epsilon(epsilon: chex.Numeric, max_radius: float = 1.0) -> None:
    """Raises InputError for a radius below 0, or above the radius of a ball that contains every image.

    >>> check_epsilon(0.3)
    """
    if not isinstance(epsilon, jax.core.Tracer) and not 0 <= epsilon <= max_radius:
        raise InputError(f'epsilon must be in [0, {max_radius:.4g}], not {epsilon}: pixels are in [0, 1]')


def check_images(images: chex.Array) -> None:
    """Asserts float `[B, H, W, C]`, and raises InputError for pixels outside [0, 1].

    >>> check_images(jnp.ones((1, 2, 2, 1)))
    """
    chex.assert_rank(images, 4)
    chex.assert_type(images, float)
    if isinstance(images, jax.core.Tracer) or not images.size:
        return
    pixels = np.asarray(images)  # inside a traced function, jax.numpy would trace known values too
    (low, high) = (pixels.min(), pixels.max())
    if not (low >= 0 and high <= 1):
        raise InputError(f'images must be in [0, 1], not from {low:.4g} to {high:.4g}: divide uint8 pixels by 255')


def check_counts(**values: chex.Numeric) -> None:
    """Raises InputError for a value that is not a whole number from 1 to 2**31 - 1.

    >>> check_counts(steps=10)
    """
    for name, value in values.items():
        if isinstance(value, jax.core.Tracer):
            continue
        if value > _MAX_COUNT:
            raise InputError(f'{name} must be at most {_MAX_COUNT}, not {value}')
        if not value >= 1 or value != int(value):
            raise InputError(f'{name} must be a whole number of 1 or above, not {value}')


def check_attack_steps(steps: chex.Numeric, step_size: chex.Numeric | None, restarts: chex.Numeric) -> None:
    """Raises InputError for a search without steps, without starts or with a step size that is not positive.

    >>> check_attack_steps(10, None, 1)
    """
    check_counts(steps=steps, restarts=restarts)
    if step_size is not None:
        check_positive(step_size=step_size)


def infer_num_classes(role: str, logits_fn: LogitsFn, images: chex.Array) -> int:
    """The number of classes of a network that takes these images, from shapes alone.

    Args:
      role: name of the network in messages.
      logits_fn: `[B, H, W, C] -> [B, classes]`.
      images: `[B, H, W, C]`.

    Raises:
      InputError: the network cannot take images of this shape, or its outputs are not logits of two or more classes.

    >>> infer_num_classes('the network', lambda x: x.reshape(len(x), -1), jnp.zeros((2, 1, 3, 1)))
    3
    """
    shape = 'x'.join(map(str, images.shape[1:]))
    try:
        logits = jax.eval_shape(logits_fn, images)
    except InputError:
        raise
    except Exception as error:  # a module may raise anything; XLA and Flax raise their own errors for bad shapes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f'{role} cannot take images of {shape}: {reason}') from None
    if len(logits.shape) != 2 or logits.shape[0] != len(images):
        raise InputError(f'{role} gives outputs of shape {logits.shape} for {len(images)} images, not [B, C]')
    if logits.shape[1] < 2:
        raise InputError(f'{role} gives {logits.shape[1]} logit for each image; two or more classes are needed')
    return logits.shape[1]


def infer_common_classes(teacher: LogitsFn, student: LogitsFn, images: chex.Array) -> int:
    """The number of classes that a teacher and a student share.

    Raises:
      InputError: one of them cannot take the images, or their numbers of classes differ.

    >>> flat = lambda x: x.reshape(len(x), -1)
    >>> infer_common_classes(flat, flat, jnp.zeros((2, 1, 3, 1)))
    3
    """
    teacher_classes = infer_num_classes('the teacher', teacher, images)
    student_classes = infer_num_classes('the student', student, images)
    if teacher_classes != student_classes:
        raise InputError(
            f'the teacher has {teacher_classes} classes and the student {student_classes}; they must be the same'
        )
    return teacher_classes


def check_label_range(labels: chex.Array, images: chex.Array, num_classes: int) -> None:
    """Asserts int `[B]` for images `[B, ...]`, and raises InputError for a label outside `[0, num_classes)`.

    >>> check_label_range(jnp.array([0, 2]), jnp.zeros((2, 1, 1, 1)), 3)
    """
    check_labels(labels, images)
    if isinstance(labels, jax.core.Tracer) or not len(labels):
        return
    values = np.asarray(labels)
    (low, high) = (values.min(), values.max())
    if low < 0 or high >= num_classes:
        raise InputError(f'labels must be from 0 to {num_classes - 1}, not from {low} to {high}')


def example_keys(key: chex.PRNGKey, index: chex.Array) -> chex.Array:
    """One key per example, a function of the key and of the example's index alone.

    Args:
      key: one key, made by `jax.random.key`.
      index: int `[B]`.

    Returns:
      Keys `[B]`.

    >>> example_keys(jax.random.key(0), jnp.arange(3)).shape
    (3,)
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def start_keys(key: chex.PRNGKey, count: int) -> chex.Array:
    """The keys of an attack's random starts `[count]`: `key` itself, or `example_keys` of one key.

    Raises:
      InputError: `key` is not a typed key, or neither one key nor one per example.

    >>> start_keys(jax.random.key(0), 3).shape
    (3,)
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise InputError(f'key must be made by jax.random.key, not an array of {key.dtype}')
    if key.shape == ():
        return example_keys(key, jnp.arange(count))
    if key.shape != (count,):
        raise InputError(f'key must be one key or one for each of the {count} examples, not of shape {key.shape}')
    return key

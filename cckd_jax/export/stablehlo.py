"""StableHLO programs of a student, by `jax.export`: weights included, for any batch size, on CPUs and CUDA GPUs."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from cckd_jax.errors import InputError
from cckd_jax.export.student import Student
from cckd_jax.imports import require

PLATFORMS = ('cpu', 'cuda')


def to_program(student: Student) -> export.Exported:
    """The program from uint8 images `[B, H, W, C]` to logits, whatever platform this machine has.

    Raises:
      InputError: the network cannot be traced for a symbolic batch size.
    """
    variables = jax.device_get(student.network.variables)
    (batch,) = export.symbolic_shape('batch')
    images = jax.ShapeDtypeStruct((batch, *student.image_shape), jnp.uint8)
    # GPUs would round the factors of products to fewer bits.
    with jax.default_matmul_precision('highest'):
        function = jax.jit(lambda images: student.forward_any_batch(variables, images))
        try:
            return export.export(function, platforms=PLATFORMS)(images)
        except Exception as error:  # a user's module may raise anything
            reason = ' '.join(str(error).split())[:200]
            raise InputError(
                f'cannot export {student.description.model!r} as StableHLO for any batch size '
                f'({type(error).__name__}: {reason}); leave stablehlo out of --formats'
            ) from None


def save(student: Student, path: Path) -> None:
    """Writes `student.stablehlo`, which `jax.export.deserialize` reads.

    JAX promises to read it for six months: after that, export it again.

    Raises:
      InputError: flatbuffers is not installed, or the network cannot be exported.
    """
    require('flatbuffers')
    path.write_bytes(to_program(student).serialize())


def open_program(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function from uint8 images to logits that a file holds."""
    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return lambda images: np.asarray(call(images))

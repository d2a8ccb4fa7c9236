"""The files that an export can write, each with the way to write it and to run it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cckd_jax.errors import InputError, lookup
from cckd_jax.export import onnx_file, stablehlo, weights
from cckd_jax.export.student import Student
from cckd_jax.imports import require

Logits = Callable[[np.ndarray], np.ndarray]


class Format(NamedTuple):
    """A file format.

    Attributes:
      file: name of the file.
      packages: of the extra `export`, which writing and verifying needs.
      save: writes a student to a path.
      open: from a path to the function from uint8 images to logits.
      usage: Python code that runs the file, for the card.
    """

    file: str
    packages: tuple[str, ...]
    save: Callable[[Student, Path], None]
    open: Callable[[Path], Logits]
    usage: str


_ONNX_USAGE = """\
import onnxruntime

session = onnxruntime.InferenceSession('{file}')
logits = session.run(['logits'], {{'images': images}})[0]"""

FORMATS: Mapping[str, Format] = {
    'onnx': Format('student.onnx', ('onnx', 'onnxruntime'), onnx_file.save, onnx_file.open_model, _ONNX_USAGE),
    'stablehlo': Format(
        'student.stablehlo',
        ('flatbuffers',),
        stablehlo.save,
        stablehlo.open_program,
        "import jax.export\n\nprogram = jax.export.deserialize(bytearray(open('{file}', 'rb').read()))\n"
        'logits = program.call(images)',
    ),
    'safetensors': Format(
        'student.safetensors',
        ('safetensors',),
        weights.save,
        weights.load,
        "import cckd_jax.export\n\nstudent = cckd_jax.export.load('{file}')\nlogits = student(images)",
    ),
}
INT8_FILE = 'student.int8.onnx'

_OPEN = {**{file_format.file: file_format.open for file_format in FORMATS.values()}, INT8_FILE: onnx_file.open_model}


def parse(names: str, int8: bool) -> list[Format]:
    """The formats of a comma-separated list.

    Raises:
      InputError: a name is unknown, a package is not installed, or int8 lacks the ONNX file that it is made from.
    """
    formats = [lookup(FORMATS, name, 'format') for name in dict.fromkeys(names.split(','))]
    if int8 and FORMATS['onnx'] not in formats:
        raise InputError(f'--int8 is made from the ONNX file; add onnx to --formats={names}')
    for file_format in formats:
        require(*file_format.packages)
    return formats


def open_file(path: Path) -> Logits:
    """The function from uint8 images to logits of an exported file."""
    return _OPEN[path.name](path)

"""Classify images with the student of a run; folders are searched for images.

    python launch/predict.py --run=runs/digits photo.png more_photos

A line per image has its path, class and probability, separated by tabs; with --json it is a JSON object. An image is
resized and cropped to the shape that the student takes.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from cckd_jax import cli
from cckd_jax.console import log
from cckd_jax.data import images
from cckd_jax.errors import InputError
from cckd_jax.export import loading
from cckd_jax.export.student import Student
from cckd_jax.paths import expand

_BATCH = 256


class Prediction(NamedTuple):
    """The most probable class of an image."""

    path: str
    class_name: str
    probability: float

    def as_text(self) -> str:
        """A line for people and `cut`.

        >>> Prediction('cat.png', 'cat', 0.75).as_text()
        'cat.png\\tcat\\t0.7500'
        """
        return f'{self.path}\t{self.class_name}\t{self.probability:.4f}'

    def as_json(self) -> str:
        """A JSON object.

        >>> Prediction('cat.png', 'cat', 0.75).as_json()
        '{"path": "cat.png", "class": "cat", "probability": 0.75}'
        """
        return json.dumps({'path': self.path, 'class': self.class_name, 'probability': self.probability})


def main(arguments: Sequence[str]) -> int:
    """Prints predictions and returns the exit status; the program's name is the first argument."""
    return cli.guarded(lambda: _run(_parser(arguments[0]).parse(arguments[1:])))


def _parser(program: str) -> cli.Parser:
    parser = cli.Parser(program, __doc__)
    parser.add_argument('--run', required=True, help='the run directory, or a file student.safetensors')
    parser.add_argument('--json', action='store_true', help='print JSON objects')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='an image file, or a folder of them')
    return parser


def _run(options: argparse.Namespace | None) -> None:
    if options is None:
        return
    paths = list(_files(options.images))
    student = loading.load(options.run)
    errors: list[InputError] = []
    for start in range(0, len(paths), _BATCH):
        for prediction in _predictions(student, paths[start : start + _BATCH], errors):
            cli.print_text(prediction.as_json() if options.json else prediction.as_text())
    if errors:
        for error in errors[:-1]:
            log(f'error: {error}')
        raise errors[-1]


def _files(names: Sequence[str]) -> Iterator[Path]:
    """The named files, and the images in the named folders in the order of their paths."""
    for name in names:
        path = expand(name)
        if not path.is_dir():
            yield path
            continue
        (files, _) = images.find_images(path)
        if not files:
            raise InputError(f'no images in {path}; their names end in {", ".join(images.SUFFIXES)}')
        yield from files


def _predictions(student: Student, paths: Sequence[Path], errors: list[InputError]) -> Iterator[Prediction]:
    """Predictions of the images that can be read; the errors of the others are appended."""
    readable: list[Path] = []
    pixels: list[np.ndarray] = []
    for path in paths:
        try:
            pixels.append(images.decode(path, student.image_shape))
            readable.append(path)
        except InputError as error:
            errors.append(error)
    if not readable:
        return
    probabilities = softmax(student(np.stack(pixels)), axis=-1)
    for path, row in zip(readable, probabilities, strict=True):
        yield Prediction(str(path), student.class_names[row.argmax()], float(row.max()))

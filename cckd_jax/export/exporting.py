"""Exporting the student of a run: write, verify, measure, and only then keep."""

import contextlib
import importlib.metadata
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import config as settings, data, experiment, provenance
from cckd_jax.console import log
from cckd_jax.errors import InputError
from cckd_jax.export import card, latency, loading, onnx_file, verification
from cckd_jax.export.formats import FORMATS, INT8_FILE, Format, Logits, open_file
from cckd_jax.export.student import Student
from cckd_jax.io import write_errors
from cckd_jax.paths import expand

CARD = 'card.md'

_CALIBRATION_IMAGES = 512
_MODULES = ('jax', 'flax', 'onnx', 'onnxruntime', 'safetensors')


def export(
    run: str | Path,
    output: str | Path,
    formats: Sequence[Format],
    *,
    int8: bool = False,
    dataset: str | None = None,
    data_dir: str | None = None,
) -> list[Path]:
    """Writes the student of a run to files, after comparing them with it on the whole test split.

    Args:
      run: the run directory.
      output: the directory of the files; created if it does not exist.
      formats: of the files.
      int8: whether to quantise the ONNX file as well, calibrated on training images.
      dataset: name or path of the run's data set, if its file has moved.
      data_dir: the TFDS directory, if it is another one.

    Returns:
      The paths of the files; the last is `card.md`.

    Raises:
      InputError: an argument cannot be used, or a float32 file differs from the student; then nothing is kept.
    """
    (run, output) = (expand(run), expand(output))
    student = loading.load(run)
    versions = _versions()
    with _writable(output) as folder:
        config = _data_config(run, dataset, data_dir)
        images = experiment.load_dataset(config)
        _check_dataset(student, images)
        logits = _logits(student, images.test, 'student')
        files = [_save(file_format, student, folder, logits, images.test) for file_format in formats]
        if int8:
            log(f'calibrating {INT8_FILE} on training images')
            subset = _calibration_images(images.train, config.seed)
            onnx_file.quantize(folder / FORMATS['onnx'].file, folder / INT8_FILE, subset)
            files.append(_verified(folder / INT8_FILE, logits, images.test))
        log('measuring latency on one core')
        latencies = latency.measure(run, [folder / file.name for file in files])
        text = card.render(
            student,
            loading.read_json(run / 'results.json'),
            float((logits.argmax(-1) == images.test.labels).mean()),
            files,
            latencies,
            f'calibrated on {min(_CALIBRATION_IMAGES, len(images.train))} training images (seed {config.seed})',
            versions,
        )
        (folder / CARD).write_text(text, encoding='utf-8')
        names = [*(file.name for file in files), CARD]
        for name in names:
            (folder / name).replace(output / name)
    for name in (*(file_format.file for file_format in FORMATS.values()), INT8_FILE):
        if name not in names and (output / name).exists():
            log(f'warning: {output / name} is of an earlier export')
    return [output / name for name in names]


@contextlib.contextmanager
def _writable(output: Path) -> Iterator[Path]:
    """A temporary folder inside the output directory, which is removed again if it was made for a failed export."""
    existed = output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=output, prefix='.export-')
    except OSError as error:
        raise InputError(f'cannot use --output={output} ({error.strerror}); give another directory') from None
    try:
        with folder, write_errors(output):
            yield Path(folder.name)
    finally:
        if not existed and not any(output.iterdir()):
            output.rmdir()


def _data_config(run: Path, dataset: str | None, data_dir: str | None) -> ConfigDict:
    loaded = loading.read_json(run / 'config.json')
    if 'dataset' not in loaded:
        raise InputError(f'{run} has no config.json, which names the data set that verifies an export')
    config = settings.default()
    config.update({name: loaded[name] for name in ('seed', 'validation_fraction', 'dataset')})
    config.dataset.update({'name': dataset or config.dataset.name, 'data_dir': data_dir or config.dataset.data_dir})
    return config


def _check_dataset(student: Student, images: data.Dataset) -> None:
    needed = (student.description.dataset, student.image_shape, len(student.class_names))
    present = (images.name, images.image_shape, images.num_classes)
    if needed != present:
        as_text = lambda facts: f'{facts[0]} with images of {facts[1]} and {facts[2]} classes'
        raise InputError(
            f'the student was trained on {as_text(needed)}, the data set is {as_text(present)}; give the one of the '
            'run by --dataset'
        )


def _versions() -> dict[str, str]:
    # A module may come from one of several packages, such as onnxruntime and onnxruntime-gpu.
    packages = importlib.metadata.packages_distributions()
    return provenance.versions(['cckd-jax', *(name for module in _MODULES for name in packages.get(module, ()))])


def _calibration_images(split: data.Split, seed: int) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(len(split))
    return split.images[order[:_CALIBRATION_IMAGES]]


def _save(
    file_format: Format, student: Student, folder: Path, logits: np.ndarray, split: data.Split
) -> card.ExportedFile:
    file_format.save(student, folder / file_format.file)
    file = _verified(folder / file_format.file, logits, split)
    verification.check(file.comparison, file.name)
    return file


def _verified(path: Path, logits: np.ndarray, split: data.Split) -> card.ExportedFile:
    comparison = verification.compare(_logits(open_file(path), split, path.name), logits, split.labels)
    return card.ExportedFile(path.name, path.stat().st_size, comparison)


def _logits(function: Logits, split: data.Split, title: str) -> np.ndarray:
    # GPUs would round the factors of products to fewer bits.
    with jax.default_matmul_precision('highest'):
        return verification.run(function, split, title)

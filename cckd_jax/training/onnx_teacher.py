"""Logits of a teacher in ONNX, computed once by onnxruntime and kept in the user's cache folder."""

import contextlib
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from cckd_jax import cache
from cckd_jax.data import Dataset, Images, consecutive_batches
from cckd_jax.errors import InputError
from cckd_jax.imports import require
from cckd_jax.training import teacher_outputs
from cckd_jax.training.teacher_outputs import TeacherOutputs

LAYOUTS = ('nhwc', 'nchw')
_DTYPES = {'tensor(uint8)': np.uint8, 'tensor(float16)': np.float16, 'tensor(float)': np.float32}
_BATCH = 256
_PROBE = 3  # exporters fix a batch of one or two images


class Preprocessing(NamedTuple):
    """How uint8 pixels become the input of a teacher: `(low + (high - low) pixel / 255 - mean) / std`.

    Attributes:
      layout: `nhwc` or `nchw`; None if the graph shows it.
      range: `(low, high)`, the values of a black and a white pixel before mean and std; (0, 1) if None. A graph that
        takes uint8 receives the pixels as they are.
      mean: of each channel, or one for all; 0 if None.
      std: of each channel, or one for all; 1 if None.
    """

    layout: str | None = None
    range: Sequence[float] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def check_channels(self, channels: int) -> None:
        """Raises InputError unless mean and std have one value, or one for each channel."""
        for name in ('mean', 'std'):
            values = getattr(self, name)
            if values is not None and len(values) not in (1, channels):
                raise InputError(
                    f'input_{name}={tuple(values)} has {len(values)} values, and the images have {channels} channels'
                )


def load_onnx(path: Path, dataset: Dataset, preprocessing: Preprocessing, *, check: bool = True) -> TeacherOutputs:
    """Computes the logits of a teacher on the training and test images, or reads them from the cache.

    The key of the cache covers the file, the preprocessing and the images. A damaged cache file is computed again.

    Args:
      path: an ONNX graph with one input, images, and an output `[B, C]`. If there are several outputs, one is named
        `logits`.
      dataset: the images.
      preprocessing: how pixels become the input.
      check: whether to refuse outputs that are probabilities.

    Raises:
      InputError: onnxruntime is not installed, the graph does not fit the data set, or its outputs are not finite or
        are probabilities.
    """
    splits = (dataset.train, dataset.test)
    facts = [*map(str, preprocessing), *(split.fingerprint() for split in splits)]
    key = hashlib.sha256('\n'.join([_file_digest(path), *facts]).encode()).hexdigest()[:16]
    cached = cache.folder() / 'teachers' / f'onnx-{key}.npz'
    outputs = None
    if cached.exists():
        with contextlib.suppress(InputError):
            outputs = teacher_outputs.load(cached, key)
    if outputs is None:
        graph = _Graph(path, dataset, preprocessing)
        outputs = TeacherOutputs(*(graph.logits(split.images)[:, None] for split in splits))
        # A run does not depend on its cache being writable.
        with contextlib.suppress(OSError, InputError):
            cached.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            teacher_outputs.save(cached, outputs, key)
    for name, logits in outputs._asdict().items():
        teacher_outputs.check_finite_logits(f'outputs of {path} on {name} images', logits, check=check)
    teacher_outputs.report_plausibility(f'the teacher in {path}', outputs.train[:, 0], dataset.train.labels)
    return outputs


class _Graph:
    """A graph that accepts the images of a data set."""

    def __init__(self, path: Path, dataset: Dataset, preprocessing: Preprocessing):
        self._path, self._classes = path, dataset.num_classes
        self._session = _open(path)
        (self._input, self._output) = (_input(path, self._session), _output(path, self._session))
        self._dtype = _DTYPES[self._input.type]
        preprocessing.check_channels(dataset.image_shape[-1])
        self._preprocess(preprocessing)
        batch = self._input.shape[0] if len(self._input.shape) == 4 else None
        self._fixed_batch = batch if isinstance(batch, int) else None
        self._layout = self._find_layout(preprocessing.layout, dataset)

    def logits(self, images: Images) -> np.ndarray:
        """Logits float32 `[N, C]` of uint8 images `[N, H, W, C]`."""
        size = self._fixed_batch or _BATCH
        batches = []
        total = -(-len(images) // size)
        read = consecutive_batches(images, size)
        for batch in tqdm(read, 'running the teacher', total=total, leave=False, disable=None, delay=2):
            padding = (self._fixed_batch or len(batch)) - len(batch)
            padded = np.pad(batch, [(0, padding), (0, 0), (0, 0), (0, 0)], mode='edge')
            batches.append(self._run(padded, self._layout)[: len(batch)])
        return np.concatenate(batches).astype(np.float32)

    def _preprocess(self, preprocessing: Preprocessing) -> None:
        if self._dtype is np.uint8:
            names = [name for name in ('range', 'mean', 'std') if getattr(preprocessing, name) is not None]
            if names:
                raise InputError(f'{self._path} takes uint8 pixels as they are, and input_{names[0]} is set; remove it')
        (low, high) = preprocessing.range or (0.0, 1.0)
        mean = np.asarray(preprocessing.mean or 0.0, np.float32)
        std = np.asarray(preprocessing.std or 1.0, np.float32)
        (self._scale, self._offset) = ((high - low) / 255 / std, (low - mean) / std)

    def _find_layout(self, layout: str | None, dataset: Dataset) -> str:
        """The layout of the input; a graph with free dimensions is run in both."""
        (height, width, channels) = dataset.image_shape
        shapes = {'nhwc': (height, width, channels), 'nchw': (channels, height, width)}
        declared = self._input.shape
        fits = lambda shape: all(
            not isinstance(size, int) or size == needed for size, needed in zip(declared[1:], shape, strict=True)
        )
        layouts = [name for name in LAYOUTS if layout in (None, name) and len(declared) == 4 and fits(shapes[name])]
        if not layouts:
            needed = ' or '.join(_shape(['batch', *shapes[name]]) for name in LAYOUTS if layout in (None, name))
            raise InputError(
                f'{self._path} takes images of {_shape(declared)}; the data set needs {needed}, or another '
                'dataset.image_shape'
            )
        probe = dataset.train.images[:1].repeat(self._fixed_batch or _PROBE, axis=0)
        errors = []
        for name in tuple(layouts):
            try:
                logits = self._run(probe, name)
            except InputError as error:
                errors.append(error)
                layouts.remove(name)
        if not layouts:
            raise errors[0]
        if len(layouts) == 2:
            raise InputError(f'{self._path} takes both layouts; set input_layout to nhwc or nchw')
        if logits.shape[1:] != (self._classes,):
            raise InputError(
                f'{self._path} returns {_shape(["batch", *logits.shape[1:]])}; {self._classes} classes need '
                f'[batch, {self._classes}]'
            )
        return layouts[0]

    def _run(self, images: np.ndarray, layout: str) -> np.ndarray:
        values: Any = images
        if self._dtype is not np.uint8:
            values = (images * self._scale + self._offset).astype(self._dtype)
        if layout == 'nchw':
            values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        try:
            (logits,) = self._session.run([self._output.name], {self._input.name: values})
        except Exception as error:  # onnxruntime raises its own exceptions
            reason = ' '.join(str(error).split())[:200]
            raise InputError(
                f'{self._path} cannot run a batch of {len(images)} images: {reason}; export it with a dynamic batch '
                'axis'
            ) from None
        if logits.shape[:1] != (len(images),):
            raise InputError(
                f'{self._path} returns {_shape(logits.shape)} for a batch of {len(images)} images; export it with a '
                'dynamic batch axis'
            )
        return logits


def _open(path: Path) -> Any:
    require('onnxruntime')
    import onnxruntime as ort  # an extra

    options = ort.SessionOptions()
    options.log_severity_level = 4  # its errors are raised as well
    try:
        return ort.InferenceSession(str(path), options, providers=ort.get_available_providers())
    except Exception as error:  # onnxruntime raises its own exceptions
        reason = ' '.join(str(error).split())[:200]
        raise InputError(f'cannot read {path} as an ONNX graph ({reason})') from None


def _input(path: Path, session: Any) -> Any:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ', '.join(item.name for item in inputs)
        raise InputError(f'{path} has {len(inputs)} inputs ({names}); a teacher has one, images')
    if inputs[0].type not in _DTYPES:
        raise InputError(f'{path} takes {inputs[0].type}; a teacher takes {", ".join(_DTYPES)}')
    return inputs[0]


def _output(path: Path, session: Any) -> Any:
    outputs = session.get_outputs()
    named = [output for output in outputs if output.name == 'logits']
    if len(outputs) != 1 and not named:
        names = ', '.join(output.name for output in outputs)
        raise InputError(f'{path} has {len(outputs)} outputs ({names}); name one of them logits')
    return (named or outputs)[0]


def _shape(sizes: Sequence[Any]) -> str:
    return f'[{", ".join(str(size) for size in sizes)}]'


def _file_digest(path: Path) -> str:
    """Of the graph and of the files that hold its large weights."""
    require('onnx')
    import onnx  # an extra

    sha = hashlib.sha256()
    try:
        graph = onnx.load(path, load_external_data=False)
        locations = {
            entry.value
            for entry in itertools.chain.from_iterable(tensor.external_data for tensor in graph.graph.initializer)
            if entry.key == 'location'
        }
        for name in (path.name, *sorted(locations)):
            with (path.parent / name).open('rb') as file:
                sha.update(hashlib.file_digest(file, 'sha256').digest())
    except FileNotFoundError as error:
        raise InputError(f'no ONNX file at {error.filename or path}') from None
    except Exception as error:  # protobuf raises its own exceptions
        raise InputError(f'cannot read {path} as an ONNX graph ({type(error).__name__})') from None
    return sha.hexdigest()

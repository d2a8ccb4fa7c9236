"""Decoded images in an ArrayRecord file, which are read by index."""

import contextlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from tqdm import tqdm

from cckd_jax import cpu, io
from cckd_jax.console import log
from cckd_jax.errors import InputError

# One record per chunk, because an epoch reads in a random order. Photographs hardly compress without loss.
_WRITE = 'group_size:1,uncompressed'
# The threads of grain read in parallel already.
_READ = 'readahead_buffer_size:0,max_parallelism:0'
_CHUNK_BYTES = 2**26

# The image uint8 `[H, W, C]` of a row; raises InputError if it cannot be read.
Decode = Callable[[int], np.ndarray]


class PixelRecords:
    """Images of an ArrayRecord file by row.

    The file has a checksum of every image. Images that it lacks, or that are damaged there, are decoded again.

    Args:
      path: of the file, whose records are pixels, or empty for images that it lacks.
      shape: `[N, H, W, C]`.
      decode: makes an image again.

    Raises:
      InputError: the file does not hold N records.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], decode: Decode):
        self.shape = shape
        self._path = path
        self._decode = decode
        self._is_damaged = False
        try:
            self._reader = ArrayRecordReader(str(path), _READ)
            count = self._reader.num_records()
        except Exception as error:  # a damaged file raises anything
            raise InputError(f'cannot read {path} ({_reason(error)})') from None
        if count != shape[0]:
            raise InputError(f'{path} has {count} images, not {shape[0]}')

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for image, row, record in zip(images, rows.tolist(), self._records(rows), strict=True):
            image[...] = np.frombuffer(record, np.uint8).reshape(image.shape) if record else self._decode(row)
        return images

    def _records(self, rows: np.ndarray) -> list[bytes]:
        try:
            return self._reader.read(rows.tolist())
        except Exception as error:  # a damaged file raises anything
            if not self._is_damaged:
                self._is_damaged = True
                log(
                    f'warning: {self._path} is damaged ({_reason(error)}); damaged images are decoded again, and the '
                    'next run writes the file again'
                )
            # The file stays readable where it is open.
            with contextlib.suppress(OSError):
                self._path.unlink()
            return [b''] * len(rows)


def stored_pixels(path: Path, shape: tuple[int, ...], decode: Decode) -> tuple[PixelRecords, np.ndarray]:
    """Returns images from an ArrayRecord file, or decodes them and writes the file first.

    Args:
      path: of the file; its name has a key of everything that the images depend on.
      shape: `[N, H, W, C]`.
      decode: from a row to its image; called from several threads at a time.

    Returns:
      The images, and bool `[N]`, which of them were readable.

    Raises:
      InputError: the file cannot be written, or its disk has too little space.
    """
    readable_path = path.with_suffix('.npy')
    # The images are written last: where they are, the other file is complete.
    with contextlib.suppress(OSError, ValueError, EOFError, InputError):
        (records, readable) = (PixelRecords(path, shape, decode), np.load(readable_path))
        if (readable.shape, readable.dtype) == (shape[:1], np.dtype(bool)):
            return records, readable
    with io.write_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log(f'decoding {shape[0]:,} images to {"x".join(map(str, shape[1:]))}, into {path}')
    with io.atomic_write(path) as file:
        readable = _write(Path(file.name), shape, decode)
        with io.atomic_write(readable_path) as readable_file:
            np.save(readable_file, readable)
    return PixelRecords(path, shape, decode), readable


def _write(path: Path, shape: tuple[int, ...], decode: Decode) -> np.ndarray:
    """Decodes chunks of images in threads, which Pillow lets run at the same time, and writes them in their order."""

    def decode_or_none(row: int) -> np.ndarray | None:
        try:
            return decode(row)
        except InputError:
            return None

    count = shape[0]
    chunk = max(1, _CHUNK_BYTES // math.prod(shape[1:]))
    readable = np.zeros(count, bool)
    progress = tqdm(total=count, desc='decoding', leave=False, disable=None, unit=' images')
    with (
        contextlib.closing(ArrayRecordWriter(str(path), _WRITE)) as writer,
        ThreadPoolExecutor(len(cpu.cores())) as threads,
        progress,
    ):
        for start in range(0, count, chunk):
            # The writer reports a full disk only when it is closed, after all images are decoded.
            _check_free_space(path.parent, shape, count - start)
            rows = range(start, min(start + chunk, count))
            for row, image in zip(rows, threads.map(decode_or_none, rows), strict=True):
                readable[row] = image is not None
                writer.write(b'' if image is None else image.tobytes())
                progress.update()
    return readable


def _check_free_space(folder: Path, shape: tuple[int, ...], remaining: int) -> None:
    try:
        io.check_free_space(folder, remaining * math.prod(shape[1:]))
    except InputError:
        raise InputError(
            f'the {shape[0]:,} images take {math.prod(shape) / 2**30:,.3g} GiB, more than dataset.memory_gib, and the '
            f'disk of {folder} has less free space; free some, or set XDG_CACHE_HOME to a folder on another disk'
        ) from None


def _reason(error: Exception) -> str:
    return ' '.join(str(error).split())[:200] or type(error).__name__

"""Resident memory and open files of a process that trains for thousands of epochs."""

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cckd_jax.report.metrics import read_rows
from endurance_parts import runs

_SECONDS_BETWEEN = 1.0
_GROWTH = 0.05  # of resident memory from the second quarter of the epochs to the last


def trials(folder: Path, earlier: Sequence[Mapping[str, Any]], *, epochs: int) -> Iterator[dict[str, Any]]:
    """Trains a student for many epochs on few digits.

    Args:
      folder: for the run.
      earlier: the trials that are done.
      epochs: of the student.

    Yields:
      One trial: samples of the epoch, the resident MiB and the number of open files, and whether they grow.
    """
    if earlier:
        return
    (workdir, cache) = (folder / 'run', folder / 'cache')
    shutil.rmtree(workdir, ignore_errors=True)
    settings = (
        f'--config.student.epochs={epochs}',
        '--config.save_seconds=1',
        '--config.dataset.examples=64',
        '--config.batch_size=32',
        '--config.separate.enabled=false',
    )
    process = runs.start(runs.command('gate', workdir, *settings), cache, folder / 'run.log')
    samples: list[tuple[int, float, int]] = []
    while process.poll() is None:
        time.sleep(_SECONDS_BETWEEN)
        done = len(read_rows(workdir / 'student'))
        if 0 < done < epochs:
            samples.append((done, *_resources(process.pid)))
    if process.returncode:
        raise RuntimeError(f'status {process.returncode}; its messages are in {folder / "run.log"}')
    yield {'count': epochs, 'samples': samples, **summary(samples, epochs)}


def summary(samples: Sequence[tuple[int, float, int]], epochs: int) -> dict[str, Any]:
    """The growth of samples of (epoch, MiB, open files), and what exceeds its limit."""
    (done, memory, files) = np.array(samples).T
    (second, last) = ((done > epochs * start) & (done <= epochs * (start + 0.25)) for start in (0.25, 0.75))
    growth = float(np.median(memory[last]) / np.median(memory[second]) - 1)
    # The least, because a checkpoint that is being written has files of its own.
    more_files = int(np.min(files[last]) - np.min(files[second]))
    failures = [f'resident memory grows by {growth:.1%}'] if growth > _GROWTH else []
    failures += [f'{more_files} more files are open'] if more_files > 0 else []
    return {'growth': growth, 'more_files': more_files, 'failures': failures}


def draw(path: Path, samples: Sequence[tuple[int, float, int]]) -> None:
    """Draws resident memory and open files over the epochs."""
    import matplotlib.pyplot as plt

    (done, memory, files) = np.array(samples).T
    (figure, axes) = plt.subplots(1, 2, figsize=(8, 2.6), layout='constrained')
    for axis, values, label in zip(axes, (memory, files), ('resident memory, MiB', 'open files'), strict=True):
        axis.plot(done, values, linewidth=1)
        axis.set(xlabel='epoch', ylabel=label, ylim=(0, 1.15 * values.max()))
    figure.savefig(path, dpi=120, metadata={'Software': None})
    plt.close(figure)


def _resources(pid: int) -> tuple[float, int]:
    status = Path(f'/proc/{pid}/status').read_text()
    match = re.search(r'VmRSS:\s+(\d+) kB', status)
    return (int(match[1]) / 1024 if match else 0.0), len(list(Path(f'/proc/{pid}/fd').iterdir()))

"""The metrics of a run, one row per epoch: `metrics.jsonl`, and TensorBoard events beside it.

Both files are for readers: the rows that a run resumes from and reports on are part of the checkpoint. On resume, both
files are rewritten from those rows, so that they show no epoch twice and none is missing.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from cckd_jax import io

_FILE = 'metrics.jsonl'
_SECONDS_BETWEEN_FLUSHES = 10.0


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Returns the rows of `<folder>/metrics.jsonl` up to the first line that is not one; `[]` without the file."""
    path = folder / _FILE
    rows = []
    for line in path.read_text(encoding='utf-8', errors='replace').splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict) or 'epoch' not in row:
            break
        rows.append(row)
    return rows


class MetricsWriter:
    """Writes the rows of one network into its folder; an observer of the loop."""

    def __init__(self, folder: Path):
        self._folder = folder
        # tensorboardX's SummaryWriter writes from a thread, and blocks for ever when that thread meets a full disk.
        self._events: EventsWriter | None = None

    def start(self, rows: Sequence[dict[str, Any]]) -> None:
        """Rewrites both files with the rows of the epochs that are done."""
        io.write_text(self._folder / _FILE, ''.join(_line(row) for row in rows))
        with io.write_errors(self._folder):
            for old in self._folder.glob('events.out.tfevents.*'):
                old.unlink()
            self._events = EventsWriter(str(self._folder / 'events'))
            for row in rows:
                self._add_events(row)
            self._flush_events()

    def step(self, epoch: int, metrics: dict[str, Any]) -> None:
        """Does nothing: rows are per epoch."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Appends a row to both files."""
        with io.write_errors(self._folder), (self._folder / _FILE).open('a', encoding='utf-8') as file:
            file.write(_line(row))
            self._add_events(row)
            if time.monotonic() - self._flushed >= _SECONDS_BETWEEN_FLUSHES:
                self._flush_events()

    def close(self) -> None:
        """Flushes and closes the events."""
        if self._events is not None:
            with io.write_errors(self._folder):
                self._events.close()

    def _add_events(self, row: dict[str, Any]) -> None:
        if self._events is None:
            return
        for name, value in scalars(row):
            self._events.write_event(Event(wall_time=time.time(), step=row['epoch'], summary=scalar(name, value)))

    def _flush_events(self) -> None:
        if self._events is not None:
            self._events.flush()
        self._flushed = time.monotonic()


def scalars(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and values of a row's scalars, as TensorBoard and trackers show them.

    >>> dict(scalars({'epoch': 3, 'loss': 0.5, 'train_accuracy': None}))
    {'loss': 0.5}
    """
    for name, value in row.items():
        if name == 'teacher_shares':
            for group, weights in value.items():
                for index, weight in enumerate(weights['overall'] or ()):
                    yield f'{name}/{group}/{index}', weight
        elif name != 'epoch' and value is not None:
            yield name, value


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + '\n'

"""A run's rows, one for each epoch: `metrics.jsonl` always, TensorBoard events beside it.

A resumed run must show no epoch twice and none missing. The rows are cut back to the epoch that training resumes
from, and the events, which hold nothing that the rows do not, are written anew from the rows.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from cckd_jax.reporting.files import write_text

_FILE = 'metrics.jsonl'


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The whole rows of `<folder>/metrics.jsonl`; a line that a killed process left torn is not one."""
    path = folder / _FILE
    rows = []
    for line in path.read_text(encoding='utf-8').splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class MetricsWriter:
    """Writes the rows of one network into its folder; an observer of the loop."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._events = None

    def start(self, epochs_done: int) -> None:
        """Cuts rows and events back to the first `epochs_done` epochs."""
        rows = [row for row in read_rows(self._folder) if row['epoch'] < epochs_done]
        write_text(self._folder / _FILE, ''.join(_line(row) for row in rows))
        for old in self._folder.glob('events.out.tfevents.*'):
            old.unlink()
        self._events = SummaryWriter(str(self._folder))
        for row in rows:
            self._add_events(row)

    def step(self, epoch: int, metrics: dict[str, Any]) -> None:
        """Rows are of epochs."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Appends a row, and hands it to the operating system before the epoch's checkpoint is begun."""
        with (self._folder / _FILE).open('a', encoding='utf-8') as file:
            file.write(_line(row))
        self._add_events(row)

    def close(self) -> None:
        """Flushes the events."""
        if self._events is not None:
            self._events.close()

    def _add_events(self, row: dict[str, Any]) -> None:
        for name, value in _scalars(row):
            self._events.add_scalar(name, value, row['epoch'])


def _scalars(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if name == 'teacher_shares':
            for what, shares in value.items():
                yield from ((f'{name}/{what}/{place}', share) for place, share in enumerate(shares['overall'] or ()))
        elif name != 'epoch' and value is not None:
            yield name, value


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + '\n'

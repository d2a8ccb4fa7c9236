"""Sums over the steps of one epoch, and the rows of `metrics.jsonl` that they make."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

Row = dict[str, Any]

# Columns of a row of several students, which are means over theirs.
_MEANS = ('loss', 'train_accuracy', 'kept_share', 'samples_looked_at', 'samples_presented', 'validation_accuracy')


class EpochTotals(Protocol):
    """What the loop needs of the sums over an epoch."""

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Adds the metrics of one step."""

    def row(self, epoch: int, presented: int, columns: Mapping[str, Any]) -> Row:
        """The row of the epoch, with further columns."""


class Totals:
    """The sums of one network."""

    def __init__(self) -> None:
        self._sums = {'loss': 0.0, 'presented': 0, 'kept': 0, 'correct': 0}
        self._teacher_weights: dict[str, np.ndarray] = {}
        self._measures: dict[str, float] = {}

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Adds the metrics of one step."""
        kept = int(metrics['kept'])
        self._sums['loss'] += float(metrics['loss']) * kept
        self._sums['kept'] += kept
        self._sums['presented'] += int(metrics['presented'])
        self._sums['correct'] += int(metrics['correct'])
        for name, values in metrics.get('teacher_weights', {}).items():
            self._teacher_weights[name] = self._teacher_weights.get(name, 0) + np.asarray(values, np.float64)
        for name, value in metrics.get('measures', {}).items():
            self._measures[name] = self._measures.get(name, 0.0) + float(value)

    def row(self, epoch: int, presented: int, columns: Mapping[str, Any]) -> Row:
        """The row of the epoch.

        Args:
          epoch: counted from 0.
          presented: number of examples of the epoch.
          columns: further columns.
        """
        sums = self._sums
        row: Row = {
            'epoch': epoch,
            'loss': sums['loss'] / sums['kept'] if sums['kept'] else None,
            'train_accuracy': sums['correct'] / sums['presented'] if sums['presented'] else None,
            'kept_share': sums['kept'] / presented,
            'samples_used': sums['kept'],
            'samples_looked_at': sums['presented'],
            'samples_presented': presented,
        }
        if self._teacher_weights:
            row['teacher_shares'] = {name: _relative(values) for name, values in self._teacher_weights.items()}
        if sums['presented']:
            row |= {name: value / sums['presented'] for name, value in self._measures.items()}
        return row | dict(columns)


class PeerTotals:
    """The sums of several students that train together.

    Their row has the means over the students, and under `peers` the row of each.
    """

    def __init__(self, students: int) -> None:
        self._students = [Totals() for _ in range(students)]

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Adds the metrics of one step: under `peers` those of each, or arrays over all."""
        own = metrics['peers']
        if isinstance(own, Mapping):
            own = [jax.tree.map(lambda values, index=index: values[index], own) for index in range(len(own['finite']))]
        for student, of_student in zip(self._students, own, strict=True):
            student.add(of_student)

    def row(self, epoch: int, presented: int, columns: Mapping[str, Any]) -> Row:
        """The row of the epoch.

        Args:
          epoch: counted from 0.
          presented: number of examples of the epoch.
          columns: further columns. The students share `epoch_seconds` equally; of a list, each has its item.
        """
        share = columns['epoch_seconds'] / len(self._students)
        return peer_row(
            [
                student.row(
                    epoch,
                    presented,
                    {name: values[index] if isinstance(values, list) else values for name, values in columns.items()}
                    | {'epoch_seconds': share},
                )
                for index, student in enumerate(self._students)
            ]
        )


def peer_row(rows: Sequence[Row]) -> Row:
    """The row of students that train together, from the row of each.

    >>> peer_row([{'epoch': 0, 'loss': 1.0}, {'epoch': 0, 'loss': None}])
    {'epoch': 0, 'loss': 1.0, 'peers': [{'epoch': 0, 'loss': 1.0}, {'epoch': 0, 'loss': None}]}
    """
    means = {}
    for name in _MEANS:
        if name in rows[0]:
            known = [row[name] for row in rows if row[name] is not None]
            means[name] = sum(known) / len(known) if known else None
    return {'epoch': rows[0]['epoch'], **means, 'peers': list(rows)}


def _relative(sums: np.ndarray) -> dict[str, Any]:
    """Normalized weights of the teachers, overall and by class, from sums `[C, K]`; None where no example was kept."""
    relative = lambda values: [round(float(value), 5) for value in values / values.sum()] if values.sum() else None
    return {'overall': relative(sums.sum(0)), 'by_class': [relative(row) for row in sums]}

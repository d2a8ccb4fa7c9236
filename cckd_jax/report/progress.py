"""Progress of training on stderr: a bar on a terminal, otherwise a line at least every ten seconds."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from cckd_jax.console import log
from cckd_jax.report.stages import Stages

_SECONDS_BETWEEN_LINES = 10.0
# Without two epochs, compilation distorts the speed unless it is a small part of the time.
_SECONDS_OF_EVIDENCE = 30.0


class Progress:
    """Shows stage, epoch, loss, accuracy, kept share, images/s and the time left; an observer of the loop.

    Args:
      name: of the stage.
      epochs: number of epochs.
      examples: number of examples in an epoch.
      stages: of the run.
    """

    def __init__(self, name: str, epochs: int, examples: int, stages: Stages | None = None):
        self._name, self._epochs, self._examples = name, epochs, examples
        self._stages = stages or Stages()
        self._label = self._stages.label(name)
        self._bar: tqdm | None = None

    def start(self, rows: Sequence[dict[str, Any]]) -> None:
        """Begins after the epochs of these rows."""
        epochs_done = len(rows)
        self._begun = self._measured_since = self._last_line = time.monotonic()
        self._seen = self._unmeasured = 0
        self._epochs_here = 0
        self._left = (self._epochs - epochs_done) * self._examples
        if epochs_done >= self._epochs:
            log(f'{self._label}: all {self._epochs} epochs are done')
            return
        if epochs_done:
            log(f'{self._label}: resuming after epoch {epochs_done} of {self._epochs}')
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._epochs * self._examples,
                initial=epochs_done * self._examples,
                bar_format=self._bar_format(epochs_done, ''),
                dynamic_ncols=True,
            )

    def step(self, epoch: int, metrics: dict[str, Any]) -> None:
        """Moves the bar by the images presented, and shows the numbers of the step during a long epoch."""
        presented = int(metrics['presented'])
        self._seen += presented
        if self._bar is not None:
            self._bar.update(presented)
        if time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            numbers = {
                'loss': float(metrics['loss']) if metrics['kept'] else None,
                'train_accuracy': int(metrics['correct']) / presented,
                'kept_share': int(metrics['kept']) / presented,
            }
            self._show(epoch, numbers)

    def epoch(self, row: dict[str, Any]) -> None:
        """Shows the epoch's numbers."""
        resting = row['samples_presented'] - row['samples_looked_at']
        self._seen += resting
        self._epochs_here += 1
        is_last = row['epoch'] + 1 == self._epochs
        if self._bar is not None or is_last or time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._show(row['epoch'], row)
        if self._bar is not None:
            self._bar.update(resting)
        if self._epochs_here == 1:
            # The first epoch compiled the step: the others tell the speed.
            (self._measured_since, self._unmeasured) = (time.monotonic(), self._seen)

    def close(self) -> None:
        """Closes the bar and leaves it on the screen."""
        if self._bar is not None:
            self._bar.close()

    def _show(self, epoch: int, numbers: dict[str, Any]) -> None:
        self._last_line = time.monotonic()
        if self._bar is None:
            texts = _numbers(numbers, loss='.4f', share='.2%')
            shown = [texts[name] for name in ('loss', 'accuracy', 'kept', 'validation') if name in texts]
            speed = f'{1 / self._seconds_per_image():,.0f} images/s'
            log('  '.join([f'{self._label}: epoch {epoch + 1}/{self._epochs}', *shown, speed, *self._time_left()]))
        else:
            texts = _numbers(numbers, loss='.3f', share='.1%')
            # tqdm cuts a line that is too long: last are those numbers that may miss their last digits.
            shown = [texts[name] for name in ('kept', 'accuracy', 'loss', 'validation') if name in texts]
            self._bar.bar_format = self._bar_format(epoch, '  '.join([*self._time_left(), *shown]))

    def _bar_format(self, epoch: int, text: str) -> str:
        return f'{self._label} {epoch + 1}/{self._epochs} {{bar}} {text}'

    def _seconds_per_image(self) -> float:
        return (time.monotonic() - self._measured_since) / (self._seen - self._unmeasured)

    def _time_left(self) -> list[str]:
        """The time left for the run; nothing before there is evidence."""
        if self._epochs_here < 2 and time.monotonic() - self._begun < _SECONDS_OF_EVIDENCE:
            return []
        images = self._left - self._seen
        return [self._stages.left(self._name, images=images, seconds_per_image=self._seconds_per_image())]


def _numbers(row: dict[str, Any], *, loss: str, share: str) -> dict[str, str]:
    mean_loss = 'none kept' if row['loss'] is None else format(row['loss'], loss)
    accuracy = 'unseen' if row['train_accuracy'] is None else format(row['train_accuracy'], share)
    texts = {
        'loss': f'loss {mean_loss}',
        'accuracy': f'accuracy {accuracy}',
        'kept': f'kept {format(row["kept_share"], share)}',
    }
    if 'validation_accuracy' in row:
        texts['validation'] = f'validation {format(row["validation_accuracy"], share)}'
    return texts

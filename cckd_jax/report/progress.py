"""Progress of training on stderr: a bar on a terminal, otherwise a line at least every ten seconds."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from cckd_jax.console import log

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows epoch, loss, accuracy, kept share, images/s and remaining time; an observer of the loop."""

    def __init__(self, name: str, epochs: int, examples: int):
        self._name, self._epochs, self._examples = name, epochs, examples
        self._bar = None

    def start(self, rows: Sequence[dict[str, Any]]) -> None:
        """Begins after the epochs of these rows."""
        epochs_done = len(rows)
        self._begun = self._last_line = time.monotonic()
        self._seen = 0
        self._left = (self._epochs - epochs_done) * self._examples
        if epochs_done >= self._epochs:
            log(f'{self._name}: all {self._epochs} epochs are done')
            return
        if epochs_done:
            log(f'{self._name}: resuming after epoch {epochs_done} of {self._epochs}')
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._epochs * self._examples,
                initial=epochs_done * self._examples,
                desc=f'{self._name} {epochs_done + 1}/{self._epochs}',
                unit=' images',
                unit_scale=True,
                dynamic_ncols=True,
                smoothing=0.05,
            )

    def step(self, epoch: int, metrics: dict[str, Any]) -> None:
        """Moves the bar by the images presented, or prints a line during a long epoch."""
        presented = int(metrics['presented'])
        self._seen += presented
        if self._bar is not None:
            self._bar.update(presented)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            numbers = {
                'loss': float(metrics['loss']) if metrics['kept'] else None,
                'train_accuracy': int(metrics['correct']) / presented,
                'kept_share': int(metrics['kept']) / presented,
            }
            self._log(epoch, numbers)

    def epoch(self, row: dict[str, Any]) -> None:
        """Shows the epoch's numbers."""
        done = row['epoch'] + 1
        resting = row['samples_presented'] - row['samples_looked_at']
        self._seen += resting
        if self._bar is not None:
            self._bar.update(resting)
            self._bar.set_description(f'{self._name} {min(done + 1, self._epochs)}/{self._epochs}')
            self._bar.set_postfix_str(_numbers(row))
        elif done == self._epochs or time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._log(row['epoch'], row)

    def close(self) -> None:
        """Closes the bar and leaves it on the screen."""
        if self._bar is not None:
            self._bar.close()

    def _log(self, epoch: int, numbers: dict[str, Any]) -> None:
        self._last_line = time.monotonic()
        speed = self._seen / (self._last_line - self._begun)
        left = int((self._left - self._seen) / speed)
        clock = f'{left // 3600}:{left // 60 % 60:02}:{left % 60:02}'
        log(f'{self._name} epoch {epoch + 1}/{self._epochs}  {_numbers(numbers)}  {speed:,.0f} images/s  {clock} left')


def _numbers(row: dict[str, Any]) -> str:
    loss = 'none kept' if row['loss'] is None else f'{row["loss"]:.4f}'
    accuracy = 'unseen' if row['train_accuracy'] is None else f'{row["train_accuracy"]:.2%}'
    text = f'loss {loss}  accuracy {accuracy}  kept {row["kept_share"]:.2%}'
    if 'validation_accuracy' in row:
        text += f'  validation {row["validation_accuracy"]:.2%}'
    return text

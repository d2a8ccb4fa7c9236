"""What a waiting user sees: a bar on a terminal, a line now and then anywhere else."""

import sys
import time
from typing import Any

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


def say(text: str) -> None:
    """One line for the user, above any bar."""
    tqdm.write(text, file=sys.stderr)


class Progress:
    """Shows epoch, loss, accuracy, kept share, images/s and time left; an observer of the loop."""

    def __init__(self, name: str, epochs: int, examples: int):
        self._name, self._epochs, self._examples = name, epochs, examples
        self._bar = None

    def start(self, epochs_done: int) -> None:
        """Begins at the epoch that training resumes from."""
        self._begun = self._last_line = time.monotonic()
        self._first = epochs_done
        if epochs_done >= self._epochs:
            say(f'{self._name}: all {self._epochs} epochs are done')
            return
        if epochs_done:
            say(f'{self._name}: resuming after epoch {epochs_done} of {self._epochs}')
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
        """Moves the bar by the images presented."""
        if self._bar is not None:
            self._bar.update(int(metrics['presented']))

    def epoch(self, row: dict[str, Any]) -> None:
        """Shows the epoch's numbers."""
        done = row['epoch'] + 1
        if self._bar is not None:
            self._bar.set_description(f'{self._name} {min(done + 1, self._epochs)}/{self._epochs}')
            self._bar.set_postfix_str(_numbers(row))
            return
        now = time.monotonic()
        if done < self._epochs and now - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        pace = (now - self._begun) / (done - self._first)
        speed = self._examples / row['epoch_seconds'] if row['epoch_seconds'] else 0
        left = time.strftime('%H:%M:%S', time.gmtime(pace * (self._epochs - done)))
        say(f'{self._name} epoch {done}/{self._epochs}  {_numbers(row)}  {speed:,.0f} images/s  {left} left')

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _numbers(row: dict[str, Any]) -> str:
    loss = 'none kept' if row['loss'] is None else f'{row["loss"]:.4f}'
    text = f'loss {loss}  accuracy {row["train_accuracy"]:.2%}  kept {row["kept_share"]:.2%}'
    if 'validation_accuracy' in row:
        text += f'  validation {row["validation_accuracy"]:.2%}'
    return text

"""Checkpoints in several processes: process 0 reads and writes them, and the others receive what it reads."""

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic

from cckd_jax import processes
from cckd_jax.training.loop import State, StateCheckpoints
from cckd_jax.training.totals import Row


def shared_checkpoints(
    open_checkpoints: Callable[[], AbstractContextManager[StateCheckpoints[State]]],
) -> AbstractContextManager[StateCheckpoints[State]]:
    """The checkpoints that all processes resume from.

    Args:
      open_checkpoints: makes the checkpoints; process 0 alone calls it.
    """
    return open_checkpoints() if processes.count() == 1 else _Shared(open_checkpoints)


class _Shared(Generic[State]):
    """Passes calls on in process 0, and the restored state to the others."""

    def __init__(self, open_checkpoints: Callable[[], AbstractContextManager[StateCheckpoints[State]]]):
        self._open = open_checkpoints
        self._stack = contextlib.ExitStack()
        self._own: StateCheckpoints[State] | None = None

    def __enter__(self) -> StateCheckpoints[State]:
        if processes.is_process_0():
            self._own = self._stack.enter_context(self._open())
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def save(self, state: State, rows: Sequence[Row]) -> None:
        """Writes, in process 0."""
        if self._own is not None:
            self._own.save(state, rows)

    def restore(self, state: State) -> tuple[State, list[Row]]:
        """What process 0 restores."""
        restored = processes.from_process_0(lambda: self._restore(state))
        # Every process can make the state before the first step itself.
        return (state, []) if restored is None else restored

    def _restore(self, state: State) -> tuple[State, list[Row]] | None:
        assert self._own is not None
        (restored, rows) = self._own.restore(state)
        return (restored, rows) if rows else None

    def describe(self) -> str:
        """A phrase that names the newest checkpoint."""
        return 'process 0 names the last good checkpoint' if self._own is None else self._own.describe()

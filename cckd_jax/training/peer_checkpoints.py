"""Checkpoints of networks that train together: each has its own folder, and all resume after the same epoch."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from cckd_jax.training.checkpoints import Checkpoints
from cckd_jax.training.peers import PeerState
from cckd_jax.training.seeds import SeedsState
from cckd_jax.training.totals import Row, peer_row

Together = TypeVar('Together', PeerState, SeedsState)


class PeerCheckpoints(Generic[Together]):
    """The checkpoints of several networks, each in the format of one that trains alone.

    Args:
      folders: of the networks, such as RUN/student_0.
      metas: facts that the checkpoint of each must share to be resumed.

    Raises:
      InputError: a folder cannot be created.
    """

    def __init__(self, folders: Sequence[Path], metas: Sequence[Mapping[str, Any]]):
        self._students = [Checkpoints(folder, meta) for folder, meta in zip(folders, metas, strict=True)]

    def __enter__(self) -> 'PeerCheckpoints[Together]':
        with contextlib.ExitStack() as stack:
            for student in self._students:
                stack.enter_context(student)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def save(self, state: Together, rows: Sequence[Row]) -> None:
        """Starts to write the states after `len(rows)` epochs.

        Args:
          state: the states of all networks.
          rows: of `peer_row`, one for each epoch so far.

        Raises:
          InputError: the disk is full, at this write or at the one before it.
        """
        # Every student keeps two checkpoints, so one that all have survives if the last of all is complete.
        for student in self._students:
            student.wait()
        for index, (student, peer) in enumerate(zip(self._students, state.peers, strict=True)):
            student.save(peer, [row['peers'][index] for row in rows])

    def describe(self) -> str:
        """Returns a phrase that names the newest checkpoint of the first student."""
        return self._students[0].describe()

    def restore(self, state: Together) -> tuple[Together, list[Row]]:
        """Returns the states and the rows of the newest checkpoint that all students have.

        Without one, returns the argument and no rows. Newer checkpoints of some of the students are deleted.

        Args:
          state: states of the same structure.

        Raises:
          InputError: a checkpoint is of another network, of other data, or of a version that stored no rows.
        """
        epochs: int | None = None
        while True:
            restored = [
                student.restore(peer, at_most=epochs) for student, peer in zip(self._students, state.peers, strict=True)
            ]
            counts = [len(rows) for _, rows in restored]
            epochs = min(counts)
            if max(counts) == epochs:
                break
        (states, rows) = zip(*restored, strict=True)
        return state.with_peers(states), [peer_row(of_epoch) for of_epoch in zip(*rows, strict=True)]

"""Checkpoints of a network in training, written by Orbax beside the running steps, and read back.

A checkpoint holds three things: `variables`, the network that ships; `training`, everything else that a resumed run
needs; `meta`, what the network is. A teacher is restored from `variables` and `meta` alone.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from cckd_jax.errors import InputError
from cckd_jax.training.state import TrainState

_ITEMS = ('variables', 'training', 'meta')


class Checkpoints:
    """The checkpoints of one network, in `<folder>/checkpoints/<epochs done>`; the newest two are kept."""

    def __init__(self, folder: Path, meta: Mapping[str, Any]):
        self._folder = folder / 'checkpoints'
        self._meta = dict(meta)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(2), enable_async_checkpointing=True
        )
        self._manager = ocp.CheckpointManager(self._folder.absolute(), options=options, item_names=_ITEMS)

    def __enter__(self) -> 'Checkpoints':
        return self

    def __exit__(self, *error: object) -> None:
        self._manager.close()

    def save(self, epochs: int, state: TrainState) -> None:
        """Starts writing the state after that many epochs; an interrupted write leaves no checkpoint."""
        state = jax.device_get(state)
        self._manager.save(
            epochs,
            args=ocp.args.Composite(
                variables=ocp.args.StandardSave(state.student),
                training=ocp.args.StandardSave(_without_student(state)),
                meta=ocp.args.JsonSave({**self._meta, 'epochs': epochs}),
            ),
        )

    def describe(self) -> str:
        """Where the newest checkpoint is, in words."""
        self._manager.wait_until_finished()
        newest = self._manager.latest_step()
        if newest is None:
            return 'there is no checkpoint yet'
        return f'the last good checkpoint, after epoch {newest - 1}, is kept in {self._folder / str(newest)}'

    def restore(self, state: TrainState) -> tuple[int, TrainState]:
        """Returns the newest readable checkpoint as (epochs done, state), or (0, the given state).

        A damaged one is passed over with a line that says so, and removed, so that its epoch can be written again.
        """
        like = jax.tree.map(_abstract, {'variables': state.student, 'training': _without_student(state)})
        for epochs in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = self._manager.restore(
                    epochs,
                    args=ocp.args.Composite(**{name: ocp.args.StandardRestore(like[name]) for name in like}),
                )
            except Exception as error:  # Orbax, tensorstore and json each raise their own
                logging.warning(
                    'checkpoint %s cannot be read (%s); going back to the one before it',
                    self._folder / str(epochs),
                    type(error).__name__,
                )
                shutil.rmtree(self._folder / str(epochs), ignore_errors=True)
                self._manager.reload()
                continue
            return epochs, _with_student(state, found.variables, found.training)
        return 0, state


def load_network(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (meta, variables) of the newest readable checkpoint under `<folder>/checkpoints`.

    Raises:
      InputError: there is none.
    """
    path = folder / 'checkpoints'
    steps = [int(step.name) for step in path.glob('*') if step.name.isdecimal()]
    for epochs in sorted(steps, reverse=True):
        try:
            with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
                found = reader.restore(
                    (path / str(epochs)).absolute(),
                    args=ocp.args.Composite(variables=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore()),
                )
        except Exception as error:  # Orbax, tensorstore and json each raise their own
            logging.warning('checkpoint %s cannot be read (%s)', path / str(epochs), type(error).__name__)
            continue
        return dict(found.meta), jax.tree.map(np.asarray, found.variables)
    raise InputError(
        f'no readable checkpoint in {path}; name a folder that holds checkpoints/, such as RUN/teacher or RUN/student'
    )


def _abstract(leaf: Any) -> Any:
    return np.empty(leaf.shape, leaf.dtype)


def _without_student(state: TrainState) -> dict[str, Any]:
    return {
        'step': state.step,
        'epoch': state.epoch,
        'extra': {'params': state.params['extra'], 'batch_stats': state.batch_stats['extra']},
        'opt_state': state.opt_state,
        'participation': state.participation,
    }


def _with_student(state: TrainState, variables: Any, training: Any) -> TrainState:
    extra = training['extra']
    return state.replace(
        step=training['step'],
        epoch=training['epoch'],
        params={'student': variables['params'], 'extra': extra['params']},
        batch_stats={'student': variables.get('batch_stats', {}), 'extra': extra['batch_stats']},
        opt_state=training['opt_state'],
        participation=training['participation'],
    )

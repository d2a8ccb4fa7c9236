"""Checkpoints of a network in training, written by Orbax beside the running steps, and read back.

A checkpoint holds three things: `variables`, the network that ships; `training`, everything else that a resumed run
needs; `meta`, what the network is. A teacher is restored from `variables` and `meta` alone; how often each sample took
part in its training is in `training`.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from cckd_jax.console import say
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
        # Copies, because the next step is given these buffers while they are still being written.
        state = jax.tree.map(np.array, jax.device_get(state))
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

        A damaged one is passed over with a line that says so, and put aside, so that its epoch can be written again.

        Raises:
          InputError: the checkpoint is of another network, or of other data.
        """
        like = jax.tree.map(_abstract, {'variables': state.student, 'training': _without_student(state)})
        for epochs in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = self._manager.restore(
                    epochs,
                    args=ocp.args.Composite(
                        meta=ocp.args.JsonRestore(),
                        **{name: ocp.args.StandardRestore(like[name]) for name in like},
                    ),
                )
            except Exception as error:  # Orbax, tensorstore and json each raise their own
                self._put_aside(epochs, error)
                continue
            check_meta(found.meta, self._meta, self._folder)
            return epochs, _with_student(state, found.variables, found.training)
        return 0, state

    def _put_aside(self, epochs: int, error: Exception) -> None:
        step = self._folder / str(epochs)
        aside = self._folder.with_name(f'damaged_checkpoint_{epochs}_{time.time_ns()}')
        say(f'checkpoint {step} cannot be read ({type(error).__name__}); going back to the one before it')
        if step.exists():
            step.rename(aside)
        self._manager.reload()


def check_meta(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Raises InputError for a checkpoint that differs in one of the wanted facts."""
    for name, value in wanted.items():
        if found.get(name) != value:
            raise InputError(
                f'the checkpoint in {folder} has {name} {found.get(name)!r}, this run needs {value!r}; '
                'name another checkpoint or workdir, or set the config to match'
            )


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
            say(f'checkpoint {path / str(epochs)} cannot be read ({type(error).__name__}); trying the one before it')
            continue
        return dict(found.meta), jax.tree.map(np.asarray, found.variables)
    raise InputError(
        f'no readable checkpoint in {path}; name a folder that holds checkpoints/, such as RUN/teacher or RUN/student'
    )


def load_participation(folder: Path, epochs: int) -> np.ndarray:
    """Returns int32 `[N]`, how often each training example took part in the first `epochs` epochs.

    Raises:
      InputError: there is no readable checkpoint of that epoch under `<folder>/checkpoints`.
    """
    step = folder / 'checkpoints' / str(epochs)
    # Nothing else of the item is read: the optimizer's state is twice the size of the network.
    wanted = ocp.args.PyTreeRestore({'records': {'participation': 0}}, partial_restore=True)
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            found = reader.restore(step.absolute(), args=ocp.args.Composite(training=wanted))
    except Exception as error:  # Orbax, tensorstore and json each raise their own
        raise InputError(
            f'the participation counts of checkpoint {step} cannot be read ({type(error).__name__}); '
            'train the network again, or name another'
        ) from None
    return np.asarray(found.training['records']['participation'])


def _abstract(leaf: Any) -> Any:
    return np.empty(leaf.shape, leaf.dtype)


def _without_student(state: TrainState) -> dict[str, Any]:
    return {
        'step': state.step,
        'epoch': state.epoch,
        'extra': {'params': state.params['extra'], 'batch_stats': state.batch_stats['extra']},
        'opt_state': state.opt_state,
        'records': dict(state.records),
    }


def _with_student(state: TrainState, variables: Any, training: Any) -> TrainState:
    extra = training['extra']
    return state.replace(
        step=training['step'],
        epoch=training['epoch'],
        params={'student': variables['params'], 'extra': extra['params']},
        batch_stats={'student': variables.get('batch_stats', {}), 'extra': extra['batch_stats']},
        opt_state=training['opt_state'],
        records=training['records'],
    )

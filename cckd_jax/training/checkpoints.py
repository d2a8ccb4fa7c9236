"""Checkpoints of a network in training: Orbax writes them asynchronously, and training resumes from them.

A checkpoint has four items: `variables`, the network that ships; `training`, the rest of the training state; `meta`,
facts about the network and its training; `rows`, the metrics of each epoch so far. Weights and rows are one checkpoint,
so no crash can separate them. A teacher is restored from `variables` and `meta` alone.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from cckd_jax import io, models
from cckd_jax.console import log
from cckd_jax.errors import InputError
from cckd_jax.training.state import TrainState

_OVERHEAD = 2**20  # bytes, of the files that describe a checkpoint
_ITEMS = ('variables', 'training', 'meta', 'rows')
# Of several processes, process 0 alone reads and writes.
_PROCESS_0 = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})


class Checkpoints:
    """The checkpoints of one network, in `<folder>/checkpoints/<epochs>`; the newest two are kept.

    Args:
      folder: the folder of the network, such as RUN/student.
      meta: facts that a checkpoint must share to be resumed.

    Raises:
      InputError: the folder cannot be created.
    """

    def __init__(self, folder: Path, meta: Mapping[str, Any]):
        self._folder = folder / 'checkpoints'
        self._meta = dict(meta)
        # Orbax's threads keep the process alive if it fails to create the folder itself.
        with io.write_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(2),
            enable_async_checkpointing=True,
            create=False,
            multiprocessing_options=_PROCESS_0,
        )
        self._manager = ocp.CheckpointManager(self._folder.absolute(), options=options, item_names=_ITEMS)

    def __enter__(self) -> 'Checkpoints':
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(_without_tracebacks())
        return self

    def __exit__(self, *error: object) -> None:
        with self._quiet, io.write_errors(self._folder):
            self._manager.close()

    def save(self, state: TrainState, rows: Sequence[Mapping[str, Any]]) -> None:
        """Starts to write the state after `len(rows)` epochs; an interrupted write leaves no checkpoint.

        Args:
          state: the training state.
          rows: the metrics of each epoch so far.

        Raises:
          InputError: the disk is full, at this write or at the one before it.
        """
        # Copies, because the next step reuses these buffers while Orbax still writes them.
        state = jax.tree.map(np.array, jax.device_get(state))
        epochs = len(rows)
        with io.write_errors(self._folder):
            self._manager.wait_until_finished()
            io.check_free_space(self._folder, sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _OVERHEAD)
            self._manager.save(
                epochs,
                args=ocp.args.Composite(
                    variables=ocp.args.StandardSave(state.student),
                    training=ocp.args.StandardSave(_without_student(state)),
                    meta=ocp.args.JsonSave({**self._meta, 'epochs': epochs}),
                    rows=ocp.args.JsonSave(list(rows)),
                ),
            )

    def wait(self) -> None:
        """Waits until the last checkpoint is complete."""
        with io.write_errors(self._folder):
            self._manager.wait_until_finished()

    def describe(self) -> str:
        """Returns a phrase that names the newest checkpoint."""
        self.wait()
        newest = self._manager.latest_step()
        if newest is None:
            return 'there is no checkpoint yet'
        return f'the last good checkpoint, after epoch {newest - 1}, is kept in {self._folder / str(newest)}'

    def restore(self, state: TrainState, *, at_most: int | None = None) -> tuple[TrainState, list[dict[str, Any]]]:
        """Returns the state and the rows, one per epoch, of the newest readable checkpoint.

        Without one, returns the argument and no rows. A damaged checkpoint is moved aside with a message, so that its
        epoch can be written again.

        Args:
          state: a state of the same structure.
          at_most: epochs of the newest checkpoint that counts; newer ones are deleted. None: all count.

        Raises:
          InputError: the checkpoint is of another network, of other data, or of a version that stored no rows.
        """
        structure = jax.tree.map(_abstract, {'variables': state.student, 'training': _without_student(state)})
        for epochs in sorted(self._manager.all_steps(), reverse=True):
            path = self._folder / str(epochs)
            if at_most is not None and epochs > at_most:
                log(f'deleting checkpoint {path}: a network that trains together with this one has no such checkpoint')
                self._manager.delete(epochs)
                continue
            if (path / 'meta').is_dir() and not (path / 'rows').exists():
                raise InputError(
                    f'the checkpoint {path} has no rows: an earlier version wrote it; give another --workdir'
                )
            try:
                restored = self._manager.restore(
                    epochs,
                    args=ocp.args.Composite(
                        meta=ocp.args.JsonRestore(),
                        rows=ocp.args.JsonRestore(),
                        **{name: ocp.args.StandardRestore(structure[name]) for name in structure},
                    ),
                )
                _check_readable(restored.meta, epochs)
                check_meta(restored.meta, self._meta, self._folder)
                if [row['epoch'] for row in restored.rows] != list(range(epochs)):
                    raise ValueError('rows are missing')
                # Orbax restores an array in its saved shape, not in the requested one.
                if any(_shapes(restored[name]) != _shapes(structure[name]) for name in structure):
                    raise ValueError('shapes differ')
            except InputError:
                raise
            except Exception as error:  # Orbax, tensorstore and json each raise their own
                self._move_aside(epochs, error)
                continue
            return _with_student(state, restored.variables, restored.training), restored.rows
        return state, []

    def _move_aside(self, epochs: int, error: Exception) -> None:
        step = self._folder / str(epochs)
        aside = self._folder.with_name(f'damaged_checkpoint_{epochs}_{time.time_ns()}')
        log(f'checkpoint {step} cannot be read ({type(error).__name__}); going back to the one before it')
        if step.exists():
            step.rename(aside)
        self._manager.reload()


def check_meta(meta: Mapping[str, Any], expected: Mapping[str, Any], folder: Path) -> None:
    """Raises InputError if the metadata of a checkpoint differ in one of the expected facts."""
    for name, value in expected.items():
        if meta.get(name) != value:
            raise InputError(
                f'the checkpoint in {folder} has {name} {meta.get(name)!r}, this run needs {value!r}; '
                'name another checkpoint or workdir, or set the config to match'
            )


def check_variables(
    variables: Mapping[str, Any], module: nn.Module, image_shape: tuple[int, int, int], folder: Path
) -> None:
    """Raises InputError if the variables of a checkpoint do not have the names and shapes of the module's."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    expected = jax.eval_shape(lambda images: models.init(module, jax.random.key(0), images), images)
    (needed, present) = (
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (dict(expected), dict(variables))
    )
    for name in sorted(needed | present):
        if needed.get(name) != present.get(name):
            raise InputError(
                f'the checkpoint in {folder} is damaged: {name} has shape {present.get(name)}, '
                f'its network needs {needed.get(name)}; name another checkpoint'
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
            with ocp.Checkpointer(ocp.CompositeCheckpointHandler(), multiprocessing_options=_PROCESS_0) as reader:
                restored = reader.restore(
                    (path / str(epochs)).absolute(),
                    args=ocp.args.Composite(variables=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore()),
                )
            _check_readable(restored.meta, epochs)
            return dict(restored.meta), jax.tree.map(np.asarray, restored.variables)
        except Exception as error:  # Orbax, tensorstore and json each raise their own
            log(f'checkpoint {path / str(epochs)} cannot be read ({type(error).__name__}); trying the one before it')
    raise InputError(
        f'no readable checkpoint in {path}; name a folder that holds checkpoints/, such as RUN/teacher or RUN/student'
    )


def load_participation(folder: Path, epochs: int) -> np.ndarray:
    """Returns int32 `[N]`, how often each training example passed the gate in the first `epochs` epochs.

    Raises:
      InputError: there is no readable checkpoint of that epoch under `<folder>/checkpoints`.
    """
    step = folder / 'checkpoints' / str(epochs)
    # Reads one array only: the optimizer's state is twice the size of the network.
    item = ocp.args.PyTreeRestore({'records': {'participation': 0}}, partial_restore=True)
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler(), multiprocessing_options=_PROCESS_0) as reader:
            restored = reader.restore(step.absolute(), args=ocp.args.Composite(training=item))
        counts = np.asarray(restored.training['records']['participation'])
        # A partial restore returns the placeholder for an array that the checkpoint lacks.
        if counts.ndim != 1:
            raise ValueError('there is no array of that name')
    except Exception as error:  # Orbax, tensorstore and json each raise their own
        raise InputError(
            f'the participation counts of checkpoint {step} cannot be read ({type(error).__name__}); '
            'train the network again, or name another'
        ) from None
    return counts


@contextlib.contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Hides tracebacks of errors in the threads of Orbax and tensorstore, which Orbax raises again."""
    not_of_orbax = lambda record: 'orbax' not in record.pathname
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        # tensorstore finishes other writes after the first failed one has ended Orbax's event loop.
        if str(error) != 'Event loop is closed':
            before(kind, error, traceback)

    logging.getLogger('absl').addFilter(not_of_orbax)
    sys.excepthook = hook
    try:
        yield
    finally:
        sys.excepthook = before
        logging.getLogger('absl').removeFilter(not_of_orbax)


def _check_readable(meta: Any, epochs: int) -> None:
    if not isinstance(meta, dict) or meta.get('epochs') != epochs:
        raise ValueError('metadata are missing')


def _abstract(leaf: Any) -> Any:
    return np.empty(leaf.shape, leaf.dtype)


def _shapes(tree: Any) -> list[tuple[int, ...]]:
    return [np.shape(leaf) for leaf in jax.tree.leaves(tree)]


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

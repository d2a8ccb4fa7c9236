"""How processes find each other, and how all end when one of them does."""

import contextlib
import ctypes
import functools
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
from jax._src import distributed  # JAX has no public option for what happens when another process is dead

from cckd_jax import console, interrupt
from cckd_jax.errors import InputError
from cckd_jax.processes.exchange import tell

# A process counts as dead when the coordinator has not heard of it for so long.
_DEAD_SECONDS = 30
_JOIN_SECONDS = 300
# Of gloo, NCCL and the coordinator, about a process that ended or a host that cannot be reached.
_LOST = ('Gloo', 'NCCL', 'UNAVAILABLE', 'CoordinationService', 'coordination_service')

_ending = threading.Lock()
# The line and the exit status of a process that ends because another one did.
_last_words: dict[str, Any] = {
    'line': 'error: another process ended or cannot be reached; the same commands resume',
    'status': 1,
}


def start(coordinator: str, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes, before JAX computes anything.

    Args:
      coordinator: `HOST:PORT` of process 0, or `auto` to ask the cluster, such as Slurm or a TPU pod.
      num_processes: number of processes; None with `auto`.
      process_id: of this process, from 0; None with `auto`.

    Raises:
      InputError: there is no cluster to ask, or the processes do not find each other.
    """
    if process_id == 0 and coordinator != 'auto':
        _check_port(int(coordinator.rpartition(':')[2]))
    # The service would replace our handler of SIGTERM.
    jax.config.update('jax_enable_preemption_service', False)
    # The coordinator reports the end of a process in many lines, and `_end` in one.
    jax.config.update('jax_logging_level', 'CRITICAL')
    address = None if coordinator == 'auto' else coordinator
    errors: list[Exception] = []

    def join() -> None:
        try:
            with _ended_when_lost():
                jax.distributed.initialize(
                    address,
                    num_processes,
                    process_id,
                    initialization_timeout=_JOIN_SECONDS,
                    heartbeat_timeout_seconds=_DEAD_SECONDS,
                )
        except Exception as error:
            errors.append(error)

    # A thread, because Ctrl-C does not interrupt the call.
    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(2)
    if thread.is_alive():
        console.log(f'waiting for the other processes (--coordinator={coordinator}), at most {_JOIN_SECONDS} s')
    while thread.is_alive():
        thread.join(0.5)
    if errors:
        if coordinator == 'auto' and isinstance(errors[0], ValueError):
            raise InputError(
                'there is no cluster to ask for --coordinator=auto; start the processes with srun or on a TPU pod, or '
                'give --coordinator=HOST:PORT, --num_processes and --process_id'
            )
        raise InputError(
            f'the processes did not find each other within {_JOIN_SECONDS} s (--coordinator={coordinator}); start all '
            'of them with the same --coordinator and --num_processes, each with its own --process_id'
        )
    # Not `is_process_0`, which starts the devices.
    if distributed.global_state.process_id != 0:
        console.silence()


def run_together(run: Callable[[], int]) -> int:
    """Calls `run` so that all processes end if one fails: each with one line, and none waiting for the others.

    Args:
      run: prints its errors and returns the exit status.

    Returns:
      0. The process ends here with any other status, because JAX would wait for the other processes at exit.
    """
    try:
        status = run()
    except BaseException:
        traceback.print_exc()
        status = 1
    if status:
        _exit(status)
    return status


@contextlib.contextmanager
def failures_shared() -> Iterator[None]:
    """Tells the other processes the InputError that ends the block, and ends this process if another one ended."""
    try:
        yield
    except InputError as error:
        _last_words.update(line=f'error: {error}', status=2)
        tell(str(error))
        _take_the_end()
        raise
    except Exception as error:
        if interrupt.requested() or not _is_lost(error):
            raise
        _end()


def _is_lost(error: Exception) -> bool:
    return any(text in str(error) for text in _LOST)


def _end() -> NoReturn:
    """Ends this process with one line, after another one ended; called by the main thread or by one of JAX."""
    _take_the_end()
    os.write(2, f'{_last_words["line"]}\n'.encode())
    _exit(_last_words['status'])


def _take_the_end() -> None:
    """Returns in the first thread that ends the process; the others wait, so that one line is printed."""
    if not _ending.acquire(blocking=False):
        threading.Event().wait()


def _exit(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def _ended_when_lost() -> Iterator[None]:
    """Makes the client that JAX creates in the block end this process by `_end` when another process is dead.

    By default it prints a stack trace and aborts. It takes a callback, and jaxlib 0.10 and 0.12 fail to convert the
    argument of the callback, at which C++ terminates: hence the handler. Where libstdc++ is not what jaxlib uses, the
    process ends with C++'s own message.
    """
    create = distributed._jax.get_distributed_runtime_client
    distributed._jax.get_distributed_runtime_client = functools.partial(
        create, missed_heartbeat_callback=lambda *status: _end()
    )
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL('libstdc++.so.6')._ZSt13set_terminatePFvvE(_terminate)
    try:
        yield
    finally:
        distributed._jax.get_distributed_runtime_client = create


# A global, because C++ keeps the address.
_terminate = ctypes.CFUNCTYPE(None)(_end)


def _check_port(port: int) -> None:
    """Raises InputError if the port is in use, at which JAX's coordinator crashes or shares it."""
    try:
        socket.create_server(('', port)).close()
    except OSError as error:
        raise InputError(
            f'process 0 cannot listen on port {port} ({os.strerror(error.errno or 0)}); give all processes another '
            '--coordinator=HOST:PORT'
        ) from None

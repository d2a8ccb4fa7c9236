"""Values that processes send each other while they run the same program.

They travel through the key-value store of JAX's coordinator, which is part of process 0, so that the hosts need no
shared disk. They are pickled: like JAX itself, this expects a network whose machines trust each other.
"""

import contextlib
import itertools
import pickle
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
from jax._src import distributed  # JAX has no public name for the key-value store

from cckd_jax.errors import InputError
from cckd_jax.processes.devices import count, is_process_0

T = TypeVar('T')

_KEYS = 'cckd_jax'
_FAILED = f'{_KEYS}/failed'
_LEAVING = f'{_KEYS}/leaving'
_CHUNK_BYTES = 2**25
_POLL_SECONDS = 0.5
_LEAVE_SECONDS = 5.0
# All processes make the same calls in the same order, so that its number names a call.
_calls = itertools.count()


def from_process_0(compute: Callable[[], T]) -> T:
    """What `compute()` returns in process 0, which alone calls it; all processes wait for it.

    >>> from_process_0(lambda: 3)
    3
    """
    if count() == 1:
        return compute()
    key = f'{_KEYS}/{next(_calls)}'
    if is_process_0():
        value = compute()
        _send(key, value)
    else:
        value = _receive(key)
    gather(None)
    if is_process_0():
        # All have read it, and it may take as much memory as the state of a network.
        _client().key_value_delete(key)
    return value


def process_0_first(compute: Callable[[], T]) -> T:
    """What `compute()` returns in this process; process 0 calls it before the others, who find what it cached."""
    if count() == 1:
        return compute()
    if is_process_0():
        value = compute()
        gather(None)
        return value
    gather(None)
    return compute()


def gather(value: T) -> list[T]:
    """The value of each process, in the order of the processes.

    >>> gather('here')
    ['here']
    """
    if count() == 1:
        return [value]
    key = f'{_KEYS}/{next(_calls)}'
    _send(f'{key}/{jax.process_index()}', value)
    return [_receive(f'{key}/{process}') for process in range(count())]


def check_same(facts: Callable[[], Mapping[str, Any]]) -> None:
    """Raises InputError in all processes if a fact has another value in one of them.

    Args:
      facts: returns values by name; one process does not call it.
    """
    if count() == 1:
        return
    (first, *others) = gather(dict(facts()))
    for process, other in enumerate(others, start=1):
        for name in first | other:
            if first.get(name) != other.get(name):
                raise InputError(
                    f'process {process} has {name}={other.get(name)}, and process 0 has {name}={first.get(name)}; '
                    'start all processes with the same command, on the same data'
                )


def _client() -> Any:
    return distributed.global_state.client


def _send(key: str, value: Any) -> None:
    pickled = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    client = _client()
    starts = range(0, len(pickled), _CHUNK_BYTES)
    for index, start in enumerate(starts):
        client.key_value_set_bytes(f'{key}/chunk{index}', pickled[start : start + _CHUNK_BYTES])
    client.key_value_set_bytes(f'{key}/chunks', str(len(starts)).encode())


def _receive(key: str) -> Any:
    chunks = int(_wait_for(f'{key}/chunks'))
    return pickle.loads(b''.join(_wait_for(f'{key}/chunk{index}') for index in range(chunks)))


def _wait_for(key: str) -> bytes:
    client = _client()
    while True:
        # Short calls, because Ctrl-C does not interrupt them.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            return client.blocking_key_value_get_bytes(key, int(1000 * _POLL_SECONDS))
        failures = client.key_value_dir_get(_FAILED)
        if failures:
            ((name, reason), *_) = sorted(failures)
            raise InputError(f'process {name.rpartition("/")[2]}: {reason}')


def tell(reason: str) -> None:
    """Publishes why this process ends, and waits a few seconds until the others have read it."""
    client = _client()
    deadline = time.monotonic() + _LEAVE_SECONDS
    # Process 0 may have ended, and the store with it.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        if not client.key_value_dir_get(_FAILED):
            client.key_value_set(f'{_FAILED}/{jax.process_index()}', reason)
        client.key_value_set(f'{_LEAVING}/{jax.process_index()}', '')
        while len(client.key_value_dir_get(_LEAVING)) < count() and time.monotonic() < deadline:
            time.sleep(0.1)

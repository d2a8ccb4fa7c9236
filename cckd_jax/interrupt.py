"""Ctrl-C ends a command with one line, whatever the command is doing.

Python raises KeyboardInterrupt wherever the main thread happens to be. In an import it gives a traceback, or crashes a
half-initialised extension module. In a callback, such as a destructor or a garbage-collection hook, Python reports the
exception and continues. Some libraries turn it into an exception of their own. The handlers here cover these cases.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

MESSAGE = 'stopped; the same command resumes'
STATUS = 130
_GRACE_SECONDS = 10.0
_requested = threading.Event()


def exit_at_once() -> None:
    """Makes Ctrl-C end the process immediately: for imports and shutdown, when there is nothing to clean up."""
    _install(lambda signum, frame: _exit())


@contextlib.contextmanager
def raised(grace_seconds: float = _GRACE_SECONDS) -> Iterator[None]:
    """Makes Ctrl-C raise KeyboardInterrupt inside the block, and makes sure that the process ends.

    The block has `grace_seconds` to clean up. The process ends earlier after a second Ctrl-C, or if a callback swallows
    the exception. Outside the main thread, Python allows no handler and the block runs as it is.

    Args:
      grace_seconds: time between the signal and the forced end of the process, in seconds.
    """
    _requested.clear()
    deadline = threading.Timer(grace_seconds, _exit)
    deadline.daemon = True

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if _requested.is_set():
            _exit()
        _requested.set()
        deadline.start()
        raise KeyboardInterrupt

    previous_hook = sys.unraisablehook

    def report(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            _exit()
        previous_hook(unraisable)

    previous = _install(interrupt)
    sys.unraisablehook = report
    try:
        yield
    finally:
        deadline.cancel()
        sys.unraisablehook = previous_hook
        if previous is not None:
            signal.signal(signal.SIGINT, previous)


def requested() -> bool:
    """Whether Ctrl-C was pressed since the last block of `raised` began."""
    return _requested.is_set()


def _install(handler: Callable[[int, FrameType | None], Any]) -> Any:
    # A shell lets its background jobs ignore Ctrl-C.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        return signal.signal(signal.SIGINT, handler)
    return None


def _exit() -> None:
    # Not `sys.exit`, which raises an exception that a callback swallows as well.
    with contextlib.suppress(OSError):
        os.write(2, f'{MESSAGE}\n'.encode())
    os._exit(STATUS)

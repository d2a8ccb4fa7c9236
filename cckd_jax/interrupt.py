"""Ctrl-C ends a command with one line, whatever the command is doing; so does SIGTERM, which schedulers send.

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
_GRACE_SECONDS = 10.0
_received: list[int] = []


def exit_at_once() -> None:
    """Makes Ctrl-C end the process immediately: for imports and shutdown, when there is nothing to clean up."""
    _install(signal.SIGINT, lambda signum, frame: _exit())


@contextlib.contextmanager
def raised(grace_seconds: float = _GRACE_SECONDS) -> Iterator[None]:
    """Makes Ctrl-C and SIGTERM raise KeyboardInterrupt inside the block, and makes sure that the process ends.

    The block has `grace_seconds` to clean up. The process ends earlier after a second signal, or if a callback swallows
    the exception. Outside the main thread, Python allows no handler and the block runs as it is.

    Args:
      grace_seconds: time between the signal and the forced end of the process, in seconds.
    """
    _received.clear()
    deadline = threading.Timer(grace_seconds, _exit)
    deadline.daemon = True

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if _received:
            _exit()
        _received.append(signum)
        deadline.start()
        raise KeyboardInterrupt

    previous_hook = sys.unraisablehook

    def report(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            _exit()
        previous_hook(unraisable)

    previous = {number: _install(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    sys.unraisablehook = report
    try:
        yield
    finally:
        deadline.cancel()
        sys.unraisablehook = previous_hook
        for number, handler in previous.items():
            if handler is not None:
                signal.signal(number, handler)


def requested() -> bool:
    """Whether a signal arrived since the last block of `raised` began."""
    return bool(_received)


def status() -> int:
    """The exit status that shells expect after the first signal: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def _install(number: int, handler: Callable[[int, FrameType | None], Any]) -> Any:
    # A shell lets its background jobs ignore Ctrl-C.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(number) != signal.SIG_IGN:
        return signal.signal(number, handler)
    return None


def _exit() -> None:
    # Not `sys.exit`, which raises an exception that a callback swallows as well.
    with contextlib.suppress(OSError):
        os.write(2, f'{MESSAGE}\n'.encode())
    os._exit(status())

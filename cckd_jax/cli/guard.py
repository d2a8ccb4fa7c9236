"""What surrounds every command: quiet libraries, a compilation cache, and errors in one line on stderr."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from ml_collections import ConfigDict

from cckd_jax import interrupt
from cckd_jax.cli import config_flags
from cckd_jax.cli.cluster_flags import Cluster
from cckd_jax.errors import InputError


def main(run: Callable[[ConfigDict, str], object], usage: str, arguments: Sequence[str] | None = None) -> int:
    """Parses the command line, calls `run(config, workdir)`, and returns the exit status.

    Args:
      run: trains or evaluates with the config. Its own imports come first, then a block of `interrupt.raised`.
      usage: printed by --help.
      arguments: the command line with the program's name first; `sys.argv` when None.

    Returns:
      0; or 2 after one line on stderr for bad input. See `one_line_errors` for the others.
    """
    arguments = list(sys.argv if arguments is None else arguments)

    def parse_and_run() -> None:
        if config_flags.asks_for_help(arguments):
            print_text(usage.strip())
            return
        (config, workdir, cluster) = config_flags.parse_run(arguments)
        _prepare_jax()
        if cluster is None:
            check_devices()
            run(config, workdir)
        else:
            _run_with_others(cluster, lambda: run(config, workdir))

    return one_line_errors(parse_and_run)


def _run_with_others(cluster: Cluster, run: Callable[[], object]) -> None:
    from cckd_jax import processes  # imports JAX

    def join_and_run() -> None:
        processes.start(cluster.coordinator, cluster.num_processes, cluster.process_id)
        with processes.failures_shared():
            check_devices()
            run()

    processes.run_together(lambda: one_line_errors(join_and_run))


def guarded(run: Callable[[], object]) -> int:
    """Calls `run` with quiet libraries and a compilation cache; returns the exit status, as `one_line_errors` does."""

    def prepare_and_run() -> None:
        _prepare_jax()
        with interrupt.raised():
            run()

    return one_line_errors(prepare_and_run)


def one_line_errors(run: Callable[[], object]) -> int:
    """Calls `run`, and prints bad input, exhausted memory or disks, Ctrl-C and SIGTERM as one line on stderr.

    Returns:
      0; 1 if memory or disk space is exhausted; 2 for bad input; 130 after Ctrl-C, 143 after SIGTERM. Any other
      exception is raised.
    """
    _open_standard_streams()
    try:
        with _quiet_native_callbacks():
            _append_current_folder()
            run()
    except InputError as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        return _stop()
    except Exception as error:
        if interrupt.requested():
            return _stop()
        reason = exhausted(error)
        if reason is None:
            raise
        return _fail(reason, 1)
    return 0


def print_text(text: str) -> None:
    """Prints on stdout. A reader that closes the pipe early, such as `head`, causes no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_devices() -> None:
    """Raises InputError if JAX cannot start on the requested platform."""
    import jax  # takes a second, and a command that computes nothing does without

    try:
        jax.local_devices()
    except (AssertionError, RuntimeError) as error:
        platforms = jax.config.values['jax_platforms'] or ''
        raise InputError(
            f'JAX cannot start with JAX_PLATFORMS={platforms}: {config_flags.one_line(error)}; '
            "unset JAX_PLATFORMS to use what this machine has, or install the platform, such as pip install 'jax[cuda]'"
        ) from None


def exhausted(error: BaseException) -> str | None:
    """Returns one line if an exception, or one that it comes from, says that memory or disk space is exhausted."""
    for cause in _causes(error):
        text = config_flags.one_line(cause)
        if 'No space left on device' in text or 'Disk quota exceeded' in text:
            return 'disk full: free some space; the same command resumes'
        if isinstance(cause, MemoryError) or ('RESOURCE_EXHAUSTED' in text and _is_from_jax(cause)):
            return (
                'out of memory: lower --config.batch_size, or choose narrower networks (options.width in the config '
                f'file); the same command resumes ({text[:150]})'
            )
    return None


def _is_from_jax(error: BaseException) -> bool:
    # By name, so that a command that computes nothing does not import JAX.
    return type(error).__name__ == 'JaxRuntimeError'


def _causes(error: BaseException) -> Iterator[BaseException]:
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        cause = pending.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        pending += [cause.__cause__, cause.__context__, *getattr(cause, 'exceptions', ())]


def _stop() -> int:
    print(interrupt.MESSAGE, file=sys.stderr)
    return interrupt.status()


def _fail(reason: object, status: int) -> int:
    print(f'error: {reason}', file=sys.stderr)
    return status


@contextlib.contextmanager
def _quiet_native_callbacks() -> Iterator[None]:
    """Drops the traceback that TensorStore prints for every pending write after a failed one.

    Callbacks from C++ report to the hooks of `sys`. An exception of the command itself leaves the block before that.
    """
    (previous, unraisable) = (sys.excepthook, sys.unraisablehook)
    (sys.excepthook, sys.unraisablehook) = (lambda *error: None, _report_unraisable)
    try:
        yield
    finally:
        sys.excepthook = previous
        # Pending writes can end after the command.
        if unraisable is not sys.__unraisablehook__:
            sys.unraisablehook = unraisable


def _report_unraisable(unraisable: 'sys.UnraisableHookArgs') -> None:
    """Reports an exception as Python does, unless it is that of a pending write of TensorStore."""
    if str(unraisable.exc_value) != 'Event loop is closed':
        sys.__unraisablehook__(unraisable)


def _append_current_folder() -> None:
    """Lets users import their own networks and data; last, so that a file named like a library does not replace it."""
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        raise InputError('the current folder was deleted; change to another one') from None
    if folder not in sys.path:
        sys.path.append(folder)


def _prepare_jax() -> None:
    # Commands that compute nothing do without JAX, which these import.
    from absl import logging

    from cckd_jax import cache, cpu

    # Orbax logs the traceback of every failed write and then raises the same exception.
    logging.set_verbosity(logging.FATAL)
    cpu.tune()
    cache.keep_compiled_programs()


def _open_standard_streams() -> None:
    """Opens the null device for a closed stdout or stderr, because the next file would get its descriptor."""
    for descriptor, name in ((1, 'stdout'), (2, 'stderr')):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                setattr(sys, name, os.fdopen(descriptor, 'w', closefd=False))

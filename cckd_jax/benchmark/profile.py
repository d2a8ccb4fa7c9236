"""Where the time of a program goes, from a trace of `jax.profiler`."""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

# Kinds of operations by what the names of kernels and of HLO operations contain; the first that fits counts.
_KINDS: Mapping[str, re.Pattern[str]] = {
    'convolution': re.compile('conv(?!ert)|cudnn|dgrad|wgrad|fprop'),
    'matrix product': re.compile('dot|gemm|cublas|cutlass|matmul'),
    'collective': re.compile('all-reduce|all-gather|nccl'),
    'copy': re.compile('copy|memcpy|memset|transpose|gather|scatter|slice'),
}
_OTHERS = 'elementwise and reductions'
# These contain other operations, which count themselves.
_CONTAINERS = re.compile(r'(while|call|conditional)[.\d]*')
_LONGEST = 10
# Below this share of busy time, launches and the host limit a program.
_BUSY = 0.5


class Operation(NamedTuple):
    """One execution of an operation, in seconds of the trace."""

    name: str
    start: float
    end: float


def profiled(work: Callable[[], None], folder: Path) -> dict[str, Any]:
    """Traces work and returns its seconds, the share of busy time, and the seconds by kind of operation."""
    with jax.profiler.trace(str(folder)):
        started = time.perf_counter()
        work()
        seconds = time.perf_counter() - started
    trace = max(folder.rglob('*.xplane.pb'), key=lambda path: path.stat().st_mtime)
    return {'seconds': seconds, **summary(list(_operations(trace)), seconds)}


def summary(operations: Iterable[Operation], seconds: float) -> dict[str, Any]:
    """Sums operations of a trace and names what limits them.

    >>> summary([Operation('dot.3', 0.0, 0.6), Operation('add_fusion', 0.5, 0.8)], 1.0)['limit']
    'matrix product'
    """
    operations = [operation for operation in operations if not _CONTAINERS.fullmatch(operation.name)]
    by_kind: dict[str, float] = defaultdict(float)
    by_name: dict[str, float] = defaultdict(float)
    for name, start, end in operations:
        by_kind[_kind(name)] += end - start
        by_name[name] += end - start
    busy = _length_of_union(operations) / seconds
    kinds = _longest_first(by_kind)
    limit = next(iter(kinds)) if kinds and busy >= _BUSY else 'launches and the host'
    return {
        'limit': limit,
        'busy_share': busy,
        'seconds_by_kind': kinds,
        'longest': dict(list(_longest_first(by_name).items())[:_LONGEST]),
    }


def _longest_first(seconds: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _operations(trace: Path) -> Iterable[Operation]:
    for plane in jax.profiler.ProfileData.from_file(str(trace)).planes:
        for line in plane.lines:
            for event in line.events:
                operation = dict(event.stats).get('hlo_op')
                if operation is not None:
                    start = event.start_ns / 1e9
                    # The kernel of a GPU says more than its operation, such as `custom-call.3`.
                    name = event.name if event.name == operation else f'{operation} {event.name}'
                    yield Operation(name, start, start + event.duration_ns / 1e9)


def _kind(name: str) -> str:
    return next((kind for kind, pattern in _KINDS.items() if pattern.search(name)), _OTHERS)


def _length_of_union(operations: Iterable[Operation]) -> float:
    (length, end) = (0.0, float('-inf'))
    for operation in sorted(operations, key=lambda operation: operation.start):
        length += max(0.0, operation.end - max(operation.start, end))
        end = max(end, operation.end)
    return length

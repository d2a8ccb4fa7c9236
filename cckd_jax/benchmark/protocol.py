"""The protocol of a measuring process: one JSON object per line, so that processes can take turns.

It imports only the standard library, because a peer serves the same protocol.
"""

import json
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Job = Callable[..., Iterator[dict[str, Any]]]


def serve(jobs: Mapping[str, Job]) -> None:
    """Answers requests on stdin until it closes.

    `{"open": NAME, ...}` starts the job of that name with the other fields as arguments. `{"next": true}` repeats its
    work and answers with the measurements.
    """
    answers = sys.stdout
    sys.stdout = sys.stderr  # Libraries must not print into the answers.
    running: Iterator[dict[str, Any]] = iter(())
    for line in sys.stdin:
        request = json.loads(line)
        if 'open' in request:
            running = jobs[request.pop('open')](**request)
            answer = {}
        else:
            answer = next(running)
        print(json.dumps(answer), file=answers, flush=True)


def peak_bytes() -> int:
    """Returns the peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)

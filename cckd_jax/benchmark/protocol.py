"""How a measuring process is spoken to: one JSON object a line, so that two can take turns on a quiet machine.

Only the standard library is imported, because the peer serves the same protocol.
"""

import json
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Job = Callable[..., Iterator[dict[str, Any]]]


def serve(jobs: Mapping[str, Job]) -> None:
    """Answers requests on stdin until it closes.

    `{"open": NAME, ...}` starts the job of that name with the other fields; `{"next": true}` has it do its work once
    more and answers with what it measured.
    """
    answers = sys.stdout
    sys.stdout = sys.stderr  # What libraries print is no answer.
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
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)

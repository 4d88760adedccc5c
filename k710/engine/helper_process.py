"""The loop of a helper process: it reads a job a line, as JSON, and writes an answer a line.

Hostile bytes may crash a decoder or hang it. Then only this process dies, and the run goes on with a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

MEMORY_BYTES = 8 << 30  # of address space; a clip needs a hundredth of it
READY = "ready"  # the first line, once everything is loaded
GRACE_S = 30  # beyond a job's own time limit


def serve(load: Callable[[], Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """Answer jobs until stdin ends, as it does when the run that started this process is gone; then end the process.

    `load` imports what the jobs need and returns the function from a job to its answer, both plain data.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which lets clips in flight finish
    _limit_resources()
    # Answers go to the descriptor that was stdout; whatever a library prints does not mix with them.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    answer_of = load()
    answers.write(f"{READY}\n")
    answers.flush()
    for line in sys.stdin:
        job = json.loads(line)
        # The default action of SIGALRM ends the process even inside a decoder that never returns.
        signal.alarm(int(job["limit_s"]) + GRACE_S)
        answer = answer_of(job)
        signal.alarm(0)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    sys.stderr.flush()
    os._exit(0)  # the usual end takes down libraries for some 50 ms


def _limit_resources() -> None:
    for kind, limit in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # a lower hard limit is fine
            resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))

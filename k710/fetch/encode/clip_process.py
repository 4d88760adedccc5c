"""The process that touches media: reads a ClipJob a line, writes what came of it a line. `python -m` starts it.

Hostile bytes may crash a decoder or hang it; then this process dies alone, and the run goes on with a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEMORY_BYTES = 8 << 30  # of address space; a clip needs a hundredth of it
READY = "ready"  # the first line, once everything is loaded
GRACE_S = 30  # beyond the limit of ffmpeg, for probing and checking


def main() -> None:
    """Make clips and check them until stdin ends."""

    def load() -> Callable[[dict[str, Any]], dict[str, Any]]:
        from k710.fetch.encode.jobs import CheckJob, ClipJob
        from k710.fetch.encode.make_clip import check_clip, make_clip

        def answer(plain: dict[str, Any]) -> dict[str, Any]:
            if "check" in plain:
                return check_clip(CheckJob(plain["clip_id"], Path(plain["check"]))).as_json()
            return make_clip(ClipJob.from_json(plain)).as_json()

        return answer

    serve(load)


def serve(load: Callable[[], Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """Answer jobs until stdin ends, as it does when the run that started this is gone. `load` imports what it takes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which lets clips in flight finish
    _limit_resources()
    # Replies go to the descriptor that was stdout; whatever a library prints does not mix with them.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    answer = load()
    replies.write(f"{READY}\n")
    replies.flush()
    for line in sys.stdin:
        plain = json.loads(line)
        # The default action of SIGALRM ends the process even inside a decoder that never returns.
        signal.alarm(int(plain["limit_s"]) + GRACE_S)
        made = answer(plain)
        signal.alarm(0)
        replies.write(json.dumps(made) + "\n")
        replies.flush()


def _limit_resources() -> None:
    for kind, limit in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # a lower hard limit is fine
            resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))


if __name__ == "__main__":
    main()

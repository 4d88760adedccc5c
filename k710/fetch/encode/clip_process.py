"""The process that makes and checks clips: ClipJob or CheckJob in, Made out. `python -m` starts it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from k710.engine.helper_process import serve


def main() -> None:
    """Make clips and check them until stdin ends."""
    serve(_load)


def _load() -> Callable[[dict[str, Any]], dict[str, Any]]:
    from k710.fetch.encode.jobs import CheckJob, ClipJob
    from k710.fetch.encode.make_clip import check_clip, make_clip

    def answer_of(job: dict[str, Any]) -> dict[str, Any]:
        if "check" in job:
            return check_clip(CheckJob(job["clip_id"], Path(job["check"]), job["limit_s"])).as_json()
        return make_clip(ClipJob.from_json(job)).as_json()

    return answer_of


if __name__ == "__main__":
    main()

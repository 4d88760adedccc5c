"""The k710 runs that a checkpoint comes from, as it records them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MOST_RUNS = 20  # of one checkpoint, whatever a forged record says


def runs_of(record: Any) -> Iterator[dict[str, Any]]:
    """The records of the runs that a checkpoint comes from: its own, then that of the checkpoint it started from, and
    so on, as far as they are recorded."""
    for _ in range(_MOST_RUNS):
        if not isinstance(record, dict):
            return
        yield record
        start = record.get("start")
        record = start.get("run") if isinstance(start, dict) else None

"""Doubtful labels as a CSV file for review."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from k710.doubts.find import Doubts
from k710.storage.storage import replacing

COLUMNS = ("clip_id", "split", "label", "suggested", "kinds", "margin", "witnesses", "verdict")


def write_review(path: Path, doubts: Doubts) -> None:
    """Write a row for every doubtful clip, the most doubtful first, whole or not at all. `verdict` is left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for doubt in doubts.found:
        told = "; ".join(f"{witness.by}: {witness.label}" for witness in doubt.witnesses)
        cells = (doubt.clip_id, doubt.split or "", doubt.label, "; ".join(doubt.suggested), "; ".join(doubt.kinds))
        writer.writerow((*cells, f"{doubt.margin:.4f}", told, ""))
    with replacing(path) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))

"""A reviewed file of doubtful labels → a new version of the manifest without the clips that the reviewer drops."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import pyarrow.compute as pc

from k710.curation.leave_out import check_current, without, write_version
from k710.doubts.write import COLUMNS
from k710.errors import ListError
from k710.manifest.read import Manifest
from k710.manifest.schema import DOUBTFUL_LABEL, content_hash

DROP, KEEP = "drop", "keep"


def apply_review(manifest: Manifest, path: Path) -> tuple[Manifest | None, int]:
    """Write a version of the manifest without the train clips whose `verdict` is `drop`; returns it, and their number.

    Clips that an earlier review dropped and this one does not are put back, so the result depends on this file alone.
    None where nothing changes. Raises ListError for a file that is no review, a verdict other than `drop` or `keep`, a
    clip that is not in train, and a label that the manifest no longer has; UsageError for an earlier version.
    """
    check_current(manifest)
    content = path.read_bytes()
    drops = _dropped(manifest, path, content)
    clips = without(manifest.clips, dict.fromkeys(drops), DOUBTFUL_LABEL)
    if content_hash(clips) == manifest.content_hash:
        return None, len(drops)
    record = {"dropped": len(drops), "review_sha256": hashlib.sha256(content).hexdigest()} if drops else None
    return write_version(manifest, clips, DOUBTFUL_LABEL, ("doubtful_labels", record)), len(drops)


def _dropped(manifest: Manifest, path: Path, content: bytes) -> list[str]:
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        columns = rows.fieldnames or ()
    except UnicodeDecodeError as error:
        raise ListError(f"{path}: not UTF-8: {error.reason} at byte {error.start:,}") from None
    if missing := [name for name in ("clip_id", "label", "verdict") if name not in columns]:
        raise ListError(f"{path}: no column {missing[0]}; `k710 doubts --csv` writes {', '.join(COLUMNS)}")
    found: dict[str, str] = {}
    for row in rows:
        clip_id, where = row["clip_id"], f"{path}: line {rows.line_num}"
        verdict = (row["verdict"] or "").strip().lower()
        if verdict not in ("", KEEP, DROP):
            raise ListError(f"{where}: verdict {row['verdict']!r}: want {DROP}, {KEEP} or nothing")
        if found.setdefault(clip_id, verdict) != verdict:
            raise ListError(f"{where}: clip {clip_id!r} has another verdict above")
        if verdict == DROP:
            _check_clip(manifest, where, clip_id, row["label"] or "")
    return sorted(clip_id for clip_id, verdict in found.items() if verdict == DROP)


def _check_clip(manifest: Manifest, where: str, clip_id: str, label: str) -> None:
    clips = manifest.clips
    place = pc.index(clips["clip_id"], clip_id).as_py()
    if place < 0:
        raise ListError(f"{where}: no clip {clip_id!r} in {manifest.path}")
    split, reason, known = (clips[name][place].as_py() for name in ("split", "drop_reason", "label"))
    if known != label:
        raise ListError(f"{where}: clip {clip_id!r} is labelled {known!r} now, not {label!r}; review it anew")
    if split != "train" and reason != DOUBTFUL_LABEL:
        where_it_is = f"in {split}" if split else f"left out ({reason})"
        raise ListError(f"{where}: clip {clip_id!r} is {where_it_is}; only train clips are dropped, a benchmark stays")

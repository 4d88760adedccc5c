"""The lists of ActivityNet and HACS: untrimmed videos with labelled segments, and HACS's clips of two seconds.

Two views are made of a list of segments: the segments, each a clip, and the videos, each whole with the label of its
first segment. Neither data set publishes an order of its classes; here they are sorted by name.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from k710.errors import ListError
from k710.lists.annotation_rows import BadRow, quoted
from k710.lists.own_rows import RawList, RawRow
from k710.lists.published.files import Rows, View, file_in, json_of, text_of
from k710.sources.source import SPLIT_SPELLINGS

# Segments of no length, or of less than a millisecond: 0.3 % of ActivityNet's, by its maintainers.
_MALFORMED_SHARE = 0.01


def activitynet(folder: Path) -> dict[str, View]:
    """`activity_net.v1-3.min.json`. Its test videos have no annotations."""
    return _of_segments("activitynet", file_in(folder, "activity_net.v1-3.min.json"))


def hacs(folder: Path) -> dict[str, View]:
    """`HACS_segments_v1.1.1.json`, of the same form."""
    return _of_segments("hacs", file_in(folder, "HACS_segments_v1.1.1.json"))


def hacs_clips(folder: Path) -> dict[str, View]:
    """`HACS_clips_v1.1.1.csv`: `classname,youtube_id,subset,start,end,label`. A label of 1 says that the clip shows the
    class, -1 that it does not; the latter are no examples of any class, and are left out."""
    path = file_in(folder, "HACS_clips_v1.1.1.csv")
    reader = csv.DictReader(io.StringIO(text_of(path)))
    if missing := {"classname", "youtube_id", "subset", "start", "end", "label"} - set(reader.fieldnames or ()):
        raise ListError(f"{path}: line 1: no column {', '.join(sorted(missing))}")
    rows: dict[str, Rows] = {}
    for row in reader:
        split = SPLIT_SPELLINGS.get((row["subset"] or "").lower())
        if split is None or row["label"] not in ("1", "-1", "1.0", "-1.0"):
            where = f"{path}: line {reader.line_num}"
            raise ListError(f"{where}: subset {row['subset']!r}, label {row['label']!r}; want a split, and 1 or -1")
        if not row["label"].startswith("-"):
            times = (row["start"] or "", row["end"] or "")
            rows.setdefault(split, []).append(
                RawRow(reader.line_num, row["youtube_id"] or "", row["classname"] or "", times)
            )
    return {"hacs_clips": _view(path, rows)}


def _of_segments(name: str, path: Path) -> dict[str, View]:
    content = json_of(path)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        raise ListError(f"{path}: no `database` of videos by their IDs")
    segments: dict[str, Rows] = {}
    videos: dict[str, Rows] = {}
    for number, (video, entry) in enumerate(database.items(), 1):
        subset = entry.get("subset") if isinstance(entry, dict) else None
        split = SPLIT_SPELLINGS.get(subset.lower()) if isinstance(subset, str) else None
        if split is None:
            raise ListError(f"{path}: entry {number}, {quoted(video)}: subset {subset!r} is no split")
        rows = [_segment(number, video, one) for one in entry.get("annotations") or ()]
        labels = [row.label for row in rows if isinstance(row, RawRow)]
        if labels or split == "test":
            videos.setdefault(split, []).append(RawRow(number, video, labels[0] if labels else ""))
        segments.setdefault(split, []).extend(rows)
        if not rows and split != "test":
            videos.setdefault(split, []).append(BadRow(number, f"entry {quoted(video)}: no annotations"))
    return {name: _view(path, segments), f"{name}_videos": _view(path, videos)}


def _segment(number: int, video: str, annotation: Any) -> RawRow | BadRow:
    segment = annotation.get("segment") if isinstance(annotation, dict) else None
    label = annotation.get("label") if isinstance(annotation, dict) else None
    if not (isinstance(segment, list) and len(segment) == 2 and isinstance(label, str)):
        return BadRow(number, f"entry {quoted(video)}: an annotation without a segment of two times and a label")
    return RawRow(number, video, label, (str(segment[0]), str(segment[1])))


def _view(path: Path, rows: Mapping[str, Rows]) -> View:
    found = {row.label for of_split in rows.values() for row in of_split if isinstance(row, RawRow) and row.label}
    lists = {split: RawList(path, of_split) for split, of_split in rows.items() if of_split}
    return View(lists, tuple(sorted(found)), path, _MALFORMED_SHARE)

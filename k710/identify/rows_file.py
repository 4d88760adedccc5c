"""Every row of what was identified as a table, with the clips that are missing behind them; written as they come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from k710.curation.overlap import List
from k710.identify.batch import Batch
from k710.identify.keys import Clips, clip_names, ids_of
from k710.identify.recognise import Unclear
from k710.identify.reference import Index, Presence, Reference, present
from k710.storage.storage import replacing

# `named` without a reference. `no_span`: a video of the reference without a span. `missing`: a clip of the list that
# the thing is of and that none of its rows names.
SAME, OTHER_SPAN, NO_SPAN, UNKNOWN, NAMED, MISSING = (
    "same_clip", "other_span", "no_span", "unknown", "named", "missing"
)  # fmt: skip
UNNAMED, AMBIGUOUS, BAD_TIMES = "unnamed", "ambiguous", "bad_times"
SCHEMA = pa.schema(
    [
        *(("thing", pa.string()), ("file", pa.string()), ("line", pa.int64())),
        *(("clip_id", pa.string()), ("youtube_id", pa.string()), ("status", pa.string())),
        *(("lists", pa.string()), ("lists_of_video", pa.string()), ("text", pa.string())),
    ]
)
_MISSING_AT_ONCE = 1 << 17


class RowsFile:
    """An open table with SCHEMA. `lists` are those that hold the clip, `lists_of_video` those that hold any clip of its
    video, joined by semicolons; `text` is what a row says that names no clip, or several."""

    def __init__(self, write: Any, reference: Reference | None) -> None:
        self._write, self._reference = write, reference
        self._presence = reference.video_presence() if reference else np.zeros(0, np.uint64)
        self._names: dict[int, str] = {}

    def add(self, thing: str, batch: Batch) -> None:
        """Write the rows of a batch."""
        if len(batch.clips):
            self._write(self._table(thing, batch.file, batch.line, batch.clips))
        if batch.unclear:
            self._write(_unclear_table(thing, batch.file, batch.unclear))

    def add_missing(self, thing: str, name: List, seen: npt.NDArray[np.bool_], *, by_video: bool) -> None:
        """Write those clips of a list of the reference that were not `seen`: (clips,), or (videos,) if `by_video`."""
        reference = self._reference
        assert reference is not None
        if by_video:
            seen = seen[reference.video_of_clip()]
        index = np.flatnonzero((reference.presence & reference.bit(name) != 0) & ~seen)
        for start in range(0, len(index), _MISSING_AT_ONCE):
            clips = reference.clips_at(index[start : start + _MISSING_AT_ONCE])
            self._write(self._table(thing, "", None, clips, status=MISSING))

    def _table(self, thing: str, file: str, line: Index | None, clips: Clips, status: str = "") -> pa.Table:
        count = len(clips)
        if self._reference is None:
            statuses, lists, of_video = pa.array([NAMED] * count), [""] * count, [""] * count
        else:
            videos = self._reference.find_videos(clips)
            index = self._reference.find_clips(clips, videos)
            kinds = np.select(
                [videos < 0, index >= 0, ~clips.has_span], [UNKNOWN, SAME, NO_SPAN], default=OTHER_SPAN
            ).tolist()
            statuses = pa.array([status] * count if status else kinds, pa.string())
            lists = self._named(present(self._reference.presence, index))
            of_video = self._named(present(self._presence, videos))
        columns = {
            "thing": pa.array([thing] * count, pa.string()),
            "file": pa.array([file] * count, pa.string()),
            "line": pa.nulls(count, pa.int64()) if line is None else pa.array(line),
            "clip_id": clip_names(clips),
            "youtube_id": ids_of(clips.key, clips.tail),
            "status": statuses,
            "lists": pa.array(lists, pa.string()),
            "lists_of_video": pa.array(of_video, pa.string()),
            "text": pa.array([""] * count, pa.string()),
        }
        return pa.table(columns, schema=SCHEMA)

    def _named(self, masks: Presence) -> list[str]:
        assert self._reference is not None
        for mask in np.unique(masks).tolist():
            if mask not in self._names:
                lists = (" ".join(name) for bit, name in enumerate(self._reference.lists) if mask >> bit & 1)
                self._names[mask] = ";".join(lists)
        return [self._names[mask] for mask in masks.tolist()]


def _unclear_table(thing: str, file: str, unclear: tuple[Unclear, ...]) -> pa.Table:
    rows = [
        {
            "thing": thing, "file": file, "line": one.row, "clip_id": "", "youtube_id": "",
            "status": BAD_TIMES if one.why else AMBIGUOUS if one.candidates else UNNAMED,
            "lists": "", "lists_of_video": "",
            "text": one.text.encode("utf-8", "replace").decode(),
        }
        for one in unclear
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@contextlib.contextmanager
def rows_file(path: Path, reference: Reference | None) -> Iterator[RowsFile]:
    """A table to write rows into: CSV or Parquet by its suffix, written whole or not at all. `check_table_file` is the
    caller's."""
    with replacing(path) as file:
        if path.suffix == ".csv":
            with pa.csv.CSVWriter(file, SCHEMA) as writer:
                yield RowsFile(writer.write_table, reference)
        else:
            with pa.parquet.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
                yield RowsFile(writer.write_table, reference)

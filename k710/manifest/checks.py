"""Checks of a clips table's rows: its IDs must name clips, and its class IDs must be classes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from k710.lists.labels import class_names
from k710.manifest.listings import class_id_name
from k710.sources.known import VIEWS
from k710.sources.source import YOUTUBE_ID

_CLIP_ID = f"^{YOUTUBE_ID}_[0-9]{{6}}_[0-9]{{6}}$"
_ID_SIZE, _START, _END = 11, (12, 18), (19, 25)  # of the parts of a clip_id


def table_problem(clips: pa.Table) -> str | None:
    """What is wrong with the columns that are there of a clips table, naming row, column and value; None for nothing.

    The row counts from 0. A clip_id has the form ID_start_end, is the ID and the span of its row, and follows the one
    before it; a class_id is one of its label set.
    """
    there = set(clips.column_names)
    if "clip_id" in there and (problem := _clip_id_problem(clips["clip_id"])):
        return problem
    if there >= {"clip_id", "youtube_id", "time_start_s", "time_end_s"} and (problem := _span_problem(clips)):
        return problem
    for view in VIEWS:
        column = class_id_name(view)
        if column not in there:
            continue
        num_classes = len(class_names(view))
        outside = pc.or_(pc.less(clips[column], 0), pc.greater_equal(clips[column], num_classes))
        if (row := _first(outside)) is not None:
            return f"row {row}: {column} {clips[column][row]} is no class of {view}, which has 0 to {num_classes - 1}"
    return None


def _clip_id_problem(ids: pa.ChunkedArray) -> str | None:
    if (row := _first(pc.invert(pc.match_substring_regex(pc.fill_null(ids, ""), _CLIP_ID)))) is not None:
        return (
            f"row {row}: clip_id {ids[row].as_py()!r} names no clip; want a YouTube ID of 11 characters, the start and "
            "the end in seconds with six digits each, joined by _"
        )
    one = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    if (row := _first(pc.less_equal(one[1:], one[:-1]))) is not None:
        return f"row {row + 1}: clip_id {one[row + 1]} comes after {one[row]}; want each once, in order"
    return None


def _span_problem(clips: pa.Table) -> str | None:
    ids = clips["clip_id"]
    parts = {
        "youtube_id": pc.utf8_slice_codeunits(ids, 0, _ID_SIZE),
        "time_start_s": pc.utf8_slice_codeunits(ids, *_START).cast(pa.int32()),
        "time_end_s": pc.utf8_slice_codeunits(ids, *_END).cast(pa.int32()),
    }
    for column, expected in parts.items():
        if (row := _first(pc.fill_null(pc.not_equal(clips[column], expected), True))) is not None:
            return f"row {row}: {column} {clips[column][row]} is not what its clip_id {ids[row]} says"
    return None


def _first(mask: pa.Array | pa.ChunkedArray) -> int | None:
    """The first row in which a mask is true."""
    row = pc.index(pc.fill_null(mask, False), True).as_py()
    return None if row < 0 else int(row)

"""Checks of a clips table's rows: its IDs must name clips, and its class IDs must be classes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from k710.lists.annotation_rows import MAX_TIME_S
from k710.lists.labels import class_names
from k710.manifest.clip_ids import ID_SIZE, PLAIN_CLIP_ID, are_plain, clip_ids
from k710.manifest.listings import class_id_name
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS
from k710.sources.video_ids import SPAN, VIDEO_ID

_CLIP_ID = rf"^{VIDEO_ID}(?:{SPAN})?$"
_START, _END = (ID_SIZE + 1, ID_SIZE + 7), (ID_SIZE + 8, ID_SIZE + 14)  # of the parts of a plain clip_id


def table_problem(clips: pa.Table, sources: Catalogue = KINETICS) -> str | None:
    """What is wrong with the columns that are there of a clips table, naming row, column and value; None for nothing.

    The row counts from 0. A clip_id is the ID and the span of its row, and follows the one before it; without sources
    of the manifest's own it has the form ID_start_end. A class_id is one of its label set.
    """
    there = set(clips.column_names)
    if "clip_id" in there and (problem := _clip_id_problem(clips["clip_id"], plain=not sources.own)):
        return problem
    if there >= {"clip_id", "youtube_id", "time_start_s", "time_end_s"}:
        plain = not sources.own or are_plain(clips["youtube_id"], clips["time_start_s"], clips["time_end_s"])
        if problem := (_span_problem if plain else _name_problem)(clips):
            return problem
    for view in sources.views:
        column = class_id_name(sources.listing(view))
        if column not in there:
            continue
        num_classes = len(class_names(view, sources=sources))
        outside = pc.or_(pc.less(clips[column], 0), pc.greater_equal(clips[column], num_classes))
        if (row := _first(outside)) is not None:
            return f"row {row}: {column} {clips[column][row]} is no class of {view}, which has 0 to {num_classes - 1}"
    return None


def _clip_id_problem(ids: pa.ChunkedArray, *, plain: bool) -> str | None:
    form = PLAIN_CLIP_ID if plain else _CLIP_ID
    if (row := _first(pc.invert(pc.match_substring_regex(pc.fill_null(ids, ""), form)))) is not None:
        wanted = (
            "a YouTube ID of 11 characters, the start and the end in seconds with six digits each, joined by _"
            if plain
            else "a YouTube ID or SOURCE~ID, and _start_end with six or nine digits each, or nothing"
        )
        return f"row {row}: clip_id {ids[row].as_py()!r} names no clip; want {wanted}"
    one = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    if (row := _first(pc.less_equal(one[1:], one[:-1]))) is not None:
        return f"row {row + 1}: clip_id {one[row + 1]} comes after {one[row]}; want each once, in order"
    return None


def _name_problem(clips: pa.Table) -> str | None:
    """As `_span_problem`, where some IDs are not YouTube's or some spans have fractions or are not there."""
    start, end, ids = clips["time_start_s"], clips["time_end_s"], clips["clip_id"]
    half = pc.not_equal(pc.is_null(start), pc.is_null(end))
    wrong = pc.or_(pc.or_(pc.less(start, 0), pc.greater(end, MAX_TIME_S)), pc.less_equal(end, start))
    if (row := _first(pc.or_(half, pc.fill_null(wrong, False)))) is not None:
        return f"row {row}: time_start_s {start[row]} and time_end_s {end[row]} are no span"
    expected = clip_ids(clips["youtube_id"], start, end)
    if (row := _first(pc.fill_null(pc.not_equal(ids, expected), True))) is not None:
        return f"row {row}: clip_id {ids[row]} is not what its ID and span say, {expected[row]}"
    return None


def _span_problem(clips: pa.Table) -> str | None:
    ids = clips["clip_id"]
    parts = {
        "youtube_id": pc.utf8_slice_codeunits(ids, 0, ID_SIZE),
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

"""The column clip_id, made of the columns of ID and span; `sources/video_ids.py` says the rule."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from k710.sources.source import YOUTUBE_ID

ID_SIZE = len("abcdefghijk")  # of a YouTube ID


def clip_ids(youtube_id: pa.ChunkedArray, time_start_s: pa.ChunkedArray, time_end_s: pa.ChunkedArray) -> pa.Array:
    """The clip_id of each row, from its video, start and end in seconds; both times are null for a whole file."""
    times = (time_start_s, time_end_s)
    if time_start_s.type == pa.float64():
        return _one(_with_fractions(youtube_id, *times))
    start, end = (_padded(time, 6) for time in times)
    joined = pc.binary_join_element_wise(youtube_id, start, end, "_")
    return _one(pc.if_else(pc.is_null(time_start_s), youtube_id, joined) if time_start_s.null_count else joined)


def _with_fractions(
    youtube_id: pa.ChunkedArray, time_start_s: pa.ChunkedArray, time_end_s: pa.ChunkedArray
) -> pa.ChunkedArray:
    milliseconds = [pc.round(pc.multiply(time, 1000.0)).cast(pa.int64()) for time in (time_start_s, time_end_s)]
    seconds = [pc.divide(time, 1000) for time in milliseconds]
    whole = pc.and_(
        *(pc.equal(pc.multiply(time, 1000), exact) for time, exact in zip(seconds, milliseconds, strict=True))
    )
    parts = [
        pc.if_else(whole, _padded(short, 6), _padded(long, 9))
        for short, long in zip(seconds, milliseconds, strict=True)
    ]
    return pc.if_else(pc.is_null(time_start_s), youtube_id, pc.binary_join_element_wise(youtube_id, *parts, "_"))


def _padded(time: pa.ChunkedArray, digits: int) -> pa.ChunkedArray:
    return pc.utf8_lpad(time.cast(pa.string()), digits, "0")


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)


def are_plain(youtube_id: pa.ChunkedArray, time_start_s: pa.ChunkedArray, time_end_s: pa.ChunkedArray) -> bool:
    """Whether every row has a YouTube ID and a span in whole seconds, as all rows of Kinetics have."""
    if time_start_s.type != pa.int32() or time_start_s.null_count or time_end_s.null_count:
        return False
    sizes = pc.min_max(pc.binary_length(youtube_id)).as_py()
    if (sizes["min"], sizes["max"]) != (ID_SIZE, ID_SIZE):
        return not len(youtube_id)
    return not pc.any(pc.match_substring(youtube_id, "~")).as_py()


PLAIN_CLIP_ID = f"^{YOUTUBE_ID}_[0-9]{{6}}_[0-9]{{6}}$"

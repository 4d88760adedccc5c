"""The column clip_id, made of the columns of ID and span; `sources/video_ids.py` says the rule."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.sources.source import YOUTUBE_ID

ID_SIZE = len("abcdefghijk")  # of a YouTube ID


def clip_ids(youtube_id: pa.ChunkedArray, time_start_s: pa.ChunkedArray, time_end_s: pa.ChunkedArray) -> pa.Array:
    """The clip_id of each row, from its video, start and end in seconds; both times are null for a whole file."""
    times = (time_start_s, time_end_s)
    if (ids := _of_one_width(youtube_id)) is not None and all(map(_has_six_digits, times)):
        return _plain(ids, *(time.to_numpy() for time in times))
    if time_start_s.type == pa.float64():
        return _one(_with_fractions(youtube_id, *times))
    start, end = (_padded(time, 6) for time in times)
    joined = pc.binary_join_element_wise(youtube_id, start, end, "_")
    return _one(pc.if_else(pc.is_null(time_start_s), youtube_id, joined) if time_start_s.null_count else joined)


def _of_one_width(youtube_id: pa.ChunkedArray) -> npt.NDArray[np.uint8] | None:
    """The bytes of IDs that all have the length of a YouTube ID; None for others."""
    try:
        return None if youtube_id.null_count else fixed_width(youtube_id, ID_SIZE)
    except ValueError:
        return None


def _has_six_digits(time: pa.ChunkedArray) -> bool:
    if time.type != pa.int32() or time.null_count:
        return False
    found = pc.min_max(time).as_py()
    return not len(time) or (found["min"] >= 0 and found["max"] < 10**6)


def _plain(ids: npt.NDArray[np.uint8], *times: npt.NDArray[np.int32]) -> pa.Array:
    """As below, for spans in whole seconds of IDs as YouTube has them: all names have one length, which saves half of
    the time."""
    digits = np.array([f"{number:03d}".encode() for number in range(1000)]).view(np.uint8).reshape(1000, 3)
    names = np.full((len(ids), ID_SIZE + 14), ord("_"), np.uint8)
    names[:, :ID_SIZE] = ids
    for place, time in zip((ID_SIZE + 1, ID_SIZE + 8), times, strict=True):
        thousands, rest = np.divmod(time, np.int32(1000))
        names[:, place : place + 3] = digits.take(thousands, axis=0)
        names[:, place + 3 : place + 6] = digits.take(rest, axis=0)
    return of_fixed_width(names)


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
    ids = _of_one_width(youtube_id)
    return ids is not None and int(ids.max(initial=0)) < ord("~")  # no character of YouTube's comes after it


def fixed_width(column: pa.ChunkedArray, width: int) -> npt.NDArray[np.uint8]:
    """The bytes of a column of strings that all have the same length, one row of bytes each; no copy.

    Raises ValueError for strings of other lengths.
    """
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    if len(array):
        ends = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
        if (row := int(np.argmax(np.diff(ends) != width))) or ends[1] - ends[0] != width:
            raise ValueError(f"ID {array[row].as_py()!r} has not {width} characters")
    start = array.offset * width
    buffer = np.frombuffer(array.buffers()[2] or b"", np.uint8)
    return buffer[start : start + len(array) * width].reshape(len(array), width)


def of_fixed_width(rows: npt.NDArray[np.uint8]) -> pa.Array:
    """The inverse of `fixed_width`."""
    num_rows, width = rows.shape
    ends = np.arange(0, (num_rows + 1) * width, width, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), num_rows, [None, pa.py_buffer(ends), pa.py_buffer(rows)])


PLAIN_CLIP_ID = f"^{YOUTUBE_ID}_[0-9]{{6}}_[0-9]{{6}}$"

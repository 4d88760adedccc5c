"""Which columns of a table name its videos, say their times and their classes; and times as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.errors import ListError
from k710.identify.keys import MAX_TIME_MS, NO_TIME, Mask
from k710.identify.recognise import MAX_CLASS, NO_CLASS, Recognised, recognise
from k710.lists.annotation_rows import quoted

# Names without case and symbols, in the order in which they are asked.
_NAMES = (
    *("youtubeid", "youtubeids", "ytid", "clipid", "videoid", "ytvideoid", "id", "key"),
    *("path", "videopath", "videopaths", "clippath", "filepath", "file", "filename", "video", "videofile", "videoname"),
    *("name", "clipname", "url", "videourl", "videoloc", "webpageurl", "contenturl", "link"),
)
_TIMES = tuple(
    (form.format("start"), form.format("end"))
    for form in ("time{}", "time{}s", "{}", "{}s", "{}time", "{}sec", "{}seconds", "{}timestamp", "t{}", "span{}")
)
_LABELS = ("label", "class", "classname", "category", "classid", "classindex", "target", "labelid")
_SPANS = ("clips", "clip", "span", "spans", "segment", "segments", "timestamp", "timestamps")
_LOOKED_AT = 1_000
_CLOCK = re.compile(r"(?:(?P<h>[0-9]{1,4}):)?(?P<m>[0-9]{1,2}):(?P<s>[0-9]{1,2}(?:[.,][0-9]*)?)")


@dataclass(frozen=True)
class Columns:
    """The columns that are read of a table: the one that names the video or the clip; both times, or neither; the one
    of the class, which may be missing. `status` is that of video2dataset, which lists what it could not download too.
    `spans` holds lists of spans, where there are no columns of times. `media` is null for the clips that k710 lists
    and does not have.
    """

    name: str
    start: str = ""
    end: str = ""
    label: str = ""
    status: str = ""
    spans: str = ""
    media: str = ""

    @property
    def all(self) -> tuple[str, ...]:
        names = (self.name, self.start, self.end, self.label, self.status, self.spans, self.media)
        return tuple(filter(None, names))


def plain(name: str) -> str:
    """A column's name without case and symbols."""
    return "".join(filter(str.isalnum, name.casefold()))


def may_name(columns: Iterable[str]) -> list[str]:
    """Those of these columns that may name videos, in the order in which they are asked."""
    by_name = {plain(column): column for column in reversed(list(columns))}
    return [by_name[name] for name in _NAMES if name in by_name]


def choose(columns: Sequence[str], head: Callable[[str], pa.Array], *, column: str | None = None) -> Columns:
    """The columns to read. `head` gives the first values of a column; `column` is the user's word on which one names
    the videos. Raises ListError where none does, or where two name different videos."""
    by_name = {plain(name): name for name in reversed(columns)}
    pair = next(((start, end) for start, end in _TIMES if start in by_name and end in by_name), None)
    label = next((by_name[name] for name in _LABELS if name in by_name), "")
    is_downloaded = {"status", "key", "errormessage"} <= set(by_name)
    times = (by_name[pair[0]], by_name[pair[1]]) if pair else ("", "")
    spans = "" if pair else next((by_name[name] for name in _SPANS if name in by_name), "")
    media = by_name["sha256"] if {"failure", "sha256"} <= set(by_name) else ""
    rest = (*times, label, by_name["status"] if is_downloaded else "", spans, media)
    if column is not None:
        column = by_name.get(plain(column), column)
        if column not in columns:
            raise ListError(f"no column {quoted(column)}; the columns are {', '.join(map(quoted, columns))}")
        return Columns(column, *rest)
    names = [name for name in may_name(columns) if plain(name) != "key" or not is_downloaded]
    found: dict[str, Recognised] = {}
    for name in names:
        values = head(name)
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or pa.types.is_binary(values.type):
            read = recognise(values.slice(0, _LOOKED_AT))
            if len(read.row):
                found[name] = read
    if not found:
        which = f"columns {', '.join(map(quoted, names))} name" if names else "no column of a known name: none names"
        raise ListError(
            f"{which} no video in the first rows; the columns are {', '.join(map(quoted, columns))}; say which one "
            "names the videos with --column"
        )
    _check_agreement(found)
    with_spans = [name for name, read in found.items() if read.clips.has_span.any()]
    return Columns(with_spans[0] if with_spans and not pair else next(iter(found)), *rest)


def _check_agreement(found: Mapping[str, Recognised]) -> None:
    (first, one), *others = found.items()
    for name, other in others:
        _, here, there = np.intersect1d(one.row, other.row, return_indices=True)
        differ = (one.clips.key[here] != other.clips.key[there]) | (one.clips.tail[here] != other.clips.tail[there])
        if differ.any():
            from k710.identify.recognise import shown

            place = int(np.argmax(differ))
            ids = [shown(read.clips.take(index[place : place + 1]))[0] for read, index in ((one, here), (other, there))]
            raise ListError(
                f"row {int(one.row[here[place]]) + 1}: column {quoted(first)} names {ids[0]} and column {quoted(name)} "
                f"names {ids[1]}; say which one names the video with --column"
            )


def times_ms(start: pa.Array, end: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Mask]:
    """Both times of each row in milliseconds, NO_TIME where both are empty, and which rows have times that are none:
    then both are NO_TIME too."""
    values = [_seconds(column) for column in (start, end)]
    empty = values[0][1] & values[1][1]
    first, last = (found for found, _ in values)
    with np.errstate(invalid="ignore"):
        good = (first >= 0) & (last > first) & (last * 1000 <= MAX_TIME_MS) & ~values[0][1] & ~values[1][1]
    times = [
        np.where(good, np.round(np.nan_to_num(np.where(good, time, 0)) * 1000), NO_TIME).astype(np.int32)
        for time in (first, last)
    ]
    same = good & (times[0] >= times[1])
    times = [np.where(same, np.int32(NO_TIME), time) for time in times]
    return times[0], times[1], ~empty & (~good | same)


def _seconds(column: pa.Array) -> tuple[npt.NDArray[np.float64], Mask]:
    """The seconds of each row, NaN where they cannot be read, and which rows are empty."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        empty = column.is_null().to_numpy(zero_copy_only=False)
        return pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False), empty
    text = pc.utf8_trim_whitespace(pc.fill_null(column.cast(pa.string()), ""))
    empty = pc.equal(text, "").to_numpy(zero_copy_only=False)
    # Only what is written as a number: a float is also `nan`, `inf` and `1e5`.
    numeric = pc.match_substring_regex(text, r"^[0-9]+(?:\.[0-9]*)?$")
    values = pc.if_else(numeric, text, "nan").cast(pa.float64()).to_numpy(zero_copy_only=False).copy()
    for row in np.flatnonzero(~numeric.to_numpy(zero_copy_only=False) & ~empty).tolist():
        values[row] = clock_seconds(text[row].as_py())
    return values, empty


def clock_seconds(text: object) -> float:
    """`12.5`, `0:12.5` or `00:00:12.500` in seconds; NaN for what is none of them."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text)
    if not isinstance(text, str):
        return float("nan")
    if re.fullmatch(r"[0-9]+(?:\.[0-9]*)?", text.strip(), re.ASCII):
        return float(text)
    if not (match := _CLOCK.fullmatch(text.strip())) or not text.isascii():
        return float("nan")
    return 3600.0 * int(match["h"] or 0) + 60.0 * int(match["m"]) + float(match["s"].replace(",", "."))


def classes_of(column: pa.Array) -> tuple[npt.NDArray[np.int32], pa.Array | None]:
    """The index of each row's class, NO_CLASS for none, and the names where they are names."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    none = np.full(len(column), NO_CLASS, np.int32)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(column.type):
        return _indices(pc.fill_null(column.cast(pa.int64()), NO_CLASS).to_numpy(zero_copy_only=False)), None
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return none, None
    text = pc.fill_null(column.cast(pa.string()), "")
    digits = pc.match_substring_regex(text, "^[0-9]{1,4}$")
    if pc.all(pc.or_(digits, pc.equal(text, ""))).as_py():
        return _indices(pc.if_else(digits, text, str(NO_CLASS)).cast(pa.int64()).to_numpy(zero_copy_only=False)), None
    return none, text


def _indices(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    return np.where((values < 0) | (values > MAX_CLASS), NO_CLASS, values).astype(np.int32)

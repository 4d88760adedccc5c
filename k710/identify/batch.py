"""Some rows of anything that names clips, as columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.identify.columns import Columns, classes_of, plain, times_ms
from k710.identify.keys import NO_TIME, Clips, keys_of
from k710.identify.recognise import NO_CLASS, Recognised, Unclear, recognise

_STATES_AN_ID = ("youtubeid", "ytid", "ytvideoid")  # no value of such a column is a word instead


@dataclass(frozen=True)
class Batch:
    """Rows of one file. `line` is the line, row or entry of each that names a clip, from 1; `class_index` the index of
    its class, NO_CLASS without one; `label` the name of its class where the rows have names. `unclear` are the other
    rows, each with its line as `row`; `left_out` counts those of clips that could not be had, as
    video2dataset and k710 list them too. `rows` are all.
    """

    file: str
    line: npt.NDArray[np.int64]
    clips: Clips
    class_index: npt.NDArray[np.int32]
    label: pa.Array | None
    unclear: tuple[Unclear, ...]
    rows: int
    left_out: int = 0


def of_texts(file: str, texts: pa.Array, line: npt.NDArray[np.int64], read: Recognised) -> Batch:
    """The rows that were recognised among these texts. `line`: that of each text; empty texts are no rows."""
    blank = {unclear.row for unclear in read.unclear if not unclear.text}
    unclear = tuple(replace(one, row=int(line[one.row])) for one in read.unclear if one.row not in blank)
    return Batch(file, line[read.row], read.clips, read.class_index, None, unclear, len(texts) - len(blank))


def of_table(file: str, table: pa.Table | pa.RecordBatch, columns: Columns, line: npt.NDArray[np.int64]) -> Batch:
    """The rows of a table with these columns. `line`: that of each row."""
    rows, left_out = len(table), 0
    if columns.status or columns.media:
        done = _there(table, columns)
        left_out = rows - pc.sum(done).as_py() if rows else 0
        if left_out:
            table, line = table.filter(done), line[done.to_numpy(zero_copy_only=False)]
    names = _one(table[columns.name])
    read = _ids(names) if plain(columns.name) in _STATES_AN_ID else recognise(names)
    clips, unclear = read.clips, read.unclear
    if columns.start and len(clips):
        times = [_one(table[name]).take(pa.array(read.row)) for name in (columns.start, columns.end)]
        start, end, bad = times_ms(times[0], times[1])
        own = clips.has_span
        clips = Clips(clips.key, clips.tail, np.where(own, clips.start_ms, start), np.where(own, clips.end_ms, end))
        unclear += tuple(
            Unclear(int(read.row[place]), names[int(read.row[place])].as_py(), (), _bad_times(times, columns, place))
            for place in np.flatnonzero(bad & ~own).tolist()
        )
    index, label = read.class_index, None
    if columns.label:
        index, label = classes_of(_one(table[columns.label]).take(pa.array(read.row)))
    unclear = tuple(replace(one, row=int(line[one.row]), text=_text(one.text)) for one in unclear)
    return Batch(file, line[read.row], clips, index, label, unclear, rows, left_out)


def _there(table: pa.Table | pa.RecordBatch, columns: Columns) -> pa.Array:
    """Which rows are of clips that could be had."""
    if columns.status:
        return pc.fill_null(pc.equal(_one(table[columns.status]).cast(pa.string()), "success"), False)
    return pc.is_valid(_one(table[columns.media]))


def _ids(values: pa.Array) -> Recognised:
    """The IDs of a column that holds nothing else."""
    text = pc.fill_null(values.cast(pa.binary()), b"")
    if pc.any(pc.match_substring_regex(text, r"^\s|\s$")).as_py():
        text = pc.utf8_trim_whitespace(text.cast(pa.string())).cast(pa.binary())
    key, tail, are_ids = keys_of(text)
    row = np.flatnonzero(are_ids)
    none = np.full(len(row), NO_TIME, np.int32)
    unclear = tuple(
        Unclear(place, text[place].as_py().decode("utf-8", "surrogateescape"))
        for place in np.flatnonzero(~are_ids).tolist()
    )
    return Recognised(row, Clips(key[row], tail[row], none, none), np.full(len(row), NO_CLASS, np.int32), unclear)


def _bad_times(times: list[pa.Array], columns: Columns, place: int) -> str:
    values = (
        f"{name} {column[place].as_py()!r}" for name, column in zip((columns.start, columns.end), times, strict=True)
    )
    return f"{' and '.join(values)} are no start and end in seconds"


def _one(column: Any) -> pa.Array:
    """A column as one array, its dictionary decoded."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(column, pa.ChunkedArray):  # of no chunk
        column = pa.array([], column.type)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)

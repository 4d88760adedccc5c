"""The clips table: its columns, its schema versions, and the hash over its rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet

from k710.manifest.listings import CLASS_IDS_FIELDS, NAMES, fields_of
from k710.storage.storage import (
    HashedFile,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


SCHEMA_VERSION = "1.0"


# Of a table that names several splits of a release for one clip: a k710 that reads 1.0 alone must not read it.
SEVERAL_SPLITS_VERSION = "2.0"


KNOWN_MAJORS = ("1", "2")


NEAR_DUPLICATE = "near_duplicate"  # given by `k710 near-duplicates --apply` alone, never by a build


DROP_REASONS = ("duplicate_id", "leaked", "unlabelled", NEAR_DUPLICATE)


CLIPS_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("youtube_id", pa.string()),
        pa.field("time_start_s", pa.int32()),
        pa.field("time_end_s", pa.int32()),
        pa.field("label", pa.dictionary(pa.int16(), pa.string())),
        pa.field("class_id", pa.int16()),
        pa.field("other_class_ids", pa.list_(pa.int16())),
        pa.field("split", NAMES),
        pa.field("drop_reason", NAMES),
        pa.field("kept_clip_id", pa.string()),
        *fields_of(),
    ]
)


ALL_COLUMNS = pa.schema([*CLIPS_SCHEMA, *CLASS_IDS_FIELDS])  # few tables have the last ones


def clips_schema(columns: Iterable[str]) -> pa.Schema:
    """The schema of a clips table with these columns: CLIPS_SCHEMA, and those of CLASS_IDS_FIELDS that it has."""
    present = set(columns)
    return pa.schema([*CLIPS_SCHEMA, *(field for field in CLASS_IDS_FIELDS if field.name in present)])


# What the content hash is taken over: dictionaries and lists as text, slice by slice, since text is far larger.
def _hashed_schema(columns: Iterable[str]) -> pa.Schema:
    def form(kind: pa.DataType) -> pa.DataType:
        return pa.string() if pa.types.is_nested(kind) or pa.types.is_dictionary(kind) else kind

    return pa.schema((field.name, form(field.type)) for field in clips_schema(columns))


_SLICE_ROWS = 1 << 16


CLIPS_FILE = re.compile(r"clips/clips-[0-9a-f]{16}\.parquet")


PAIRS_FILE = "near_duplicates.parquet"  # see pairs.py


def content_hash(clips: pa.Table) -> str:
    """SHA-256 of the clips table as CSV: the header, then a line per row, strings in double quotes, null as nothing,
    `other_class_ids` joined by semicolons. It holds no time, path or version."""
    sink = HashedFile()
    schema = _hashed_schema(clips.column_names)
    with pa.csv.CSVWriter(sink, schema) as writer:
        for start in range(0, clips.num_rows, _SLICE_ROWS):
            part = clips.slice(start, _SLICE_ROWS)
            columns = [_hashed_form(part[field.name], field.type) for field in schema]
            writer.write_table(pa.table(columns, schema=schema))
    return sink.sha256


def _hashed_form(column: pa.ChunkedArray, form: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_list(column.type):
        return pa.chunked_array([_joined(chunk) for chunk in column.chunks], pa.string())
    return column.cast(form)


def _joined(lists: pa.ListArray) -> pa.Array:
    """Each list's numbers joined by semicolons, a null number as nothing; null for a null list."""
    numbers = pc.fill_null(lists.flatten().cast(pa.string()), "")
    ends = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).cumsum()
    offsets = pa.array([0, *ends], pa.int32())
    return pc.binary_join(pa.ListArray.from_arrays(offsets, numbers, mask=lists.is_null()), ";")

"""The clips table: its columns, its schema versions, and the hash over its rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from k710.manifest.listings import NAMES, class_ids_fields, fields_of
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS
from k710.storage.storage import HashedFile

if TYPE_CHECKING:
    from collections.abc import Iterable


SCHEMA_VERSION = "1.0"


# Of a table that names several splits of a release for one clip: a k710 that reads 1.0 alone must not read it.
SEVERAL_SPLITS_VERSION = "2.0"


# Of a manifest that describes sources of its own.
OWN_SOURCES_VERSION = "3.0"


# Of a manifest that describes a union of its own.
OWN_UNION_VERSION = "4.0"


KNOWN_MAJORS = ("1", "2", "3", "4")


NEAR_DUPLICATE = "near_duplicate"  # given by `k710 near-duplicates --apply` alone, never by a build


OTHER_CLASSES = "other_classes"  # of a source whose classes are none of the union's


DOUBTFUL_LABEL = "doubtful_label"  # given by `k710 doubts --apply` alone


DROP_REASONS = ("duplicate_id", "leaked", "unlabelled", NEAR_DUPLICATE, OTHER_CLASSES, DOUBTFUL_LABEL)
_ALWAYS_NAMED = DROP_REASONS.index(NEAR_DUPLICATE) + 1


def drop_reasons(codes: npt.NDArray[np.int8]) -> tuple[str, ...]:
    """The dictionary of a column of reasons, indices into DROP_REASONS. The last ones are in it only where a clip has
    them, so that a table of Kinetics has the same bytes as ever."""
    return DROP_REASONS[: max(_ALWAYS_NAMED, int(codes.max(initial=-1)) + 1)]


_BEFORE_SPAN = [pa.field("clip_id", pa.string()), pa.field("youtube_id", pa.string())]
_AFTER_SPAN = [
    pa.field("label", pa.dictionary(pa.int16(), pa.string())),
    pa.field("class_id", pa.int16()),
    pa.field("other_class_ids", pa.list_(pa.int16())),
    pa.field("split", NAMES),
    pa.field("drop_reason", NAMES),
    pa.field("kept_clip_id", pa.string()),
]


def table_schema(sources: Catalogue) -> pa.Schema:
    """The clips table of a manifest that holds these sources. Times are whole seconds, or have fractions where those of
    a source have; both are null for a clip that is a whole file."""
    time = pa.float64() if sources.has_fractions else pa.int32()
    span = [pa.field("time_start_s", time), pa.field("time_end_s", time)]
    return pa.schema([*_BEFORE_SPAN, *span, *_AFTER_SPAN, *fields_of(sources.names)])


CLIPS_SCHEMA = table_schema(KINETICS)  # of a manifest that has no source of its own


def all_columns(sources: Catalogue) -> pa.Schema:
    """The clips table with the columns that few tables have."""
    return pa.schema([*table_schema(sources), *class_ids_fields(sources.names)])


def clips_schema(columns: Iterable[str], sources: Catalogue = KINETICS) -> pa.Schema:
    """The schema of a clips table with these columns: those of every table, and of the others those that it has."""
    present = set(columns)
    few = [field for field in class_ids_fields(sources.names) if field.name in present]
    return pa.schema([*table_schema(sources), *few])


# What the content hash is taken over: dictionaries and lists as text, slice by slice, since text is far larger.
def _hashed_schema(schema: pa.Schema) -> pa.Schema:
    def form(kind: pa.DataType) -> pa.DataType:
        return pa.string() if pa.types.is_nested(kind) or pa.types.is_dictionary(kind) else kind

    return pa.schema((field.name, form(field.type)) for field in schema)


_SLICE_ROWS = 1 << 16


CLIPS_FILE = re.compile(r"clips/clips-[0-9a-f]{16}\.parquet")


PAIRS_FILE = "near_duplicates.parquet"  # see pairs.py


def content_hash(clips: pa.Table) -> str:
    """SHA-256 of the clips table as CSV: the header, then a line per row, strings in double quotes, null as nothing,
    `other_class_ids` joined by semicolons. It holds no time, path or version."""
    sink = HashedFile()
    schema = _hashed_schema(clips.schema)
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

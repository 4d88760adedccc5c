"""Curated list rows -> the clips table: one row per distinct clip of all sources, with what each release says of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.curate import Curated, Rows
from k710.labels import class_names
from k710.manifest import CLIPS_SCHEMA, DROP_REASONS
from k710.releases import SOURCES, SPLITS


def clips_table(curated: Curated) -> pa.Table:
    """The clips table (manifest.CLIPS_SCHEMA) in clip_id order.

    A clip's label comes from its train and val rows, by precedence of releases; labels that lost stand in
    `other_class_ids`. Each release's own split and label are as published, whatever curation decided.
    """
    rows = curated.rows
    num_clips = len(curated.split)
    first = np.flatnonzero(np.diff(rows.clip, prepend=-1))  # the row whose label counts
    class_id = np.where(rows.of_splits("test")[first], np.int16(-1), rows.class_id[first])
    place = rows.table.select(["youtube_id", "time_start_s", "time_end_s"]).take(pa.array(rows.order[first]))
    clip_ids = _clip_ids(*place.columns)
    columns = {
        "clip_id": clip_ids,
        **dict(zip(place.column_names, place.columns, strict=True)),
        "label": _named(class_id, class_names("k710")),
        "class_id": _nullable(class_id),
        "other_class_ids": _other_class_ids(rows, class_id),
        "split": _named(curated.split, SPLITS),
        "drop_reason": _named(curated.drop_reason, DROP_REASONS),
        "kept_clip_id": clip_ids.take(pa.array(curated.kept_clip, mask=curated.kept_clip < 0)),
    }
    for source in SOURCES:
        split, label = _as_published(rows, source, num_clips)
        columns[f"{source}_split"] = _named(split, SPLITS)
        columns[f"{source}_class_id"] = _nullable(label)
    return pa.table(columns, schema=CLIPS_SCHEMA).combine_chunks()


def _clip_ids(youtube_id: pa.ChunkedArray, time_start_s: pa.ChunkedArray, time_end_s: pa.ChunkedArray) -> pa.Array:
    """`{youtube_id}_{time_start:06d}_{time_end:06d}`, the name of a clip's file in the public archives."""
    start, end = (pc.utf8_lpad(time.cast(pa.string()), 6, "0") for time in (time_start_s, time_end_s))
    joined = pc.binary_join_element_wise(youtube_id, start, end, "_")
    return pa.concat_arrays(joined.chunks) if joined.num_chunks != 1 else joined.chunk(0)


def _other_class_ids(rows: Rows, class_id: npt.NDArray[np.int16]) -> pa.Array:
    """For each clip, the K710 classes that other train and val rows give it, ascending; null where there are none."""
    contradicts = ~rows.of_splits("test") & (rows.class_id != class_id[rows.clip])
    pairs = np.unique(rows.clip[contradicts].astype(np.int64) << 16 | rows.class_id[contradicts])
    counts = np.bincount(pairs >> 16, minlength=len(class_id))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = pa.array((pairs & 0xFFFF).astype(np.int16))
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(counts == 0))


def _as_published(rows: Rows, source: str, num_clips: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int16]]:
    """The split and class index that a release gives each clip; -1 where it has none.

    No release is known to list one clip in two splits. Should one, the evaluation side is kept (val, then test), so
    that its leak stays visible; of two labels in one split, the first alphabetically.
    """
    split, label = np.full(num_clips, -1, np.int8), np.full(num_clips, -1, np.int16)
    of_source = rows.source == list(SOURCES).index(source)
    for part in ("train", "test", "val"):
        index = np.flatnonzero(of_source & rows.of_splits(part))[::-1]  # the last write, the first label, stays
        split[rows.clip[index]] = SPLITS.index(part)
        label[rows.clip[index]] = rows.release_class_id[index]
    return split, label


def _nullable(values: npt.NDArray[np.int16]) -> pa.Array:
    return pa.array(values, mask=values < 0)


def _named(indices: npt.NDArray[np.integer], names: tuple[str, ...]) -> pa.DictionaryArray:
    """A column of names from their indices; -1 becomes null. A fixed dictionary makes equal columns equal bytes."""
    return pa.DictionaryArray.from_arrays(pa.array(indices, mask=indices < 0), pa.array(names, pa.string()))

"""The fate of every list row, as a table of its own for whoever wants to check the counts line by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from k710.curation.curate import FATES, Curated
from k710.storage.storage import replacing


def fates_table(curated: Curated, clips: pa.Table) -> pa.Table:
    """One row per list row that could be read: source, split, line, clip_id, label, fate, kept_clip_id.

    In clip_id order. `label` is the K710 class that the row itself names; `kept_clip_id` is given where a row lost.
    """
    rows = curated.rows
    clip_id = clips["clip_id"].combine_chunks()
    fate = pa.DictionaryArray.from_arrays(pa.array(curated.fate), list(FATES))
    lost = np.isin(curated.fate, [FATES.index("duplicate_id"), FATES.index("leaked")])
    kept = curated.kept_of_video[rows.video]
    label_names = clips["label"].combine_chunks().dictionary
    return pa.table(
        {
            **{name: rows.table[name].take(pa.array(rows.order)) for name in ("source", "split", "line")},
            "clip_id": clip_id.take(pa.array(rows.clip)),
            "label": pa.DictionaryArray.from_arrays(pa.array(rows.class_id, mask=rows.class_id < 0), label_names),
            "fate": fate,
            "kept_clip_id": clip_id.take(pa.array(kept, mask=~lost | (kept < 0))),
        }
    )


def write_fates(path: Path, curated: Curated, clips: pa.Table) -> None:
    """Write the fates table to `path`: Parquet by that suffix, else CSV."""
    table = fates_table(curated, clips)
    with replacing(path) as file:
        if path.suffix == ".parquet":
            pa.parquet.write_table(table, file, compression="zstd")
        else:
            pa.csv.write_csv(_plain(table), file)


def _plain(table: pa.Table) -> pa.Table:
    """Dictionary columns as strings, which is what a CSV can hold."""
    return pa.table(
        {
            name: column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
    )

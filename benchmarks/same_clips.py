"""Compare two clips tables row for row; types and storage do not count.

python benchmarks/same_clips.py MANIFEST TABLE.parquet
"""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from k710.manifest.read import open_manifest
from k710.manifest.schema import clips_schema


def differences(one: pa.Table, other: pa.Table) -> list[str]:
    """The differences, one sentence per column; empty if both tables have the same rows in the same order."""
    if one.num_rows != other.num_rows:
        return [f"{one.num_rows:,} rows against {other.num_rows:,}"]
    if one.column_names != other.column_names:
        return [f"columns {', '.join(one.column_names)} against {', '.join(other.column_names)}"]
    one, other = _plain(one), _plain(other)
    found = []
    for name in one.column_names:
        if not one[name].equals(other[name]):
            rows = zip(one["clip_id"].to_pylist(), one[name].to_pylist(), other[name].to_pylist(), strict=True)
            unequal = [(clip_id, left, right) for clip_id, left, right in rows if left != right]
            clip_id, left, right = unequal[0]
            found.append(f"{name}: {len(unequal):,} rows differ, first {clip_id}: {left!r} against {right!r}")
    return found


def _plain(table: pa.Table) -> pa.Table:
    """The columns with the types of the schema, with strings for dictionaries."""
    schema = clips_schema(table.column_names)
    types = [pa.string() if pa.types.is_dictionary(field.type) else field.type for field in schema]
    columns = [pc.cast(table[name], type_) for name, type_ in zip(schema.names, types, strict=True)]
    return pa.table(columns, names=schema.names)


if __name__ == "__main__":
    manifest, parquet = sys.argv[1:]
    sys.exit("\n".join(differences(open_manifest(manifest).clips, pq.read_table(parquet))) or None)

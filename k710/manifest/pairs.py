"""MANIFEST/near_duplicates.parquet: a row for each pair of clips that show the same footage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from k710.errors import ManifestError
from k710.manifest.read import Manifest
from k710.manifest.schema import PAIRS_FILE
from k710.storage.storage import replacing
from k710.store.store import METADATA_KEY, unit_digest

SCHEMA_VERSION = "1.0"
PAIRS_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),  # where one of the two is a train clip and one held out, the train clip
        pa.field("other_clip_id", pa.string()),
        pa.field("distance", pa.float32()),  # bits of 256 in which their frames differ, the mean of those that agree
        pa.field("shift_s", pa.float32()),  # how much later other_clip_id shows what clip_id shows
        pa.field("mirrored", pa.bool_()),
        pa.field("group", pa.int32()),  # the same for all clips that are connected by pairs
        pa.field("drop_clip_id", pa.string()),  # null: nothing is proposed
        pa.field("kept_clip_id", pa.string()),
    ]
)


def read_pairs(manifest: Manifest) -> pa.Table | None:
    """The pairs (PAIRS_SCHEMA) that `k710 near-duplicates` found among the clips of this version of the manifest.

    They are sorted by clip and other clip; None where the command was never run.

    `about_pairs` reads the metadata of the table. Raises ManifestError for a damaged file, one that a newer k710 wrote,
    and one that belongs to another content_hash.
    """
    path = manifest.path / PAIRS_FILE
    if not path.exists():
        return None
    again = f"`k710 near-duplicates {manifest.path}` makes it again"
    try:
        table = pa.parquet.ParquetFile(pa.BufferReader(path.read_bytes())).read()
        about = about_pairs(table)
        version, hashes = str(about["schema_version"]), list(about["content_hashes"])
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise ManifestError(f"{path}: damaged: {str(error).strip()}; {again}") from None
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise ManifestError(f"{path}: has schema version {version}, this k710 reads {SCHEMA_VERSION}; upgrade k710")
    if about.get("sha256") != unit_digest(table, about):
        raise ManifestError(f"{path}: damaged: its rows have changed since it was written; {again}")
    if manifest.content_hash not in hashes:
        raise ManifestError(
            f"{path}: belongs to another version of the manifest (content hash {hashes[-1][:16]}, this one has "
            f"{manifest.content_hash[:16]}); {again}"
        )
    return table


def about_pairs(table: pa.Table) -> dict[str, Any]:
    """The metadata of a table of pairs: `content_hashes` of the manifests that it belongs to, `parameters`, `counts`.

    Raises KeyError or ValueError where there is none.
    """
    about: dict[str, Any] = json.loads((table.schema.metadata or {})[METADATA_KEY])
    return about


def write_pairs(manifest: Manifest, pairs: pa.Table, about: dict[str, Any], content_hashes: Sequence[str]) -> pa.Table:
    """Write the pairs (PAIRS_SCHEMA), whole or not at all; returns them as they are read."""
    about = {"schema_version": SCHEMA_VERSION, "content_hashes": list(content_hashes), **about}
    about["sha256"] = unit_digest(pairs, about)
    pairs = pairs.replace_schema_metadata({METADATA_KEY: json.dumps(about).encode()})
    with replacing(manifest.path / PAIRS_FILE) as file:
        pa.parquet.write_table(pairs, file, compression="zstd")
    return pairs

"""The videos themselves in a folder for Hugging Face's `datasets`: Parquet files with a column of videos.

    data/{split}-{number:05d}-of-{count:05d}.parquet

`datasets` stores the feature Video as a struct of the file's bytes and its name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from k710.errors import StoreError, UsageError
from k710.maintenance.stored_clips import StoredClips
from k710.storage.storage import replacing
from k710.store.store import Store
from k710.text import data_size

VIDEO = "video"
FEATURE: dict[str, Any] = {"_type": "Video"}
TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])

FILE_BYTES = 500_000_000  # the Hub advises files of this size
_GROUP_BYTES = 50_000_000  # a row group is in memory as a whole, also in the Hub's viewer


def check_videos(tables: dict[str, pa.Table], store: Store) -> int:
    """How many clips of the tables have a video in the store. Raises StoreError for none, UsageError for a profile that
    holds pictures."""
    if any("mjpeg" in table["suffix"].to_pylist() for table in tables.values()):
        raise UsageError(f"profile {store.profile_folder} holds pictures, not videos; take another --profile")
    total: int = sum(table.num_rows - table["tar"].null_count for table in tables.values())
    if not total:
        raise StoreError(f"{store.root}: has none of these clips in profile {store.profile_folder}")
    return total


def check_room(out: Path, tables: dict[str, pa.Table]) -> None:
    """Raise StoreError where the disk of `out` has no room for the videos."""
    needed = sum(pc.sum(table["size"]).as_py() or 0 for table in tables.values())
    disk = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    if (free := shutil.disk_usage(disk).free) < needed:
        raise StoreError(f"{out}: {data_size(needed)} are needed, {data_size(free)} are free")


def parts_of(table: pa.Table, most_bytes: int) -> list[pa.Table]:
    """The rows of a split in their order, cut where the videos of a part would exceed `most_bytes`."""
    starts, held = [0], 0
    for row, size in enumerate(table["size"].to_pylist()):
        size = size or 0
        if held and held + size > most_bytes:
            starts.append(row)
            held = 0
        held += size
    ends = [*starts[1:], table.num_rows]
    return [table.slice(start, end - start) for start, end in zip(starts, ends, strict=True)]


def video_files(split: str, count: int) -> list[str]:
    """The names of a split's files inside the folder."""
    return [f"data/{split}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]


def write_videos(
    path: Path, part: pa.Table, schema: pa.Schema, store: Store, *, on_clip: Callable[[], None] = lambda: None
) -> None:
    """Write the rows of `part` with their videos to `path`, whole or not at all. Raises StoreError for a clip that is
    damaged or gone."""
    with replacing(path) as file, StoredClips(store) as clips:
        # Videos are compressed already, and none is there twice.
        columns = [name for name in schema.names if name != VIDEO]
        codecs = dict.fromkeys(columns, "zstd") | {f"{VIDEO}.bytes": "none", f"{VIDEO}.path": "zstd"}
        with pa.parquet.ParquetWriter(file, schema, compression=codecs, use_dictionary=columns) as writer:
            for group in parts_of(part, _GROUP_BYTES):
                videos = pa.array(videos_of(group, clips, on_clip), TYPE)
                writer.write_table(group.append_column(VIDEO, videos).cast(schema), row_group_size=group.num_rows)


def videos_of(group: pa.Table, clips: StoredClips, on_clip: Callable[[], None]) -> Iterator[dict[str, Any] | None]:
    """For each row its video's `bytes` and file name, the `path`; None without a video. Raises as `write_videos`."""
    rows = group.select(["clip_id", "tar", "offset", "size", "sha256", "suffix"]).to_pylist()
    contents = clips.read_all([row for row in rows if row["tar"] is not None])
    for row in rows:
        if row["tar"] is None:
            yield None
            continue
        on_clip()
        yield {"bytes": next(contents), "path": f"{row['clip_id']}.{row['suffix']}"}

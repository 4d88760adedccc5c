"""A view as Lance datasets, one for each split: OUT/{split}.lance. Opened by `lance.dataset(...)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from k710.errors import MachineError, ManifestError
from k710.export.hf import view_tables
from k710.export.hf_videos import check_room, check_videos, parts_of, videos_of
from k710.export.lists import check_out, held_folder
from k710.maintenance.stored_clips import StoredClips
from k710.manifest.read import Manifest
from k710.storage.storage import replacing_folder
from k710.store.store import Store

VIDEO = "video"
# Lance keeps such a column apart from the others, and opens a value as a file (take_blobs).
_BLOB = pa.field(VIDEO, pa.large_binary(), metadata={"lance-encoding:blob": "true"})
_BATCH_BYTES, _BATCH_ROWS = 50_000_000, 1 << 15


def lance_folder(split: str) -> str:
    """The dataset of a split inside the folder."""
    return f"{split}.lance"


def export_lance(
    manifest: Manifest,
    out: Path,
    *,
    view_name: str | None = None,
    dialect: str = "canonical",
    splits: tuple[str, ...] = (),
    store: Store | None = None,
    media: bool = False,
    force: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    chosen: pa.Table | None = None,
) -> dict[str, int]:
    """Write a view, or the `chosen` clips of it (selection.py), as Lance datasets; returns rows by split.

    The columns are those of `export_hf`, but `label` is the name of the class and `class_id` its index; the same for
    `{release}_label` and `{release}_class_id`. With `media` there is also `video`, a blob with the clip's video from
    the store, null for a clip that was not fetched; `on_progress(done, total)` counts them. Each split is written
    whole or not at all. Raises MachineError without the package `pylance`, and otherwise what `export_hf` raises.
    """
    lance = _library()
    tables, features = view_tables(manifest, view_name, dialect=dialect, splits=splits, store=store, chosen=chosen)
    total = check_videos(tables, store) if store is not None and media else 0
    _check_out(out, tables, force=force)
    if total:
        check_room(out, tables)
    clips = count(1)
    with held_folder(out):
        _check_out(out, tables, force=force)
        for split, table in tables.items():
            named = _with_names(table, features)
            with replacing_folder(out / lance_folder(split)) as folder:
                batches = _batches(named, store if media else None, lambda: on_progress(next(clips), total))
                schema = named.schema.append(_BLOB) if media else named.schema
                lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches), str(folder))
    return {split: table.num_rows for split, table in tables.items()}


def _library() -> Any:
    try:
        import lance
    except ImportError as error:
        raise MachineError(f"--format lance needs Lance ({error}): pip install 'k710[lance]'") from None
    if not hasattr(lance, "write_dataset"):
        raise MachineError("the installed package `lance` is another one than Lance: pip install 'k710[lance]'")
    return lance


def _check_out(out: Path, tables: dict[str, pa.Table], *, force: bool) -> None:
    """As check_out; a folder that is replaced must be a dataset of Lance."""
    check_out(out, map(lance_folder, tables), force=force)
    for name in map(lance_folder, tables):
        if (out / name).exists() and not (out / name / "_versions").is_dir():
            raise ManifestError(f"{out / name}: is no dataset of Lance; choose another --out")


def _with_names(table: pa.Table, features: dict[str, Any]) -> pa.Table:
    """Each column of indices as two: the names, and the indices under the name of such columns in a manifest."""
    columns = {}
    for name in table.column_names:
        if names := features[name].get("names"):
            columns[name] = pa.chunked_array([pa.array(names).take(part) for part in table[name].chunks], pa.string())
            columns[name.removesuffix("label") + "class_id"] = table[name].cast(pa.int16())
        else:
            columns[name] = table[name]
    return pa.table(columns)


def _batches(table: pa.Table, store: Store | None, on_clip: Callable[[], None]) -> Iterator[pa.RecordBatch]:
    if store is None:
        yield from table.to_batches(max_chunksize=_BATCH_ROWS)
        return
    with StoredClips(store) as clips:
        for group in parts_of(table, _BATCH_BYTES):
            for part in (group.slice(start, _BATCH_ROWS) for start in range(0, group.num_rows, _BATCH_ROWS)):
                videos = [video and video["bytes"] for video in videos_of(part, clips, on_clip)]
                yield from part.append_column(_BLOB, pa.array(videos, _BLOB.type)).combine_chunks().to_batches()

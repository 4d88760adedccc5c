"""A folder for Hugging Face's `datasets`: a Parquet file per split with typed columns, and the card."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from k710.errors import ManifestError
from k710.export.croissant import CROISSANT
from k710.export.hf_videos import FEATURE as VIDEO_FEATURE
from k710.export.hf_videos import FILE_BYTES, VIDEO, check_room, check_videos, parts_of, video_files, write_videos
from k710.export.hf_videos import TYPE as VIDEO_TYPE
from k710.export.lists import check_out, held_folder, split_parts, write_files
from k710.manifest.listings import class_ids_of, split_name
from k710.manifest.read import Manifest
from k710.manifest.views import names_in, view
from k710.storage.storage import new_folder
from k710.store.store import Store

CARD = "README.md"

# The media columns of a clip: its failure, or the place of its bytes (a span of a tar) and their properties.
MEDIA = (
    *("failure", "tar", "offset", "size", "sha256", "suffix"),
    *("width", "height", "fps", "num_frames", "duration_s", "codec"),
)


def data_file(split: str, *, media: bool = False) -> str:
    """The file of a split inside the folder; with media, a pattern for its numbered files."""
    return f"data/{split}-*.parquet" if media else f"data/{split}.parquet"


def export_hf(
    manifest: Manifest,
    out: Path,
    *,
    view_name: str | None = None,
    dialect: str = "canonical",
    splits: tuple[str, ...] = (),
    store: Store | None = None,
    media: bool = False,
    card_of: Callable[[dict[str, int]], str] | None = None,
    croissant_of: Callable[[dict[str, bytes]], str] | None = None,
    force: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    chosen: pa.Table | None = None,
) -> dict[str, int]:
    """Write a view, or the `chosen` clips of it (selection.py), as a dataset folder; returns rows by split.

    Columns: clip_id, youtube_id, time_start_s, time_end_s, and `label`, a ClassLabel of the view's names in the order
    of the dialect (null in lists without labels). The view of the union also has {source}_split and {source}_label for
    each source of the manifest. With a store, there are the columns of MEDIA, null for a clip that is not settled.
    Every clip of the split has a row, fetched or not. With `media`, there is also the column `video` with the clip's
    video from the store, of the feature Video, and the files of a split are numbered; then no croissant.json is
    written. `on_progress(done, total)` counts these videos. `card_of` makes README.md from the rows by split, and
    `croissant_of` makes croissant.json from the Parquet files by split. Raises UsageError for an unknown view or
    dialect, or a split without clips; ManifestError for a folder that is a manifest, or an existing file without
    `force`; StoreError for a damaged store, and for videos that are not there or have no room.
    """
    tables, features = view_tables(manifest, view_name, dialect=dialect, splits=splits, store=store, chosen=chosen)
    counts = {split: table.num_rows for split, table in tables.items()}
    card_text = {CARD: card_of(counts).encode()} if card_of else {}
    if media:
        assert store is not None
        _export_videos(out, tables, _schema(features | {VIDEO: VIDEO_FEATURE}), store, card_text, force, on_progress)
        return counts
    contents = {data_file(split): _parquet(table) for split, table in tables.items()}
    names = [*contents, *card_text, *([CROISSANT] if croissant_of else ())]
    check_out(out, names, force=force)
    if croissant_of is not None:
        contents[CROISSANT] = croissant_of({split: contents[data_file(split)] for split in tables}).encode()
    with held_folder(out):
        check_out(out, names, force=force)  # check again, because another export may have finished
        write_files(out, contents | card_text)
    return counts


def view_tables(
    manifest: Manifest,
    view_name: str | None,
    *,
    dialect: str,
    splits: tuple[str, ...],
    store: Store | None,
    chosen: pa.Table | None = None,
) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """The rows of a view, or of the `chosen` clips of it, by split, with the columns that export_hf describes; and
    these columns as `datasets` names their kinds. Raises UsageError and StoreError as export_hf."""
    clips, view_name = manifest.clips, manifest.catalogue.check_view(view_name)
    table = view(clips, view_name, manifest.catalogue, dialect=dialect) if chosen is None else chosen
    parts = split_parts(table, splits)
    releases = manifest.sources if view_name == manifest.catalogue.union.name else ()
    stored = None if store is None else store.best_rows(("clip_id", *MEDIA)).combine_chunks()
    time = str(clips.schema.field("time_start_s").type).replace("double", "float64")
    names_of = partial(_names_of, manifest, dialect)
    features = _features(names_in(table), releases, names_of, time, with_media=store is not None)
    schema = _schema(features)
    tables = {}
    for split, part in parts.items():
        columns = {name: part[name] for name in ("clip_id", "youtube_id", "time_start_s", "time_end_s")}
        columns["label"] = part["class_id"].cast(pa.int64())
        columns |= _of_releases(clips, part, releases, manifest, dialect)
        if stored is not None:
            rows = pc.index_in(part["clip_id"], value_set=stored["clip_id"].combine_chunks())
            columns |= {name: stored[name].take(rows) for name in MEDIA}
        tables[split] = pa.table(columns, schema=schema)
    return tables, features


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    # The Hub's viewer and streaming readers need small row groups.
    pa.parquet.write_table(table, sink, compression="zstd", row_group_size=1 << 15)
    return bytes(sink.getvalue())


def _export_videos(
    out: Path,
    tables: dict[str, pa.Table],
    schema: pa.Schema,
    store: Store,
    card_text: dict[str, bytes],
    force: bool,
    on_progress: Callable[[int, int], None],
) -> None:
    """Write each split with its videos; the card comes last."""
    parts: dict[str, pa.Table] = {}
    for split, table in tables.items():
        cut = parts_of(table, FILE_BYTES)
        parts |= dict(zip(video_files(split, len(cut)), cut, strict=True))
    total = check_videos(tables, store)
    check_out(out, [*parts, *card_text], force=force)
    check_room(out, tables)
    clips = count(1)
    with held_folder(out), new_folder(out / "data"):
        check_out(out, [*parts, *card_text], force=force)
        _check_other_parts(out, tables, parts, force=force)
        for name, part in parts.items():
            write_videos(out / name, part, schema, store, on_clip=lambda: on_progress(next(clips), total))
        write_files(out, card_text)


def _check_other_parts(out: Path, splits: Iterable[str], parts: Iterable[str], *, force: bool) -> None:
    """Remove the files of these splits from an export with more or fewer parts, which a reader would take for clips of
    this one. Raises ManifestError for such files without `force`."""
    others = [path for split in splits for path in (out / "data").glob(f"{split}-?????-of-?????.parquet")]
    for path in others:
        if path.relative_to(out).as_posix() not in parts:
            if not force:
                raise ManifestError(f"{path}: exists already; --force replaces it")
            path.unlink()


def _names_of(manifest: Manifest, dialect: str, view: str) -> tuple[str, ...]:
    """The class names of a view in the dialect; a source that the manifest describes has one order."""
    return manifest.class_names(view, "canonical" if manifest.catalogue.is_own(view) else dialect)


def _of_releases(
    clips: pa.Table, part: pa.Table, releases: Iterable[str], manifest: Manifest, dialect: str
) -> dict[str, Any]:
    """The split and the label of a split's clips in each release."""
    rows = pc.index_in(part["clip_id"], value_set=clips["clip_id"].combine_chunks())
    columns = {}
    for source in releases:
        index = {label: number for number, label in enumerate(_names_of(manifest, dialect, source))}
        to_dialect = pa.array([index[label] for label in manifest.class_names(source)], pa.int64())
        columns[split_name(source)] = clips[split_name(source)].take(rows).cast(pa.string())
        columns[f"{source}_label"] = to_dialect.take(class_ids_of(clips, source).take(rows).combine_chunks())
    return columns


def _features(
    names: Iterable[str],
    releases: Iterable[str],
    names_of: Callable[[str], tuple[str, ...]],
    time: str,
    *,
    with_media: bool,
) -> dict[str, Any]:
    """The columns in the form that `datasets` writes into its own Parquet files. `time` is the kind of the times."""

    def value(kind: str) -> dict[str, Any]:
        return {"dtype": kind, "_type": "Value"}

    def label(names: Iterable[str]) -> dict[str, Any]:
        return {"names": list(names), "_type": "ClassLabel"}

    features = {"clip_id": value("string"), "youtube_id": value("string")}
    features |= {"time_start_s": value(time), "time_end_s": value(time)}
    features["label"] = label(names)
    for source in releases:
        features[split_name(source)] = value("string")
        features[f"{source}_label"] = label(names_of(source))
    if with_media:
        kinds = {"offset": "int64", "size": "int64", "fps": "float64", "duration_s": "float64"}
        kinds |= dict.fromkeys(("width", "height", "num_frames"), "int32")
        features |= {name: value(kinds.get(name, "string")) for name in MEDIA}
    return features


def _schema(features: dict[str, Any]) -> pa.Schema:
    kinds = {"string": pa.string(), "int32": pa.int32(), "int64": pa.int64(), "float64": pa.float64()}
    fields = [
        pa.field(name, VIDEO_TYPE if feature == VIDEO_FEATURE else kinds[feature.get("dtype", "int64")])
        for name, feature in features.items()
    ]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})

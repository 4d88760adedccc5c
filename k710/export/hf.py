"""A folder for Hugging Face's `datasets`: a Parquet file per split with typed columns, and the card."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from k710.export.lists import check_out, held_folder, split_parts, write_files
from k710.manifest.listings import class_ids_of, split_name
from k710.manifest.read import Manifest
from k710.manifest.views import names_in, view
from k710.sources.known import UNION
from k710.store.store import Store

CARD = "README.md"

# The media columns of a clip: its failure, or the place of its bytes (a span of a tar) and their properties.
MEDIA = (
    *("failure", "tar", "offset", "size", "sha256", "suffix"),
    *("width", "height", "fps", "num_frames", "duration_s", "codec"),
)


def data_file(split: str) -> str:
    """The file of a split inside the folder."""
    return f"data/{split}.parquet"


def export_hf(
    manifest: Manifest,
    out: Path,
    *,
    view_name: str = "k710",
    dialect: str = "canonical",
    splits: tuple[str, ...] = (),
    store: Store | None = None,
    card_of: Callable[[dict[str, int]], str] | None = None,
    force: bool = False,
    chosen: pa.Table | None = None,
) -> dict[str, int]:
    """Write a view, or the `chosen` clips of it (selection.py), as a dataset folder; returns rows by split.

    Columns: clip_id, youtube_id, time_start_s, time_end_s, and `label`, a ClassLabel of the view's names in the order
    of the dialect (null in lists without labels). View k710 also has {release}_split and {release}_label for each
    release of the manifest. With a store, there are the columns of MEDIA, null for a clip that is not settled. Every
    clip of the split has a row, fetched or not. `card_of` makes README.md from the rows by split. Raises UsageError for
    an unknown view or dialect, or a split without clips; ManifestError for a folder that is a manifest, or an existing
    file without `force`; StoreError for a damaged store.
    """
    clips = manifest.clips
    table = view(clips, view_name, manifest.catalogue, dialect=dialect) if chosen is None else chosen
    parts = split_parts(table, splits)
    names = [*map(data_file, parts), *([CARD] if card_of else ())]
    check_out(out, names, force=force)
    releases = manifest.sources if view_name == UNION.name else ()
    media = None if store is None else store.best_rows(("clip_id", *MEDIA)).combine_chunks()
    time = str(clips.schema.field("time_start_s").type).replace("double", "float64")
    names_of = partial(_names_of, manifest, dialect)
    features = _features(names_in(table), releases, names_of, time, with_media=store is not None)
    schema = _schema(features)
    contents = {}
    for split, part in parts.items():
        columns = {name: part[name] for name in ("clip_id", "youtube_id", "time_start_s", "time_end_s")}
        columns["label"] = part["class_id"].cast(pa.int64())
        columns |= _of_releases(clips, part, releases, manifest, dialect)
        if media is not None:
            rows = pc.index_in(part["clip_id"], value_set=media["clip_id"].combine_chunks())
            columns |= {name: media[name].take(rows) for name in MEDIA}
        sink = pa.BufferOutputStream()
        # The Hub's viewer and streaming readers need small row groups.
        pa.parquet.write_table(pa.table(columns, schema=schema), sink, compression="zstd", row_group_size=1 << 15)
        contents[data_file(split)] = bytes(sink.getvalue())
    counts = {split: part.num_rows for split, part in parts.items()}
    if card_of is not None:
        contents[CARD] = card_of(counts).encode()
    with held_folder(out):
        check_out(out, names, force=force)  # check again, because another export may have finished
        write_files(out, contents)
    return counts


def _names_of(manifest: Manifest, dialect: str, view: str) -> tuple[str, ...]:
    """The class names of a view in the dialect; a source that the manifest describes has one order."""
    own = view in manifest.catalogue.sources and manifest.catalogue[view].is_own
    return manifest.class_names(view, "canonical" if own else dialect)


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
    fields = [pa.field(name, kinds[feature.get("dtype", "int64")]) for name, feature in features.items()]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})

"""Which clips a dataset has, and where they are: a view and split of the manifest, joined with a store or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.errors import LoadError, UsageError
from k710.loading.clip_index import NO_CLASS, ClipIndex, cached_index, index_table, joined, lists_of_rows
from k710.manifest.file_names import names_of_files
from k710.manifest.read import Manifest
from k710.manifest.views import split_of, view, view_columns
from k710.sources.source import SPLITS
from k710.store.local_files import LocalFiles
from k710.store.store import Store, best_of, fetch_command

_DECIDING = ("clip_id", "failure", "settled_at")
_COPIED = ("offset", "size", "num_frames")
_FRAMES = ("frame_offsets", "frame_indices")


def clips_of_store(manifest: Manifest, store: Store, *, view: str, split: str, dialect: str) -> ClipIndex:
    """The clips of a view's split that the store has. Raises UsageError for an unknown view, split or dialect, or one
    that the manifest lacks, LoadError where the store has none of them, StoreError where it is damaged, RemoteError
    where it is at a URL that cannot be read."""
    _check(manifest, view, split)
    units = store.unit_versions()
    root = store.root.resolve()  # the index outlives the folder that this process works in
    tars_folder = Store(root, store.profile_folder).tars_folder
    slot = [str(manifest.path.resolve()), str(root), store.profile_folder, view, split, dialect]

    def make() -> pa.Table:
        with ThreadPoolExecutor(1) as aside:
            reading = aside.submit(_media_rows, store)
            wanted = _wanted(manifest, view, split, dialect)
            media = reading.result()
        row = best_of(media, wanted["clip_id"].combine_chunks())
        there = row >= 0
        failed = media["failure"].is_valid().to_numpy()[row[there]]
        num_failed = int(failed.sum())
        there[there] = ~failed
        row = row[there]
        if not len(row):
            raise LoadError(
                f"{store.root}: has no {view} {split} clip in profile {store.profile_folder} "
                f"({len(wanted):,} are wanted, {num_failed:,} of them failed); "
                f"`{fetch_command(manifest.path, store)}` brings them"
            )
        with ThreadPoolExecutor(1) as aside:
            copying = aside.submit(lambda: {name: lists_of_rows(media[name], row) for name in _FRAMES})
            # Of columns in many pieces, NumPy takes rows several times faster than Arrow does.
            columns = {name: pa.array(media[name].fill_null(0).to_numpy()[row]) for name in _COPIED}
            columns["file"] = _files(media["tar"], row)
            columns["digest"] = pa.array(_digests(media["sha256"])[row])
            for name in ("clip_id", "class_id"):
                columns[name] = wanted[name].filter(pa.array(there)).combine_chunks()
            columns |= copying.result()
        for tar in columns["file"].dictionary.to_pylist():
            store.tar(tar)  # no name leads out of the folder
        counts = {"in_split": len(wanted), "loaded": len(row), "failed": num_failed}
        return index_table(columns, {"folder": str(tars_folder), "in_tars": True, "counts": counts})

    return cached_index([manifest.content_hash, slot, units], slot, make)


def _media_rows(store: Store) -> pa.Table:
    # Indices of evenly spread frames can be computed; stored, they would be a third of the whole index.
    return store.rows((*_DECIDING, *_COPIED, "tar", "sha256", *_FRAMES), even_indices=False)


def _files(tars: pa.ChunkedArray, row: npt.NDArray[np.int64]) -> pa.DictionaryArray:
    """The tars of these rows. The dictionary holds no others."""
    encoded = tars.dictionary_encode().unify_dictionaries()
    codes = np.concatenate([chunk.indices.fill_null(-1).to_numpy() for chunk in encoded.chunks])[row]
    used = np.bincount(codes) > 0
    new_codes = np.cumsum(used, dtype=np.int32) - 1
    dictionary = encoded.chunk(0).dictionary.take(pa.array(np.flatnonzero(used)))
    return pa.DictionaryArray.from_arrays(pa.array(new_codes[codes]), dictionary)


def clips_of_folder(manifest: Manifest, folder: Path, *, view: str, split: str, dialect: str) -> ClipIndex:
    """As `clips_of_store`, of a plain folder of clip files, in any of the layouts that `k710 fetch` reads.

    A file that is named by its video alone is taken for the clip that is the whole video, and for a clip with a span
    where the manifest has one span of that video. No file is looked into. Raises FetchError where it is no folder.
    """
    _check(manifest, view, split)
    files = LocalFiles(folder.resolve(), names=names_of_files(manifest))
    wanted = _wanted(manifest, view, split, dialect, ("clip_id", "youtube_id"))
    one_span = _videos_with_one_span(manifest) if files.by_video else set()
    ids, classes, paths = [], [], []
    for clip_id, youtube_id, class_id in zip(
        *(wanted[name].to_pylist() for name in ("clip_id", "youtube_id", "class_id")), strict=True
    ):
        is_video = clip_id == youtube_id or youtube_id in one_span  # a clip without a span is the whole video
        found = files.by_span.get(clip_id) or (is_video and files.by_video.get(youtube_id)) or ()
        if found:
            ids.append(clip_id)
            classes.append(class_id)
            paths.append(found[0])
    if not ids:
        raise LoadError(f"{folder}: holds none of the {len(wanted):,} {view} {split} clips")
    table = index_table(
        {
            "clip_id": pa.array(ids, pa.string()),
            "class_id": pa.array(classes, pa.int16()),
            "file": pa.array(paths, pa.string()).dictionary_encode(),
            "offset": pa.array(np.zeros(len(ids), np.int64)),
            "size": pa.array(np.full(len(ids), -1)),
            "digest": pa.array(np.zeros(len(ids), np.uint64)),
            "num_frames": pa.array(np.zeros(len(ids), np.int32)),
        },
        {
            "folder": str(files.folder),
            "in_tars": False,
            "counts": {"in_split": len(wanted), "loaded": len(ids), "failed": 0},
        },
    )
    slot = [str(manifest.path.resolve()), str(files.folder), view, split, dialect]
    return cached_index([manifest.content_hash, slot, paths], slot, lambda: table)


def _check(manifest: Manifest, name: str, split: str) -> None:
    manifest.catalogue.check_view(name)
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")


def _wanted(manifest: Manifest, name: str, split: str, dialect: str, shown: Sequence[str] = ("clip_id",)) -> pa.Table:
    """The `shown` columns and class_id (-1 without label) of a view's split."""
    columns = view_columns(name, manifest.catalogue, shown)
    table = split_of(
        view(manifest.read_clips(columns), name, manifest.catalogue, dialect=dialect),
        split,
    )
    if not len(table):
        raise UsageError(f"{manifest.path}: view {name} has no {split} clips")
    filled = pc.fill_null(table["class_id"], NO_CLASS)
    return table.set_column(table.column_names.index("class_id"), "class_id", filled)


def _digests(sha256: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """The first 16 hexadecimal digits of each as a number; 0 for null."""
    digits = pc.binary_slice(sha256.cast(pa.binary()), 0, 16).cast(pa.string())  # as text, each character is looked at
    digits = pc.fill_null(digits, "0" * 16).combine_chunks()
    return np.frombuffer(bytes.fromhex(joined(digits, "").to_pybytes().decode()), ">u8").astype(np.uint64)


def _videos_with_one_span(manifest: Manifest) -> set[str]:
    counts = pc.value_counts(manifest.read_clips(["youtube_id"])["youtube_id"])
    once = pc.equal(counts.field("counts"), 1)
    return set(counts.field("values").filter(once).to_pylist())

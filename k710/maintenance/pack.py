"""Training shards for those who stream: uniform, class-mixed, of one view and split; made from store and manifest.

OUT/
    {view}-{split}-{number:06d}.tar   WebDataset samples: {clip_id}.mp4, {clip_id}.cls, {clip_id}.json
    shards.json                       what they hold and were made of, and an index of wids; written last
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.errors import BusyError, StoreError, UsageError
from k710.fetch.store_unit import FRAME_KEYS, write_member
from k710.loading.shard import COMMIT, SHARD
from k710.maintenance.stored_clips import StoredClips
from k710.manifest.read import Manifest
from k710.manifest.views import split_of, view
from k710.storage.download import cache_folder
from k710.storage.remote import RemotePath
from k710.storage.storage import HashedFile, Location, held, replacing
from k710.store.store import Store, fetch_command
from k710.text import data_size

UNLABELLED = -1


@dataclass(frozen=True)
class Packing:
    """What to pack and how. `shard_clips` is the most that a shard may hold; all hold as many, give or take one."""

    view: str
    split: str
    dialect: str = "canonical"
    shard_clips: int = 500
    seed: int = 0


def class_mixed_order(class_ids: npt.NDArray[np.int16], seed: int) -> npt.NDArray[np.int64]:
    """A seeded order in which the clips of every class are spread evenly, so that any stretch of it is mixed.

    `class_ids`: (clips,), in clip_id order. Each class is shuffled and laid out at equal distances from a random start.
    """
    random = np.random.default_rng(seed)
    place = np.empty(len(class_ids))
    for class_id in np.unique(class_ids):
        members = np.flatnonzero(class_ids == class_id)
        place[random.permutation(members)] = (np.arange(len(members)) + random.random()) / len(members)
    return np.lexsort((random.random(len(place)), place))


def pack(
    manifest: Manifest,
    store: Store,
    out: Location,
    packing: Packing,
    *,
    force: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write the shards of a view and split to `out`, whole or not at all; returns what shards.json says. At a URL,
    shards that are replaced are gone until the new ones are there. `on_progress(done, total)` counts packed clips.

    Clips that are not in the store are left out and counted. The same manifest, store and seed give the same bytes.
    Raises UsageError for an unknown view, split or dialect, StoreError where nothing of it is in the store, a clip
    is damaged, the disk has no room, or `out` holds something else; BusyError where another process packs into it.
    """
    _check_name(out)
    with _held(out):
        return _pack(manifest, store, out, packing, force=force, on_progress=on_progress)


def _pack(
    manifest: Manifest,
    store: Store,
    out: Location,
    packing: Packing,
    *,
    force: bool,
    on_progress: Callable[[int, int], None],
) -> dict[str, Any]:
    rows, missing = _rows(manifest, store, packing)
    if (out / COMMIT).exists() and not force:
        raise StoreError(f"{out}: shards are there already; --force replaces them")
    _check_out(out, rows)
    order = class_mixed_order(np.array([row["class_id"] for row in rows], np.int16), packing.seed)
    about: dict[str, Any] = {
        **vars(packing),
        "manifest": manifest.checked_content_hash(),
        "profile": store.profile_folder,
        "clips": len(rows),
        "missing": missing,
        **({"labels": list(names)} if (names := _own_labels(manifest, packing)) else {}),
        "shards": [],
    }
    with _replacing_folder(out) as folder, StoredClips(store) as tars:
        parts = np.array_split(order, -(-len(rows) // packing.shard_clips))
        for number, part in enumerate(parts):
            on_progress(sum(shard["clips"] for shard in about["shards"]), len(rows))
            name = f"{packing.view}-{packing.split}-{number:06d}.tar"
            about["shards"].append(_write_shard(folder / name, [rows[index] for index in part], packing, tars))
        if isinstance(folder, RemotePath):
            _check_alone(folder, about["shards"])
        about |= _wids_index(about["shards"])
        with replacing(folder / COMMIT) as file:
            file.write((json.dumps(about, indent=1) + "\n").encode())
    return about


def _wids_index(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """What makes shards.json an index of wids, the random access of WebDataset: see `wids_specs.py` of wids 0.1."""
    listed = [{"url": one["file"], "nsamples": one["clips"], "filesize": one["bytes"]} for one in shards]
    return {"wids_version": 1, "shardlist": listed}


def _own_labels(manifest: Manifest, packing: Packing) -> tuple[str, ...]:
    """The classes of a view that only its manifest knows; none for another view."""
    return manifest.class_names(packing.view) if manifest.catalogue.is_own(packing.view) else ()


def _held(out: Location) -> AbstractContextManager[None]:
    """`out` as this pack's alone; at a URL, as far as this machine goes."""
    if isinstance(out, Path):
        return held(out)
    name = hashlib.sha256(str(out).encode()).hexdigest()[:16]
    return held(out, cache_folder() / "locks" / f"{name}.lock")


def _check_name(out: Location) -> None:
    """Raises UsageError for an `out` without a name."""
    if out.name in ("", ".."):
        raise UsageError(f"--out {out}: the shards need a folder with a name, such as shards/k400-train")


def _check_out(out: Location, rows: list[dict[str, Any]]) -> None:
    """Raise StoreError where `out` holds something else, or has no room; UsageError for a URL that takes no shards."""
    foreign: list[Location] = []
    if isinstance(out, RemotePath):
        out.check_writable()
        # An interrupted pack leaves shards there that nothing commits.
        foreign = [path for path in out.iterdir() if path.name != COMMIT and not SHARD.fullmatch(path.name)]
    elif out.is_dir():
        ours = (out / COMMIT).exists()
        foreign = [path for path in out.iterdir() if not (ours and (path.name == COMMIT or SHARD.fullmatch(path.name)))]
    elif out.exists():
        foreign = [out]
    if foreign:
        raise StoreError(f"{out}: holds something else ({foreign[0].name!r}); choose another --out")
    if isinstance(out, Path):
        out.parent.mkdir(parents=True, exist_ok=True)
        needed, free = sum(row["size"] + 4096 for row in rows), shutil.disk_usage(out.parent).free
        if needed > free:
            raise StoreError(f"{out}: {data_size(needed)} are needed, {data_size(free)} are free")


def _rows(manifest: Manifest, store: Store, packing: Packing) -> tuple[list[dict[str, Any]], int]:
    """The rows of the view's split that the store has, media and labels together; and how many it has not."""
    if packing.shard_clips < 1:
        raise UsageError(f"a shard holds at least one clip, not {packing.shard_clips}")
    wanted = split_of(view(manifest.clips, packing.view, manifest.catalogue, dialect=packing.dialect), packing.split)
    if not wanted.num_rows:
        raise UsageError(f"{manifest.path}: view {packing.view} has no {packing.split} clips")
    media = store.best_rows(("clip_id", "failure", *_PLACE, *_FACTS, *FRAME_KEYS))
    media = media.filter(pc.is_null(media["failure"])).drop_columns("failure")
    # Both are in clip_id order; Arrow's own join takes no lists along.
    place = pc.index_in(media["clip_id"], wanted["clip_id"].combine_chunks()).combine_chunks()
    joined, wanted_here = media.filter(pc.is_valid(place)), wanted.take(place.drop_null())
    for field in _JOINED:
        if field.name != "clip_id":
            joined = joined.append_column(field, wanted_here[field.name].cast(field.type))
    if not joined.num_rows:
        of_what = f"{packing.view} {packing.split} clip in profile {store.profile_folder}"
        raise StoreError(f"{store.root}: has no {of_what}; `{fetch_command(manifest.path, store)}` brings them")
    class_id = joined.column_names.index("class_id")
    joined = joined.set_column(class_id, "class_id", pc.fill_null(joined["class_id"], UNLABELLED))
    return joined.to_pylist(), wanted.num_rows - joined.num_rows


_PLACE = ("tar", "offset", "size", "sha256", "suffix")
_FACTS = ("width", "height", "fps", "num_frames")
_JOINED = pa.schema([("clip_id", pa.string()), ("label", pa.string()), ("class_id", pa.int16())])


def _write_shard(path: Location, rows: list[dict[str, Any]], packing: Packing, tars: StoredClips) -> dict[str, Any]:
    with replacing(path) as file:
        hashed = HashedFile(file)
        for row, media in zip(rows, tars.read_all(rows), strict=True):
            about = {key: row[key] for key in (*_JOINED.names, *_FACTS, *(FRAME_KEYS if row["frame_offsets"] else ()))}
            about |= {"view": packing.view, "split": packing.split, "dialect": packing.dialect}
            write_member(hashed, f"{row['clip_id']}.{row['suffix']}", media)
            write_member(hashed, f"{row['clip_id']}.cls", str(row["class_id"]).encode())
            write_member(hashed, f"{row['clip_id']}.json", json.dumps(about).encode())
        hashed.write(bytes(1024))
    return {"file": path.name, "clips": len(rows), "bytes": hashed.size_bytes, "sha256": hashed.sha256}


def _check_alone(out: RemotePath, shards: list[dict[str, Any]]) -> None:
    """Raises BusyError where the shards at a URL are not those that were put there: a pack on another machine, which no
    lock here knows of, has put its own among them."""
    found = {path.name: path.size_bytes for path in out.iterdir()}
    if found != {shard["file"]: shard["bytes"] for shard in shards}:
        raise BusyError(
            f"{out}: holds other shards than were written: another pack is at work there, and the shards of the two "
            "are mixed. Pack again with --force once both have ended"
        )


@contextmanager
def _replacing_folder(out: Location) -> Iterator[Location]:
    """A folder that becomes `out` when the block ends well; what an interrupted pack left is removed first.

    At a URL nothing can be renamed: `out` is emptied, its commit first, and what comes last commits it.
    """
    if isinstance(out, RemotePath):
        (out / COMMIT).unlink(missing_ok=True)
        for shard in out.iterdir():
            shard.unlink(missing_ok=True)
        yield out
        return
    part, old = (out.with_name(f".{out.name}.{word}") for word in ("part", "old"))
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        if out.exists():
            out.rename(old)
        part.rename(out)
    except BaseException as error:
        if isinstance(error, OSError) and Path(str(error.filename)).is_relative_to(part):
            # The user knows nothing of the folder in which the shards are made.
            error.filename = str(out / Path(str(error.filename)).relative_to(part))
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)

"""Writing a manifest: clips files first, then the commit; earlier versions are kept until `prune`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet

from k710.errors import ManifestError
from k710.manifest.listings import masks_of, sources_in
from k710.manifest.memberships import is_in_several
from k710.manifest.read import OWN_SOURCES, OWN_UNION, Manifest, open_commit
from k710.manifest.schema import (
    OWN_SOURCES_VERSION,
    OWN_UNION_VERSION,
    PAIRS_FILE,
    SCHEMA_VERSION,
    SEVERAL_SPLITS_VERSION,
    content_hash,
)
from k710.manifest.versions import COMMIT as _COMMIT
from k710.storage.remote import RemotePath
from k710.storage.storage import TEMPORARY_PREFIX, Location, alone, named_by_hash, new_folder, replacing
from k710.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_UNCOMMITTED_S = 86400.0  # at a URL, clips that no version lists are kept so long: a build may commit them
CLASSES_FILE = "classes.txt"  # a copy of an own union's classes, one a line in index order, for other tools
# What a manifest folder may hold.
_ALLOWED = {_COMMIT, "clips", "versions", "store", "README.md", "croissant.json", PAIRS_FILE, CLASSES_FILE}


def check_output(folder: Location, *, force: bool) -> None:
    """Raise ManifestError unless `folder` is new or empty, or holds a manifest that `force` allows to replace."""
    if isinstance(folder, RemotePath):
        folder.check_writable()
    if folder.is_dir():
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in _ALLOWED and path.name[0] != ".")
        if foreign:
            raise ManifestError(f"{folder}: holds {foreign[0]!r}, so it is no manifest folder; choose another --out")
        if (folder / _COMMIT).exists() and not force:
            raise ManifestError(
                f"{folder}: a manifest is there already; --force adds a new version and keeps the old one"
            )
    elif folder.exists():
        raise ManifestError(f"{folder}: is a file, not a folder; choose another --out")


def write_manifest(
    folder: Location,
    clips: pa.Table,
    details: dict[str, Any],
    *,
    force: bool = False,
    counts: Callable[[], dict[str, Any]] | None = None,
) -> Manifest:
    """Write `clips` (CLIPS_SCHEMA, in clip_id order) and commit them with `details` (sources, recipe, counts).

    `counts` gives the counts if `details` has none. It is called when the clips are written, so another thread can
    count them in the same time.

    Killed at any moment, this leaves the old manifest or the new one. An old version stays until `prune`. Where two
    write at once on this machine's disks, the second waits for the first and then checks the folder again. Raises
    ManifestError as `check_output` does.
    """
    check_output(folder, force=force)
    with new_folder(folder), _only_writer(folder), new_folder(folder / "clips"):
        check_output(folder, force=force)
        before = _files(folder)
        # Hashing and writing both take a while and leave Python's lock free, so they run at the same time.
        with ThreadPoolExecutor(1) as pool:
            hashing = pool.submit(content_hash, clips)
            entry = _write_clips(folder, clips)
            clips_hash = hashing.result()
        details = details if counts is None else details | {"counts": counts()}
        dataset = {
            "schema_version": _schema_version(clips, details),
            "content_hash": clips_hash,
            "clips": [entry],
            **details,
            "tools": {"k710": __version__, "pyarrow": pa.__version__, "python": platform.python_version()},
        }
        commit = (json.dumps(dataset, indent=1) + "\n").encode()
        names = "".join(f"{name}\n" for name in details.get(OWN_UNION, {}).get("classes", ())).encode()
        try:
            _keep_old_version(folder, commit)
            if (folder / CLASSES_FILE).exists() and (folder / CLASSES_FILE).read_bytes() != names:
                (folder / CLASSES_FILE).unlink()  # before the commit: a copy may be missing, never another union's
            with replacing(folder / _COMMIT) as file:
                file.write(commit)
        except BaseException:
            # At a URL the put may have succeeded although its answer was lost: then the new clips are needed.
            if isinstance(folder, Path):
                for path in _files(folder) - before:
                    path.unlink()
                with contextlib.suppress(OSError):
                    (folder / "versions").rmdir()  # if it is empty
            raise
        if names:
            with replacing(folder / CLASSES_FILE) as file:
                file.write(names)
    return Manifest(folder, dataset)


def _schema_version(clips: pa.Table, details: dict[str, Any]) -> str:
    if details.get(OWN_UNION):
        return OWN_UNION_VERSION
    if details.get(OWN_SOURCES):
        return OWN_SOURCES_VERSION
    several = any(is_in_several(masks_of(clips, source)).any() for source in sources_in(clips.column_names))
    return SEVERAL_SPLITS_VERSION if several else SCHEMA_VERSION


@contextlib.contextmanager
def _only_writer(folder: Location) -> Iterator[None]:
    """Keeps other builds and prunes out of this folder: each removes files that no version lists. At a URL there are no
    locks."""
    if isinstance(folder, RemotePath):
        yield
        return
    with alone(folder / ".lock", needed=False):
        yield


def _write_clips(folder: Location, clips: pa.Table) -> dict[str, Any]:
    """Write the clips file, the same bytes for the same rows under one pyarrow; returns its entry for dataset.json."""
    with named_by_hash(folder / "clips", "clips-{}.parquet") as file:
        pa.parquet.write_table(
            clips,
            file,
            compression="zstd",
            row_group_size=1 << 17,
            # Clips are sorted by clip_id, so its ranges show where a clip is; the ranges of other columns help nobody.
            write_statistics=["clip_id"],
            # IDs do not repeat, but sorted ones share their beginnings. The values of all other columns repeat.
            use_dictionary=[field.name for field in clips.schema if field.type != pa.string()],
            column_encoding={"clip_id": "DELTA_BYTE_ARRAY", "youtube_id": "DELTA_BYTE_ARRAY"},
        )
    name = f"clips/clips-{file.sha256[:16]}.parquet"
    return {"file": name, "rows": clips.num_rows, "bytes": file.size_bytes, "sha256": file.sha256}


def _files(folder: Location) -> set[Location]:
    return {path for inside in ("clips", "versions") for path in folder.glob(f"{inside}/*")}


def _keep_old_version(folder: Location, new_commit: bytes) -> None:
    content = (folder / _COMMIT).read_bytes() if (folder / _COMMIT).exists() else new_commit
    if content == new_commit:
        return
    try:
        name = open_commit(folder, folder / _COMMIT).content_hash
    except ManifestError:  # damaged, or of a newer k710: kept as it is
        name = hashlib.sha256(content).hexdigest()
    with new_folder(folder / "versions"), replacing(folder / "versions" / f"{name[:16]}.json") as file:
        file.write(content)


def prune(folder: Location) -> list[Location]:
    """Remove earlier versions and the files of interrupted builds; returns them. The committed manifest stays.

    At a URL, clips that no version lists are kept for a day: a build may be about to commit them.
    """
    open_commit(folder, folder / _COMMIT)
    with _only_writer(folder):
        current = {entry["file"] for entry in open_commit(folder, folder / _COMMIT).about["clips"]}
        old: list[Location] = [*folder.glob("versions/*.json")]  # first, so that no version is left without its clips
        listed = {file for version in old for file in _listed(version)}
        for path in folder.glob("clips/clips-*.parquet"):
            if (file := f"clips/{path.name}") not in current and (file in listed or not _may_be_committed(path)):
                old.append(path)
        for inside in (folder, folder / "clips", folder / "versions"):
            old += inside.glob(f"{TEMPORARY_PREFIX}*")
        for path in old:
            path.unlink()
    return sorted(old)


def _listed(version: Location) -> list[str]:
    """The clips files of an earlier version; none where it is damaged."""
    try:
        return [str(entry["file"]) for entry in json.loads(version.read_bytes())["clips"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _may_be_committed(clips: Location) -> bool:
    return isinstance(clips, RemotePath) and (clips.age_s or 0.0) < _UNCOMMITTED_S

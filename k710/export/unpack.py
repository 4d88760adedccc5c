"""Clips of a store as files of their own: flat, in class folders, or where a template puts them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k710.engine.engine import Stop
from k710.errors import ManifestError, StoreError, UsageError
from k710.export.paths import FRAME_FILE, check_template, clip_rows, path_of
from k710.maintenance.stored_clips import StoredClips
from k710.manifest.file_names import names_of_files
from k710.manifest.read import Manifest
from k710.storage.storage import TEMPORARY_PREFIX, held, new_folder, replacing, replacing_folder
from k710.store.local_files import LocalFiles
from k710.store.store import Store
from k710.text import counted, data_size

FLAT = "{clip_id}"
FOLDERS = {"none": FLAT, "spaces": "{label}/{clip_id}", "underscores": "{label_}/{clip_id}"}
MAX_NAME_BYTES = 255
_AT_ONCE, _WRITERS = 64, 8  # clips in memory, and threads: most of the time goes into waiting for the disk
_PLACE = ("tar", "offset", "size", "sha256", "suffix", "frame_offsets")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Unpacking:
    """How the clips are named: `template` as for lists (paths.py), without a suffix, which is that of the stored file;
    `frame_name` is a frame's name in the folder of a clip that is stored as JPEGs, with its number from 1 in braces.
    `link_from`: a folder with files of the clips, which are hard-linked where they hold the stored bytes."""

    template: str = FLAT
    frame_name: str = FRAME_FILE
    link_from: Path | None = None

    def checked(self) -> Unpacking:
        """The value itself. Raises UsageError for a template that leaves the folder or names a frame badly."""
        check_template(self.template)
        parts = PurePosixPath(self.template).parts
        if self.template.startswith("/") or ".." in parts:
            raise UsageError(f"path template {self.template!r} leads out of --out")
        try:
            first, second = (self.frame_name.format(number) for number in (1, 2))
        except (ValueError, IndexError, KeyError, AttributeError) as error:
            raise UsageError(
                f"frame name {self.frame_name!r}: {error}; want one number, such as {FRAME_FILE}"
            ) from None
        if first == second or "/" in first or _CONTROL.search(first) or first.startswith("."):
            raise UsageError(f"frame name {self.frame_name!r}: want a file name with one number, such as {FRAME_FILE}")
        return self


@dataclass
class Unpacked:
    """Clips by what became of them."""

    written: int = 0
    linked: int = 0
    there: int = 0
    size_bytes: int = 0

    @property
    def clips(self) -> int:
        return self.written + self.linked + self.there


def unpack(
    manifest: Manifest,
    table: pa.Table,
    store: Store,
    out: Path,
    how: Unpacking,
    *,
    force: bool = False,
    stop: Stop | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Unpacked:
    """Write the clips of a view (views.view), all of which the store has, as files below `out`.

    A clip of profile `frames` becomes a folder of JPEGs. A file with the clip's name and size is taken for it, so a
    second run goes on where the first ended. Each file, or folder of a clip, is written whole or not at all.
    `on_progress(done, total)` counts clips. Raises UsageError for a bad template, for two clips with one path, or a
    path that no file can have; StoreError for a damaged clip, for something else in a clip's place without `force`, and
    where the disk has no room; BusyError where another process writes there.
    """
    rows = _rows(table, store, how.checked())
    if (out / "dataset.json").exists():
        raise ManifestError(f"{out}: is a manifest, which holds nothing else; choose another --out")
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out}: is no folder")
    originals = _Originals(how.link_from, manifest) if how.link_from else None
    done = Unpacked()
    with new_folder(out), held(out, out / ".lock"):
        _check_case(out, rows)
        todo = [row for row in rows if not _is_there(out, row, how, force=force)]
        done.there = len(rows) - len(todo)
        if originals is None:
            _check_room(out, todo)
        for folder in {(out / row["path"]).parent for row in todo if (out / row["path"]).parent.is_dir()}:
            _remove_leftovers(folder)
        try:
            with StoredClips(store) as clips:
                _write_all(out, todo, clips, originals, how, done, stop or Stop(), on_progress)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            there = sum((out / row["path"]).exists() for row in rows)
            raise StoreError(
                f"{out}: the disk is full; {there:,} of {counted(len(rows), 'clip')} are there. Make room, and "
                "the same command goes on"
            ) from None
    return done


def _write_all(
    out: Path,
    todo: list[dict[str, Any]],
    clips: StoredClips,
    originals: _Originals | None,
    how: Unpacking,
    done: Unpacked,
    stop: Stop,
    on_progress: Callable[[int, int], None],
) -> None:
    inside = out.resolve()
    with ThreadPoolExecutor(_WRITERS) as pool:
        for start in range(0, len(todo), _AT_ONCE):
            if stop.asked:
                return
            some = todo[start : start + _AT_ONCE]
            for row in some:
                _check_inside(inside, out / row["path"])
            copied = [row for row in some if not (originals and originals.link(row, out / row["path"]))]
            done.linked += len(some) - len(copied)
            for size_bytes in pool.map(partial(_write, out, how), copied, clips.read_all(copied)):
                done.written += 1
                done.size_bytes += size_bytes
            on_progress(start + len(some), len(todo))


def _write(out: Path, how: Unpacking, row: dict[str, Any], media: bytes) -> int:
    """Write a clip; returns its bytes."""
    path = out / row["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    if row["frame_offsets"]:
        _write_frames(path, media, row, how)
    else:
        with replacing(path) as file:
            file.write(media)
    return len(media)


def _rows(table: pa.Table, store: Store, how: Unpacking) -> list[dict[str, Any]]:
    """The clips with their paths and their places in the store, in the order of these places."""
    media = store.best_rows(("clip_id", *_PLACE)).combine_chunks()
    found = media.take(pc.index_in(table["clip_id"], value_set=media["clip_id"].combine_chunks())).to_pylist()
    rows, seen = [], dict[str, str]()
    for row, place in zip(clip_rows(table), found, strict=True):
        path = path_of(row, how.template)
        if not place["frame_offsets"] and not path.endswith(f".{place['suffix']}"):
            path = f"{path}.{place['suffix']}"
        if problem := _path_problem(path):
            raise UsageError(f"clip {row['clip_id']}: its path would be {path!r}, {problem}; choose another --template")
        if (other := seen.setdefault(path, row["clip_id"])) != row["clip_id"]:
            raise UsageError(
                f"clips {other} and {row['clip_id']} would both be {path!r}; add {{clip_id}} to --template"
            )
        rows.append(place | {"path": path})
    return sorted(rows, key=lambda row: (row["tar"], row["offset"]))


def _path_problem(path: str) -> str | None:
    """Why no file below a folder can have this path; None for a good one."""
    parts = path.split("/")
    if any(not part or part.startswith(".") for part in parts):
        return "which has an empty name in it, or one that begins with a dot"
    if _CONTROL.search(path):
        return "which has control characters"
    try:
        longest = max(len(os.fsencode(part)) for part in parts)
    except UnicodeEncodeError:
        return "which no file can be called"
    # A temporary file stands beside it with a short name, so only the name itself counts.
    return f"with a name of {longest} bytes; at most {MAX_NAME_BYTES}" if longest > MAX_NAME_BYTES else None


def _check_case(out: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Raise UsageError where two paths differ in case alone and the file system takes them for one."""
    by_folded: dict[str, str] = {}
    pair = next(
        (
            (other, row["path"])
            for row in rows
            if (other := by_folded.setdefault(row["path"].casefold(), row["path"])) != row["path"]
        ),
        None,
    )
    if pair is None:
        return
    probe = out / f"{TEMPORARY_PREFIX}case"
    probe.touch()
    try:
        if (out / probe.name.upper()).exists():
            raise UsageError(f"{out}: this file system takes {pair[0]!r} and {pair[1]!r} for one; choose another --out")
    finally:
        probe.unlink()


def _check_inside(out: Path, path: Path) -> None:
    """Raise StoreError where a link among the folders of a path leads out of `out`."""
    parent = path.parent.resolve()
    if parent != out and out not in parent.parents:
        raise StoreError(f"{path.parent}: is a link that leads out of --out; remove it, or choose another --out")


def _is_there(out: Path, row: dict[str, Any], how: Unpacking, *, force: bool) -> bool:
    """Whether the clip's file, or the folder of its frames, is there. Raises StoreError for something else in its place
    without `force`."""
    path = out / row["path"]
    if not (path.exists() or path.is_symlink()):
        return False
    if row["frame_offsets"]:
        found = {file.name: file.stat().st_size for file in path.iterdir()} if path.is_dir() else {}
        same = found == {name: len(part) for name, part in _frames(None, row, how).items()}
    else:
        same = path.is_file() and not path.is_symlink() and path.stat().st_size == row["size"]
    if not same and (not force or (path.is_dir() and not row["frame_offsets"])):
        hint = "remove it" if path.is_dir() and not row["frame_offsets"] else "--force replaces it"
        raise StoreError(f"{path}: is something else than the clip {row['clip_id']} of this store; {hint}")
    return same


def _frames(media: bytes | None, row: dict[str, Any], how: Unpacking) -> dict[str, bytes | range]:
    """The frames of a clip by their names: their bytes, or without `media` where these stand."""
    ends = [*row["frame_offsets"][1:], row["size"]]
    places = [range(start, end) for start, end in zip(row["frame_offsets"], ends, strict=True)]
    return {
        how.frame_name.format(number): place if media is None else media[place.start : place.stop]
        for number, place in enumerate(places, 1)
    }


def _write_frames(path: Path, media: bytes, row: dict[str, Any], how: Unpacking) -> None:
    with replacing_folder(path) as folder:
        for name, jpeg in _frames(media, row, how).items():
            assert isinstance(jpeg, bytes)
            (folder / name).write_bytes(jpeg)


def _check_room(out: Path, todo: list[dict[str, Any]]) -> None:
    needed, free = sum(row["size"] + 4096 for row in todo), shutil.disk_usage(out).free
    if needed > free:
        raise StoreError(f"{out}: {data_size(needed)} are needed, {data_size(free)} are free")


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed run left in a folder of clips."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class _Originals:
    """Files of clips in a folder in any layout that `k710 fetch` reads, to be linked instead of copied."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._files = LocalFiles(folder.resolve(), names=names_of_files(manifest))
        self._is_other_disk = False

    def link(self, row: dict[str, Any], path: Path) -> bool:
        """Hard-link the file that holds exactly the clip's stored bytes to `path`; False where there is none, or where
        it lies in another file system."""
        if self._is_other_disk or row["frame_offsets"]:
            return False
        for inside in (*self._files.by_span.get(row["clip_id"], ()), *self._files.by_video.get(row["clip_id"], ())):
            original = (self._files.folder / inside).resolve()
            if original == path.resolve() or not _holds(original, row):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            private = path.parent / f"{TEMPORARY_PREFIX}{hashlib.sha256(path.name.encode()).hexdigest()[:16]}"
            try:
                with contextlib.suppress(FileNotFoundError):
                    private.unlink()
                os.link(original, private)
                private.replace(path)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                    raise
                self._is_other_disk = error.errno != errno.EMLINK
                return False
            return True
        return False


def _holds(path: Path, row: dict[str, Any]) -> bool:
    try:
        if path.stat().st_size != row["size"]:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() == str(row["sha256"])
    except OSError:
        return False

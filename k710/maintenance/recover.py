"""The clips of a unit whose media file cannot be read, out of its tars.

A tar holds each clip and its facts. Only the media file had the file that a clip came from, and the clips that failed.
The origin follows from the unit's name.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from k710.errors import StoreError
from k710.fetch.origins.archive_sets import ARCHIVE_SETS, unit_prefix
from k710.fetch.store_unit import FRAME_KEYS, SIDECAR_KEYS, StoreUnit, sha8
from k710.storage.storage import Location
from k710.store.store import MEDIA_SCHEMA, Store, unit_metadata

RECOVERED = "recovered"  # how the names of such units begin; the origin of their clips where it is unknown
# By how the unit's name begins. Of which folder, `local` does not say.
_ORIGINS = {"local-": "local"} | {unit_prefix(each, ""): each.origin for each in ARCHIVE_SETS}
_YOUTUBE = re.compile("youtube-[0-9a-f]{8}")  # of a mirror there are two such numbers


def recover(store: Store, file: Location, scratch: Path) -> int:
    """Replace a media file that cannot be read by one of the clips in its unit's tars; returns how many. The tars stay
    as they are; one that is altered, by the hash in its name, gives nothing. Where there is nothing, the file goes.
    """
    stem = file.stem.removeprefix(f"{RECOVERED}-")
    own = re.compile(rf"{re.escape(stem)}-[0-9]+-([0-9a-f]{{8}})\.tar")
    rows: list[dict[str, Any]] = []
    name = ""
    for tar in store.tars_folder.glob("*.tar"):
        if found := own.fullmatch(tar.name):
            rows += _rows_of(tar, found[1], scratch, origin=_origin(stem))
    if rows:
        unit = StoreUnit(store, RECOVERED, scratch)
        try:
            for row in rows:
                unit.carry(row, None)
            about = {"unit": RECOVERED, "origin": _origin(stem)} | _profile(store)
            name = unit.commit(about, name=f"{RECOVERED}-{stem}")
        except BaseException:
            unit.abandon()
            raise
    if name != file.stem:
        file.unlink()
    return len(rows)


def _origin(stem: str) -> str:
    """The origin of a unit's clips, as far as it follows from its name."""
    if _YOUTUBE.fullmatch(stem):
        return "youtube"
    return next((origin for begin, origin in _ORIGINS.items() if stem.startswith(begin)), RECOVERED)


def _rows_of(tar: Location, hashed: str, scratch: Path, *, origin: str) -> list[dict[str, Any]]:
    """The rows of the clips in a tar; none where it is altered."""
    age_s = time.time() - tar.stat().st_mtime if isinstance(tar, Path) else tar.age_s or 0.0
    written_at = datetime.now(timezone.utc) - timedelta(seconds=age_s)
    about = {"tar": tar.name, "origin": origin, "came_from": tar.name, "settled_at": written_at}
    with tar_here(tar, scratch) as path:
        if path is None or sha8(path) != hashed:
            return []
        try:
            return [dict.fromkeys(MEDIA_SCHEMA.names) | clip | about for clip in _clips_in(path)]
        except (tarfile.TarError, KeyError, ValueError):
            return []


def _clips_in(path: Path) -> Iterator[dict[str, Any]]:
    """What a tar of the store says of each of its clips: a member of media, then one of JSON."""
    with tarfile.open(path, "r:") as tar:
        while (media := tar.next()) is not None:
            sidecar = tar.next()
            content, text = (tar.extractfile(member) if member else None for member in (media, sidecar))
            if content is None or text is None:
                raise ValueError("a clip without its JSON")
            found = json.loads(text.read())
            clip = {key: found[key] for key in SIDECAR_KEYS} | {key: found.get(key) for key in FRAME_KEYS}
            name, _, suffix = media.name.rpartition(".")
            if name != clip["clip_id"] or hashlib.sha256(content.read()).hexdigest() != clip["sha256"]:
                raise ValueError(f"{media.name} is not what its JSON says")
            yield clip | {"suffix": suffix, "offset": media.offset_data}


def _profile(store: Store) -> dict[str, Any]:
    """The settings of the profile, by a unit of it that can be read; nothing where there is none."""
    for file in store.unit_files():
        try:
            metadata = unit_metadata(file)
        except StoreError:
            continue
        if metadata.get("profile"):
            return {"profile": metadata["profile"]}
    return {}


@contextmanager
def tar_here(tar: Location, scratch: Path | None) -> Iterator[Path | None]:
    """A tar as a file of this machine, one at a URL in the scratch folder for the time of the block; None if gone."""
    if isinstance(tar, Path):
        yield tar if tar.exists() else None
        return
    assert scratch is not None
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path: Path | None = Path(folder) / "tar"
        try:
            tar.get(Path(folder) / "tar")
        except FileNotFoundError:
            path = None
        yield path

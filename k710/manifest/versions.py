"""Earlier versions of a manifest, and how they are named: by the beginning of their content hash."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from k710.errors import ManifestError
from k710.storage.remote import RemotePath
from k710.storage.storage import Location

COMMIT = "dataset.json"
_FOLDER = "versions"
_FILE = re.compile(r"[0-9a-f]{16}\.json")
_HASH = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9a-f]{4,64}")


@dataclass(frozen=True)
class Version:
    """One version of a manifest: the current one, or one that a later build replaced."""

    name: str  # the first 16 digits of its content hash, or of its file's where it kept a damaged one
    commit: Location  # its dataset.json
    replaced_at: datetime | None  # None: the current one
    about: dict[str, Any] | None  # the content of that file; None where it cannot be read

    @property
    def is_current(self) -> bool:
        return self.replaced_at is None

    @property
    def content_hash(self) -> str:
        return self.name if self.about is None else str(self.about["content_hash"])


def versions(folder: Location) -> list[Version]:
    """The versions that a manifest folder has: the current one, then the earlier ones, the last replaced first.

    A damaged version is among them, under the name of its file; opening it raises an error that says what is wrong.
    Raises ManifestError where there is no manifest.
    """
    if not (folder / COMMIT).exists():
        raise ManifestError(f"{folder}: no manifest there (no {COMMIT})")
    earlier = [path for path in folder.glob(f"{_FOLDER}/*.json") if _FILE.fullmatch(path.name)]
    found = [_version(path, _written_at(path)) for path in earlier]
    found.sort(key=lambda version: (version.replaced_at, version.name), reverse=True)
    return [_version(folder / COMMIT, None), *found]


def _written_at(commit: Location) -> datetime:
    if isinstance(commit, Path):
        return datetime.fromtimestamp(commit.stat().st_mtime, timezone.utc)
    return datetime.now(timezone.utc) - timedelta(seconds=commit.age_s or 0.0)


def _version(commit: Location, replaced_at: datetime | None) -> Version:
    try:
        about = json.loads(commit.read_text(encoding="utf-8"))
        content_hash = about["content_hash"]
        if _HASH.fullmatch(content_hash):
            return Version(content_hash[:16], commit, replaced_at, about)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return Version("damaged" if replaced_at is None else commit.stem, commit, replaced_at, None)


def named_version(path: Location) -> tuple[Location, str | None]:
    """The folder and the version of `MANIFEST@VERSION`; no version where something exists under the whole name.

    `MANIFEST/@VERSION` means the same: shells complete a folder's name with a slash.
    """
    stem, at, version = path.name.rpartition("@")
    if not at:
        return path, None
    if isinstance(path, RemotePath):
        folder: Location = RemotePath(path.url.rpartition("@")[0])
        # No bucket can have such a name, and a request for it would fail; but abfs://container@account.host is one.
        is_version = "/" not in path.url.partition("://")[2] and _VERSION.fullmatch(version) is not None
    else:
        folder, is_version = path.parent / stem if stem else path.parent, False
    if not is_version and path.exists():
        return path, None
    return (folder, version) if is_version or (folder / COMMIT).exists() else (path, None)


def commit_of(folder: Location, version: str) -> Location:
    """The dataset.json of the version whose content hash begins with `version`; the current one counts too.

    Raises ManifestError, which lists the versions there are, for text that cannot be a version, for an unknown version,
    and for one that several versions begin with.
    """
    known = versions(folder)
    there = ", ".join(dict.fromkeys(f"{one.name}{' (current)' * one.is_current}" for one in known))
    if not _VERSION.fullmatch(version):
        wanted = "4 to 64 of 0-9 and a-f, the beginning of a content hash"
        raise ManifestError(f"{folder}: {version!r} names no version ({wanted}); there are {there}")
    found: dict[str, Version] = {}
    for one in known:
        # Of a damaged version only the beginning of the hash is known. Where the current version and an earlier one
        # have the same hash, their rows are equal, and the current one is taken.
        if one.content_hash.startswith(version) or (one.about is None and version.startswith(one.name)):
            found.setdefault(one.name, one)
    if not found:
        raise ManifestError(f"{folder}: holds no version {version}; there are {there}")
    if len(found) > 1:
        raise ManifestError(f"{folder}: {version} is the beginning of {' and '.join(found)}; give more digits")
    return next(iter(found.values())).commit

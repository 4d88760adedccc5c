"""Earlier versions of a manifest, and how they are named: by the beginning of their content hash."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.errors import ManifestError

COMMIT = "dataset.json"
_FOLDER = "versions"
_FILE = re.compile(r"[0-9a-f]{16}\.json")
_HASH = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9a-f]{4,64}")


@dataclass(frozen=True)
class Version:
    """One version of a manifest: the current one, or one that a later build replaced."""

    name: str  # the first 16 digits of its content hash, or of its file's where it kept a damaged one
    commit: Path  # its dataset.json
    is_current: bool
    about: dict[str, Any] | None  # what that file says; None where it cannot be read

    @property
    def content_hash(self) -> str:
        return self.name if self.about is None else str(self.about["content_hash"])


def versions(folder: Path) -> list[Version]:
    """The versions that a manifest folder holds: the current one, then the earlier ones, the last replaced first.

    One that is damaged is among them, under the name of its file; opening it says what is wrong. Raises ManifestError
    where there is no manifest.
    """
    if not (folder / COMMIT).exists():
        raise ManifestError(f"{folder}: no manifest there (no {COMMIT})")
    earlier = [path for path in folder.glob(f"{_FOLDER}/*.json") if _FILE.fullmatch(path.name)]
    earlier.sort(key=lambda path: (-path.stat().st_mtime, path.name))
    return [_version(folder / COMMIT, is_current=True), *(_version(path, is_current=False) for path in earlier)]


def _version(commit: Path, *, is_current: bool) -> Version:
    try:
        about = json.loads(commit.read_text(encoding="utf-8"))
        content_hash = about["content_hash"]
        if _HASH.fullmatch(content_hash):
            return Version(content_hash[:16], commit, is_current, about)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return Version("damaged" if is_current else commit.stem, commit, is_current, None)


def named_version(path: Path) -> tuple[Path, str | None]:
    """`MANIFEST@VERSION` as the folder and the version; whatever exists under the whole name is that, and no version.

    `MANIFEST/@VERSION`, as a shell completes a folder's name, is the same.
    """
    stem, at, version = path.name.rpartition("@")
    if not at or path.exists():
        return path, None
    folder = path.parent / stem
    return (folder, version) if (folder / COMMIT).exists() else (path, None)


def commit_of(folder: Path, version: str) -> Path:
    """The dataset.json of the version whose content hash begins with `version`, the current one included.

    Raises ManifestError, which lists what there is, for a version that is none, unknown, or not the only one.
    """
    known = versions(folder)
    there = ", ".join(dict.fromkeys(f"{one.name}{' (current)' * one.is_current}" for one in known))
    if not _VERSION.fullmatch(version):
        wanted = "4 to 64 of 0-9 and a-f, the beginning of a content hash"
        raise ManifestError(f"{folder}: {version!r} names no version ({wanted}); there are {there}")
    found: dict[str, Version] = {}
    for one in known:
        # Of a damaged one only the beginning of the hash is known. Equal hashes are equal rows: the current one counts.
        if one.content_hash.startswith(version) or (one.about is None and version.startswith(one.name)):
            found.setdefault(one.name, one)
    if not found:
        raise ManifestError(f"{folder}: holds no version {version}; there are {there}")
    if len(found) > 1:
        raise ManifestError(f"{folder}: {version} is the beginning of {' and '.join(found)}; give more digits")
    return next(iter(found.values())).commit

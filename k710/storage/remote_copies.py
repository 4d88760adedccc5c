"""Copies of small remote files in the cache folder.

A manifest's clips and a store's rows are read many times. Each version of such a file is downloaded once.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from k710.storage.download import cache_folder
from k710.storage.remote import RemotePath
from k710.storage.storage import Location, new_folder, replacing

_AT_ONCE = 16
_KEPT_S = 86400.0  # another process may still be reading an older copy


def copy_of(file: Location, *, version: str | None = None, refresh: bool = False) -> Path:
    """A file of this machine with the content of `file`: the file itself, or a copy of a remote one.

    `version` defaults to the version in the listing that `file` came from. The copy is downloaded if there is none, or
    if `refresh`. Raises FileNotFoundError if the file is missing or has changed since it was listed; RemoteError.
    """
    if isinstance(file, Path):
        return file
    copy = _folder(file.parent) / f"{file.stem}@{version or file.version}{Path(file.name).suffix}"
    if refresh or not copy.exists():
        content = file.read_bytes() if version else file.read_range(0, file.size_bytes)
        if version is None and len(content) != file.size_bytes:
            raise FileNotFoundError(f"{file}: has changed since it was listed")
        with new_folder(copy.parent), replacing(copy) as sink:
            sink.write(content)
    return copy


def bring_copies(files: Collection[Location], *, refresh: bool = False) -> None:
    """Copy all files, several at a time. Copies of files that left their folder are removed after a while."""
    remote = [file for file in files if isinstance(file, RemotePath)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        copies = set(pool.map(lambda file: copy_of(file, refresh=refresh), remote))
    for folder in {copy.parent for copy in copies}:
        _sweep(folder.iterdir(), copies)


def _sweep(found: Iterable[Path], kept: set[Path]) -> None:
    for path in found:
        with contextlib.suppress(FileNotFoundError):
            if path not in kept and time.time() - path.stat().st_mtime > _KEPT_S:
                path.unlink()


def _folder(remote: RemotePath) -> Path:
    return cache_folder() / "remote" / hashlib.sha256(str(remote).encode()).hexdigest()[:16]

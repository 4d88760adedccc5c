"""Copies of small remote files in the cache folder: what is asked of a manifest's clips and a store's rows again and
again is read once for each version of a file."""

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
_KEPT_S = 86400.0  # what another process may still be reading


def copy_of(file: Location, *, version: str | None = None, anew: bool = False) -> Path:
    """A file of this machine with the content of `file`: itself, or a copy of this `version` (default: that of the
    listing it came from), brought where there is none or it is to be had `anew`.

    Raises FileNotFoundError where it is gone, or is no longer as it was listed; RemoteError.
    """
    if isinstance(file, Path):
        return file
    copy = _folder(file.parent) / f"{file.stem}@{version or file.version}{Path(file.name).suffix}"
    if anew or not copy.exists():
        content = file.read_bytes() if version else file.read_range(0, file.size_bytes)
        if version is None and len(content) != file.size_bytes:
            raise FileNotFoundError(f"{file}: has changed meanwhile")
        with new_folder(copy.parent), replacing(copy) as sink:
            sink.write(content)
    return copy


def bring_copies(files: Collection[Location], *, anew: bool = False) -> None:
    """Copies of all files, several at a time; those of files that are gone from their folder are removed in time."""
    remote = [file for file in files if isinstance(file, RemotePath)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        copies = set(pool.map(lambda file: copy_of(file, anew=anew), remote))
    for folder in {copy.parent for copy in copies}:
        _sweep(folder.iterdir(), copies)


def _sweep(found: Iterable[Path], kept: set[Path]) -> None:
    for path in found:
        with contextlib.suppress(FileNotFoundError):
            if path not in kept and time.time() - path.stat().st_mtime > _KEPT_S:
                path.unlink()


def _folder(remote: RemotePath) -> Path:
    return cache_folder() / "remote" / hashlib.sha256(str(remote).encode()).hexdigest()[:16]

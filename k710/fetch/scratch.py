"""A run's scratch folder inside the store, or beside one at a URL. Its lock ends with the run, so what a killed run
left is known and swept."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from k710.errors import StoreError, UsageError
from k710.storage.download import cache_folder
from k710.storage.storage import Location, new_folder
from k710.text import os_error_text

_LOCK = "lock"
_NEW, _RUN, _ALONE = ".new-", "run-", "run-alone-"
_OLD_S = 3600.0  # a folder that has no lock by then never gets one
_SILENT_S = 86400.0  # a run that waits for YouTube, or reads an archive for nothing, is silent for more than an hour


def scratch_parent(store_root: Location, scratch: Path | None = None) -> Path:
    """Where the scratch folders of runs are: in a local store, whose files they become by a rename; of a store at a URL
    in `scratch`, else in the cache folder. Raises UsageError for a `scratch` that a local store has no use for."""
    if isinstance(store_root, Path):
        if scratch is not None:
            raise UsageError(f"--scratch is for a store at a URL; {store_root} has its own inside")
        return store_root / "scratch"
    name = hashlib.sha256(str(store_root).encode()).hexdigest()[:16]
    # Absolute: in a relative name with a colon ffmpeg would see a protocol.
    return (cache_folder() / "scratch" if scratch is None else scratch).absolute() / name


@contextmanager
def scratch_folder(store_root: Location, *, alone: bool = False, scratch: Path | None = None) -> Iterator[Path]:
    """A new folder `run-…` in `scratch_parent` for the time of the block; what runs that are gone left behind is
    removed first.

    Raises StoreError where another run is at work and this one must be `alone`, or the other way round; of a store at
    a URL it knows the runs of this machine alone.
    """
    parent = scratch_parent(store_root, scratch)
    with new_folder(parent):
        folder = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
        try:
            with (folder / _LOCK).open("w") as lock:
                _lock(lock.fileno(), folder)
                with contextlib.suppress(OSError):  # where not even this has room, the run will say so
                    os.write(lock.fileno(), socket.gethostname().encode())
                # Only now under its name: without a lock it would be taken for what a killed run left.
                folder = folder.rename(parent / folder.name.replace(_NEW, _ALONE if alone else _RUN, 1))
                _check_others(sweep(store_root, scratch) - {folder}, store_root, alone)
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep(store_root: Location, scratch: Path | None = None) -> set[Path]:
    """Remove the scratch of runs that are gone; returns the folders of those that are at work."""
    alive, parent = set(), scratch_parent(store_root, scratch)
    for folder in parent.glob(f"{_RUN}*"):
        if _is_alive(folder):
            alive.add(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    for folder in parent.glob(f"{_NEW}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > _OLD_S:
                shutil.rmtree(folder, ignore_errors=True)
    return alive


def _check_others(others: set[Path], store_root: Location, alone: bool) -> None:
    if others and alone:
        raise StoreError(f"{store_root}: a run is at work in this store; wait until it has ended")
    if any(folder.name.startswith(_ALONE) for folder in others):
        raise StoreError(f"{store_root}: a repair is at work in this store; wait until it has ended")


def _is_alive(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            host = lock.read()
        # Some shared file systems keep locks to one machine.
        return host not in ("", socket.gethostname()) and time.time() - folder.stat().st_mtime < _SILENT_S
    except FileNotFoundError:
        return False
    except (BlockingIOError, PermissionError):  # at work, or another user's: who knows
        return True


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StoreError(
            f"{folder}: this file system has no locks ({os_error_text(error)}); put the store on another"
        ) from None

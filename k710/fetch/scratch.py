"""A run's scratch folder inside the store. Its lock ends with the run, so what a killed run left is known and swept."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from k710.errors import StoreError
from k710.storage import TEMPORARY_PREFIX, new_folder

_LOCK = "lock"


@contextmanager
def scratch_folder(store_root: Path, *, alone: bool = False) -> Iterator[Path]:
    """A new folder `scratch/run-…` for the time of the block; what runs that are gone left behind is removed first.

    Raises StoreError where another run is at work and this one must be `alone`.
    """
    parent = store_root / "scratch"
    with new_folder(parent):
        if not sweep(store_root) and alone:
            raise StoreError(f"{store_root}: a run is at work in this store; wait until it has ended")
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
        try:
            with (folder / _LOCK).open("w") as lock:
                _lock(lock.fileno(), folder)
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep(store_root: Path) -> bool:
    """Remove the scratch of runs that are gone, and their half-written media files. False where a run is alive."""
    alive = False
    for folder in sorted((store_root / "scratch").glob("run-*")):
        if _is_alive(folder):
            alive = True
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if not alive:
        for path in store_root.glob(f"media/*/{TEMPORARY_PREFIX}*"):
            path.unlink(missing_ok=True)
    return not alive


def _is_alive(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StoreError(
            f"{folder}: this file system has no locks ({error.strerror}); put the store on another"
        ) from None

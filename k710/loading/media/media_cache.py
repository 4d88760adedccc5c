"""A bounded folder of clips that were read from a URL, shared by workers, processes and runs.

Once it is full it stays as it is: an epoch shows each clip once, so replacing kept clips by others would gain nothing.
The share of reads that it saves is the share of the clips that it has.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from pathlib import Path

from k710.errors import UsageError
from k710.loading.clip_index import Place
from k710.storage.storage import replacing

_LOCK, _TOTAL = "lock", "bytes"


class MediaCache:
    """Clips of any dataset in `folder`, `max_bytes` of them over all processes. It pickles to its settings.

    Raises UsageError for a size below 1 byte. It checks no content: MediaFiles checks all bytes that it reads.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        if max_bytes < 1:
            raise UsageError(f"cache_bytes is {max_bytes}; a cache holds at least one byte")
        # Absolute: a worker or a later call may have another working directory.
        self.folder, self.max_bytes = folder.absolute(), max_bytes
        self._full_at = max_bytes + 1  # the size of the smallest clip that did not fit: not tried again

    def get(self, place: Place, where: str) -> bytes | None:
        """The clip's tar header and bytes; None where the cache does not have them."""
        with contextlib.suppress(OSError):
            return self._path(place, where).read_bytes()
        return None

    def keep(self, place: Place, where: str, content: bytes) -> None:
        """Keep a clip if there is room. A damaged copy of it is replaced, and needs no new room.

        A disk that fails keeps nothing; it must not end a training run.
        """
        path = self._path(place, where)
        with contextlib.suppress(OSError):
            if not path.exists() and not self._reserve(len(content)):
                return
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as file:
                file.write(content)

    def _path(self, place: Place, where: str) -> Path:
        key = hashlib.sha256(f"{where}\n{place.offset}\n{place.size}\n{place.digest}".encode()).hexdigest()
        return self.folder / key[:2] / key

    def _reserve(self, size: int) -> bool:
        if size >= self._full_at:
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            total = self._read_total() + size
            if total <= self.max_bytes:
                (self.folder / _TOTAL).write_text(str(total))
                return True
        self._full_at = min(self._full_at, size)
        return False

    def _read_total(self) -> int:
        """The bytes that are kept or being written; counted from the files where there is no count or a damaged one."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / _TOTAL).read_text())
        return sum(path.stat().st_size for path in self.folder.glob("??/*"))

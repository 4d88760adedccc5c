"""Clips out of the store's tars, checked: what `k710 pack` and `k710 unpack` read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from k710.errors import StoreError
from k710.maintenance.verify import read_media
from k710.storage.remote import RemotePath
from k710.store.store import Store

_OPEN_TARS = 64
_AT_ONCE = 16  # reads from a store at a URL


class StoredClips:
    """Clips out of the store's tars. Some tars stay open, since neighbours in a shard come from all over the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[str, IO[bytes]] = {}  # the last one used is the last

    def __enter__(self) -> StoredClips:
        return self

    def __exit__(self, *error: object) -> None:
        for tar in self._open.values():
            tar.close()

    def read_all(self, rows: Sequence[dict[str, Any]]) -> Iterator[bytes]:
        """`read` of each row, in their order; several at a time from a store at a URL."""
        if isinstance(self._store.root, Path):
            yield from (self.read(row) for row in rows)
            return
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(rows), _AT_ONCE):  # not all at once: a shard is large
                yield from pool.map(self.read, rows[start : start + _AT_ONCE])

    def read(self, row: dict[str, Any]) -> bytes:
        """The clip's bytes. Raises StoreError where they are not those of its row."""
        path = self._store.tar(row["tar"])
        try:
            media = path.read_range(row["offset"], row["size"]) if isinstance(path, RemotePath) else self._at(path, row)
        except FileNotFoundError:
            raise StoreError(f"{path} is gone; `k710 verify --repair` mends it") from None
        if hashlib.sha256(media).hexdigest() != row["sha256"]:
            raise StoreError(f"{row['tar']}: clip {row['clip_id']} is damaged; `k710 verify --repair` mends it")
        return media

    def _at(self, path: Path, row: dict[str, Any]) -> bytes:
        tar = self._open.pop(path.name, None) or path.open("rb")
        self._open[path.name] = tar
        if len(self._open) > _OPEN_TARS:
            self._open.pop(next(iter(self._open))).close()
        return read_media(tar, row)

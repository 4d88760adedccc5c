"""Where the clips' bytes are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.loading.dataset import DEFAULT_CACHE_BYTES, ClipDataset
from k710.manifest.read import Manifest
from k710.storage.storage import Location


@dataclass(frozen=True)
class Media:
    """A store (default: MANIFEST/store) and a profile of it, or a folder of files. `cache` keeps clips of a store at a
    URL, at most `cache_bytes`."""

    store: Location | None = None
    profile: str = "h264"
    folder: Path | None = None
    cache: Path | None = None
    cache_bytes: int = DEFAULT_CACHE_BYTES

    @property
    def profile_name(self) -> str:
        """The profile, or `files` for those of a folder, which are as they are."""
        return "files" if self.folder is not None else self.profile

    def dataset(self, manifest: Manifest, **options: Any) -> ClipDataset:
        """The clips of a view and split. Raises UsageError, LoadError, StoreError or FetchError."""
        where: dict[str, Any] = {"store": self.store, "profile": self.profile, "folder": self.folder}
        return manifest.dataset(**where, cache=self.cache, cache_bytes=self.cache_bytes, **options)

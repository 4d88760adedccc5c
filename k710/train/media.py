"""Where the clips' bytes are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.loading.dataset import ClipDataset
from k710.manifest import Manifest


@dataclass(frozen=True)
class Media:
    """A store (default: MANIFEST/store) and a profile of it, or a folder of files."""

    store: Path | None = None
    profile: str = "h264"
    folder: Path | None = None

    @property
    def profile_name(self) -> str:
        """The profile, or `files` for those of a folder, which are as they are."""
        return "files" if self.folder is not None else self.profile

    def dataset(self, manifest: Manifest, **options: Any) -> ClipDataset:
        """The clips of a view and split. Raises UsageError, LoadError, StoreError or FetchError."""
        return manifest.dataset(store=self.store, profile=self.profile, folder=self.folder, **options)

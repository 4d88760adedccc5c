"""Where the media of the clips is, as a command's options say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from k710.loading.dataset import DEFAULT_CACHE_BYTES, ClipDataset, open_dataset
from k710.loading.load_clip import ClipOptions
from k710.manifest.read import Manifest
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE


@dataclass(frozen=True)
class Media:
    """A store (default: MANIFEST/store) and a profile of it, or a folder of clip files.

    `cache` is a folder that keeps clips of a store at a URL, at most `cache_bytes`. `features` is a folder of features
    (k710.loading.kept_features), which a model with a frozen part is given instead of the clips.
    """

    store: Location | None = None
    profile: str = DEFAULT_PROFILE
    folder: Path | None = None
    cache: Path | None = None
    cache_bytes: int = DEFAULT_CACHE_BYTES
    features: Path | None = None

    @property
    def profile_name(self) -> str:
        """The profile; for a folder of clip files, which no profile made, `files`."""
        return "files" if self.folder is not None else self.profile

    def dataset(
        self,
        manifest: Manifest,
        options: ClipOptions,
        *,
        view: str | None,
        split: str,
        training: bool | None = None,
        needs_labels: bool = True,
    ) -> ClipDataset:
        """The clips of a view (None: the union) and split. Raises as `open_dataset` does."""
        return open_dataset(
            manifest,
            split=split,
            view=view,
            store=self.store,
            profile=self.profile,
            folder=self.folder,
            training=training,
            needs_labels=needs_labels,
            options=options,
            cache=self.cache,
            cache_bytes=self.cache_bytes,
        )

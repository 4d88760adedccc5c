"""ClipDataset: the clips of a manifest's view and split, read at random, as uint8 frames."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset, get_worker_info

from k710.errors import UsageError
from k710.lists.labels import class_names
from k710.loading.clip_index import NO_CLASS, ClipIndex, Place
from k710.loading.epochs import warn_of_numbers
from k710.loading.find_clips import clips_of_folder, clips_of_store
from k710.loading.load_clip import LoadedClip, Media, StoredFrames, how_to_load
from k710.loading.media.media_cache import MediaCache
from k710.loading.media.media_files import MediaFiles
from k710.loading.order import Sample
from k710.loading.sampling import View
from k710.random_key import RandomKey
from k710.storage.remote import RemotePath
from k710.storage.storage import local_folder, location

if TYPE_CHECKING:
    from k710.loading.loader import ClipLoader
    from k710.manifest.read import Manifest


DEFAULT_CACHE_BYTES = 100 * 10**9


@dataclass(frozen=True)
class Counts:
    """What became of the clips of a split: how many it has, how many are loaded, how many failed to be fetched."""

    in_split: int
    loaded: int
    failed: int

    @property
    def missing(self) -> int:
        """Left out: not fetched, or failed."""
        return self.in_split - self.loaded


def open_dataset(
    manifest: Manifest,
    *,
    split: str = "train",
    view: str = "k710",
    dialect: str = "canonical",
    store: str | os.PathLike[str] | RemotePath | None = None,
    profile: str = "h264",
    folder: str | os.PathLike[str] | None = None,
    **options: Any,
) -> ClipDataset:
    """The clips of a view's split that are in `store` (default: MANIFEST/store; a folder or a URL), made by `profile`,
    or in a plain `folder` of clip files. The other options are ClipDataset's.

    `training` is by default what the split says. Raises UsageError, LoadError, StoreError, FetchError or RemoteError.
    """
    names: dict[str, Any] = {"view": view, "split": split, "dialect": dialect}
    options.setdefault("training", split == "train")
    if folder is not None:
        if store is not None:
            raise UsageError("a dataset reads a store or a folder, not both")
        index = clips_of_folder(manifest, local_folder(folder, "folder of clips"), **names)
    else:
        from k710.store.store import Store

        root = manifest.path / "store" if store is None else location(store)
        index = clips_of_store(manifest, Store(root, profile), **names)
    return ClipDataset(index, **names, **options)


class ClipDataset(Dataset[LoadedClip]):
    """A map-style dataset of clips in clip_id order. `dataset[Sample(clip, …)]` or `dataset[clip]` loads one.

    `training`: random frames, and unlabelled clips are refused (UsageError) if `needs_labels`; else the frames of the
    view that the sample asks for. `frame_reads` is MediaFiles'; `cache` is a folder that keeps clips of a store at a
    URL, at most `cache_bytes`; the other options are those of `how_to_load`. It pickles to a path and settings, so
    workers get it at no cost.

    `dataset[clip]` is the clip as epoch 0 shows it. Torch's own DataLoader asks by such numbers, so it would show the
    same frames in every epoch: a RepeatedEpochWarning says so in training. `loader` counts epochs; so does a sampler
    that yields `Sample(clip, epoch)`.
    """

    def __init__(
        self,
        index: ClipIndex,
        *,
        view: str,
        split: str,
        dialect: str = "canonical",
        training: bool,
        needs_labels: bool = True,
        frame_reads: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        **options: Any,
    ) -> None:
        self.index, self.view, self.split, self.dialect = index, view, split, dialect
        self.how = how_to_load(training=training, **options)
        about = index.about
        kept = None if cache is None else MediaCache(local_folder(cache, "cache"), cache_bytes)
        where = location(about["folder"])
        self._files = MediaFiles(where, in_tars=about["in_tars"], frame_reads=frame_reads, cache=kept)
        unlabelled = int((index.class_ids == NO_CLASS).sum())
        self._num_by_number = 0
        if training and needs_labels and unlabelled:
            raise UsageError(f"{unlabelled:,} of the {len(index):,} {view} {split} clips have no label to train on")

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the view's classes in the dialect's order: `labels[class_id]`."""
        return class_names(self.view, self.dialect)

    @property
    def class_ids(self) -> npt.NDArray[np.int16]:
        """(clips,) the class of each clip in the view, in the dialect; -1 without label."""
        return self.index.class_ids

    @property
    def counts(self) -> Counts:
        """How many clips the split has, and how many of them are here."""
        return Counts(**self.index.about["counts"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the exact list of clips, classes and bytes (not those of a plain folder): what a run records of
        what it was trained on."""
        return str(self.index.about["fingerprint"])

    @property
    def training(self) -> bool:
        return self.how.training

    @property
    def seed(self) -> int:
        return self.how.seed

    @property
    def views(self) -> tuple[View, ...]:
        """The views of an evaluation, (temporal clip, crop) each."""
        return self.how.views

    def loader(self, **options: Any) -> ClipLoader:
        """Batches of this dataset on a device, augmented; the options are ClipLoader's."""
        from k710.loading.loader import ClipLoader

        return ClipLoader(self, **options)

    def key(self, sample: Sample) -> RandomKey:
        """The name of a sample's randomness."""
        return RandomKey(self.seed, sample.epoch, self.index[sample.clip].clip_id, sample.repeat)

    def __getitem__(self, item: int | Sample) -> LoadedClip:
        """Raises IndexError beyond the last clip or view; LoadError where the clip fails and `on_error` is "raise"."""
        if self.training and not isinstance(item, Sample):
            self._num_by_number += 1
            # A worker of torch's lives for one epoch, so there is no second one to wait for.
            if get_worker_info() is not None or self._num_by_number == len(self) + 1:
                warn_of_numbers()
        return self.load([item if isinstance(item, Sample) else Sample(int(item))])[0]

    def load(self, samples: Sequence[Sample]) -> list[LoadedClip]:
        """Several samples; those of one clip that stand side by side are read and decoded once."""
        loaded: list[LoadedClip] = []
        for clip, group in itertools.groupby(samples, key=lambda sample: sample.clip):
            loaded += self._load_clip(self.index[clip], list(group))
        return loaded

    def _load_clip(self, place: Place, samples: list[Sample]) -> Iterable[LoadedClip]:
        stored = None
        if place.frame_indices is not None:
            stored = StoredFrames(place.num_frames, place.frame_indices, lambda at: self._files.read_frames(place, at))
        media = Media(place.clip_id, place.class_id, place.file, lambda: self._files.read(place), stored)
        return self.how.load(media, samples)

    def view_of(self, sample: Sample) -> View:
        """Which view of its clip a sample is, in evaluation. Raises IndexError beyond the last."""
        return self.how.views[sample.view]

"""ClipDataset: the clips of a manifest's view and split, read at random, as uint8 frames."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset, get_worker_info

from k710.errors import UsageError
from k710.lists.labels import class_names
from k710.loading.augment.augment import Augment
from k710.loading.clip_index import NO_CLASS, ClipIndex
from k710.loading.epochs import warn_of_numbers
from k710.loading.find_clips import clips_of_folder, clips_of_store
from k710.loading.load_clip import ClipOptions, ClipReader, LoadedClip, StoredFrames, UndecodedClip
from k710.loading.media.media_cache import MediaCache
from k710.loading.media.media_files import MediaFiles
from k710.loading.order import EpochOrder, Sample
from k710.loading.sampling import View
from k710.manifest.read import Manifest, open_manifest
from k710.random_key import RandomKey
from k710.storage.remote import RemotePath
from k710.storage.storage import local_folder, location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.store.store import Store

DEFAULT_CACHE_BYTES = 100 * 10**9


@dataclass(frozen=True)
class Counts:
    """The clips of a split: how many it has, how many of them the dataset has, and how many failed to be fetched."""

    in_split: int
    loaded: int
    failed: int

    @property
    def missing(self) -> int:
        """Left out: not fetched, or failed."""
        return self.in_split - self.loaded


def open_dataset(
    manifest: Manifest | str | os.PathLike[str] | RemotePath,
    *,
    split: str = "train",
    view: str | None = None,
    dialect: str = "canonical",
    store: str | os.PathLike[str] | RemotePath | None = None,
    profile: str = DEFAULT_PROFILE,
    folder: str | os.PathLike[str] | None = None,
    training: bool | None = None,
    needs_labels: bool = True,
    options: ClipOptions | None = None,
    frame_reads: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> ClipDataset:
    """The clips of a view's split that are in a store or in a folder of clip files, as a torch Dataset.

    `manifest` is an opened one, or the path or URL of one (`MANIFEST@VERSION` for an earlier version). `view`: by
    default the manifest's union. `store` is a folder or a URL, by default MANIFEST/store; `profile` says which of its
    media. `folder`: a folder of clip files instead of a store. `training`: by default, whether the split is train; then
    unlabelled clips are refused if `needs_labels`. `options`: how clips are sampled and decoded. `frame_reads` is
    MediaFiles'. `cache`: a folder that keeps clips of a store at a URL, at most `cache_bytes`.

    Raises ManifestError where the manifest cannot be opened; UsageError for values that are not allowed and for a view
    that lacks the split; LoadError where no clip is there; StoreError, FetchError or RemoteError where the store or the
    folder cannot be read.
    """
    opened = manifest if isinstance(manifest, Manifest) else open_manifest(manifest)
    view = opened.catalogue.check_view(view)
    names: dict[str, Any] = {"view": view, "split": split, "dialect": dialect}
    kept = None if cache is None else MediaCache(local_folder(cache, "cache"), cache_bytes)
    if folder is not None:
        if store is not None:
            raise UsageError("a dataset reads a store or a folder, not both")
        index = clips_of_folder(opened, local_folder(folder, "folder of clips"), **names)
    else:
        root = opened.path / "store" if store is None else location(store)
        index = clips_of_store(opened, Store(root, profile), **names)
    is_training = split == "train" if training is None else training
    return ClipDataset(
        index,
        **names,
        own_labels=opened.class_names(view, dialect) if opened.catalogue.is_own(view) else None,
        training=is_training,
        needs_labels=needs_labels,
        options=options,
        frame_reads=frame_reads,
        cache=kept,
    )


class ClipDataset(Dataset[LoadedClip]):
    """A map-style dataset of clips in clip_id order, which `open_dataset` makes. `dataset[Sample(clip, …)]` or
    `dataset[clip]` loads one.

    `training`: random frames, and unlabelled clips are refused (UsageError) if `needs_labels`; else the frames of the
    view that the sample names. `own_labels` are the classes of a view that only its manifest knows. `frame_reads` and
    `cache` are MediaFiles'. It pickles to a path and settings, so workers get it at no cost.

    `dataset[clip]` is the clip as epoch 0 shows it. Torch's own DataLoader asks by such numbers, so it would show the
    same frames in every epoch: a RepeatedEpochWarning says so in training. `ClipLoader` counts epochs; so can a sampler
    that yields `Sample(clip, epoch)`.
    """

    def __init__(
        self,
        index: ClipIndex,
        *,
        view: str,
        split: str,
        dialect: str = "canonical",
        own_labels: tuple[str, ...] | None = None,
        training: bool,
        needs_labels: bool = True,
        options: ClipOptions | None = None,
        frame_reads: str | None = None,
        cache: MediaCache | None = None,
    ) -> None:
        self.index, self.view, self.split, self.dialect = index, view, split, dialect
        self._own_labels = own_labels
        self.reader = ClipReader(options or ClipOptions(), training)
        folder = location(index.about["folder"])
        self._files = MediaFiles(folder, in_tars=index.about["in_tars"], frame_reads=frame_reads, cache=cache)
        unlabelled = int((index.class_ids == NO_CLASS).sum())
        self._num_by_number = 0
        if training and needs_labels and unlabelled:
            raise UsageError(f"{unlabelled:,} of the {len(index):,} {view} {split} clips have no label to train on")

    def __len__(self) -> int:
        return len(self.index)

    @property
    def clips_per_epoch(self) -> int:
        """The clips that an epoch of training shows: each of them once."""
        return len(self)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the view's classes in the dialect's order: `labels[class_id]`."""
        return self._own_labels or class_names(self.view, self.dialect)

    @property
    def class_ids(self) -> npt.NDArray[np.int16]:
        """(clips,) the class of each clip in the view, in the dialect; -1 without label."""
        return self.index.class_ids

    @property
    def counts(self) -> Counts:
        """How many clips the split has, and how many of them the dataset has."""
        return Counts(**self.index.about["counts"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the exact list of clips, classes and bytes (of a plain folder: of clips and classes). A run
        records it, to say what it was trained on."""
        return str(self.index.about["fingerprint"])

    @property
    def training(self) -> bool:
        """Whether frames are drawn at random, for training."""
        return self.reader.training

    @property
    def draws_frames(self) -> bool:
        """Whether a sample has random frames and a random crop, and not those of one of the views."""
        return self.reader.draws_frames

    @property
    def seed(self) -> int:
        """The seed of the frames, the order and the augmentation."""
        return self.reader.options.seed

    @property
    def views(self) -> tuple[View, ...]:
        """The views of an evaluation, (temporal clip, crop) each."""
        return self.reader.options.views

    def order(self, num_repeats: int) -> EpochOrder:
        """In which order training shows the clips."""
        return EpochOrder(len(self), self.seed, num_repeats)

    def key(self, sample: Sample) -> RandomKey:
        """The key from which all random choices of a sample follow."""
        return RandomKey(self.seed, sample.epoch, self.index[sample.clip].clip_id, sample.repeat)

    def __getitem__(self, item: int | Sample) -> LoadedClip:
        """Raises IndexError beyond the last clip or view; LoadError where the clip fails and `on_error` is "raise"."""
        if self.training and not isinstance(item, Sample):
            self._num_by_number += 1
            # A worker of torch's lives for one epoch, so there is no second one to wait for.
            if get_worker_info() is not None or self._num_by_number == len(self) + 1:
                warn_of_numbers()
        return self.load([item if isinstance(item, Sample) else Sample(int(item))])[0]

    def load(self, samples: Sequence[Sample], augment: Augment | None = None) -> list[LoadedClip]:
        """Several samples, in their order. Neighbours of one clip are read and decoded once; `augment` is
        ClipReader.load's."""
        return list(self.load_each(samples, augment))

    def load_each(self, samples: Sequence[Sample], augment: Augment | None = None) -> Iterator[LoadedClip]:
        """As `load`, one after another."""
        for clip, group in itertools.groupby(samples, key=lambda sample: sample.clip):
            yield from self.load_clip(clip, list(group), augment=augment)

    def load_clip(
        self, clip: int, samples: Sequence[Sample], prefix: str = "", augment: Augment | None = None
    ) -> list[LoadedClip]:
        """Samples of one clip, read and decoded once; `prefix` is for its id."""
        place = self.index[clip]
        stored = None
        if place.frame_indices is not None:
            stored = StoredFrames(place.num_frames, place.frame_indices, lambda at: self._files.read_frames(place, at))
        found = UndecodedClip(
            prefix + place.clip_id, place.class_id, place.file, lambda: self._files.read(place), stored
        )
        return self.reader.load(found, samples, augment)

    def clip_id(self, clip: int) -> str:
        """The id of a clip, by its number."""
        return self.index[clip].clip_id

    def view_number(self, sample: Sample) -> int:
        """Which of `views` a sample is, by number; in training, where views are fixed."""
        return self.reader.view_number(self.index[sample.clip].clip_id, sample)

    def view_of(self, sample: Sample) -> View:
        """Which view of its clip a sample is. Raises IndexError beyond the last."""
        return self.reader.options.views[self.view_number(sample)]

    def stamp(self, position: int) -> str:
        """What changes with a clip's bytes: the first 16 digits of its SHA-256, or size and time of a plain file."""
        return self._files.stamp(self.index[position])

"""ClipDataset: the clips of a manifest's view and split, read at random, as uint8 frames."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from k710.errors import LoadError, UsageError
from k710.labels import class_names
from k710.loading.clip_index import NO_CLASS, ClipIndex, Place
from k710.loading.decode import DEFAULT_DECODER, check_decoder, decode
from k710.loading.find_clips import clips_of_folder, clips_of_store
from k710.loading.jpegs import decode_jpegs
from k710.loading.media_files import MediaFiles
from k710.loading.order import Sample
from k710.loading.random_key import Ints, RandomKey
from k710.loading.sampling import FrameSampling, View, evaluation_views, nearest_stored
from k710.storage import local_folder

if TYPE_CHECKING:
    from k710.loading.loader import ClipLoader
    from k710.manifest import Manifest

ON_ERROR = ("raise", "zero_weight")
_NO_PICTURE_PX = 32  # the size of the black frames of a clip that failed


class LoadedClip(NamedTuple):
    """A sample of a dataset. `pixels`: uint8 (num_frames, height_px, width_px, 3), RGB; `frames`: (num_frames,) which
    frames of the clip they are. A clip that failed is black, has weight 0, and `error` says why."""

    pixels: Tensor
    class_id: int
    clip_id: str
    frames: Ints
    sample: Sample
    weight: float = 1.0
    error: str | None = None


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
    store: str | os.PathLike[str] | None = None,
    profile: str = "h264",
    folder: str | os.PathLike[str] | None = None,
    **options: Any,
) -> ClipDataset:
    """The clips of a view's split that are in `store` (default: MANIFEST/store), made by `profile`, or in a plain
    `folder` of clip files. The other options are ClipDataset's.

    `training` is by default what the split says. Raises UsageError, LoadError, StoreError or FetchError.
    """
    names: dict[str, Any] = {"view": view, "split": split, "dialect": dialect}
    options.setdefault("training", split == "train")
    if folder is not None:
        if store is not None:
            raise UsageError("a dataset reads a store or a folder, not both")
        index = clips_of_folder(manifest, local_folder(folder, "folder of clips"), **names)
    else:
        from k710.fetch.store import Store

        root = manifest.path / "store" if store is None else local_folder(store, "store")
        index = clips_of_store(manifest, Store(root, profile), **names)
    return ClipDataset(index, **names, **options)


class ClipDataset(Dataset[LoadedClip]):
    """A map-style dataset of clips in clip_id order. `dataset[Sample(clip, …)]` or `dataset[clip]` loads one.

    `training`: random frames by `seed` (see RandomKey), unlabelled clips refused; else the frames of the view that the
    sample asks for, one of `num_clips` x `num_crops`. `num_frames`, `method` and `stride` are FrameSampling's,
    `decoder` is one of decode.DECODERS, `frame_reads` MediaFiles'. `on_error`: a clip that cannot be read or decoded
    raises LoadError ("raise"), or keeps its place with weight 0 ("zero_weight"). It pickles to a path and settings.
    """

    def __init__(
        self,
        index: ClipIndex,
        *,
        view: str,
        split: str,
        dialect: str = "canonical",
        training: bool,
        num_frames: int = 8,
        method: str = "sparse",
        stride: int | None = None,
        num_clips: int = 1,
        num_crops: int = 1,
        seed: int = 0,
        decoder: str = DEFAULT_DECODER,
        frame_reads: str = "small",
        on_error: str = "raise",
    ) -> None:
        if on_error not in ON_ERROR:
            raise UsageError(f"unknown on_error {on_error!r}; known: {', '.join(ON_ERROR)}")
        if training and (num_clips, num_crops) != (1, 1):
            raise UsageError(f"{num_clips} clips x {num_crops} crops are views of an evaluation; training has one")
        self.index, self.view, self.split, self.dialect = index, view, split, dialect
        self.training, self.seed, self.on_error = training, seed, on_error
        self.sampling = FrameSampling(num_frames, method, stride)
        self.views = evaluation_views(num_clips, num_crops)
        self._num_clips, self._decoder = num_clips, check_decoder(decoder)
        about = index.about
        self._files = MediaFiles(Path(about["folder"]), in_tars=about["in_tars"], frame_reads=frame_reads)
        unlabelled = int((index.class_ids == NO_CLASS).sum())
        if training and unlabelled:
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
        """SHA-256 over the exact list of clips, classes and bytes: what a run records of what it was trained on."""
        return str(self.index.about["fingerprint"])

    def loader(self, **options: Any) -> ClipLoader:
        """Batches of this dataset on a device, augmented; the options are ClipLoader's."""
        from k710.loading.loader import ClipLoader

        return ClipLoader(self, **options)

    def key(self, sample: Sample) -> RandomKey:
        """The name of a sample's randomness."""
        return RandomKey(self.seed, sample.epoch, self.index[sample.clip].clip_id, sample.repeat)

    def __getitem__(self, item: int | Sample) -> LoadedClip:
        """Raises IndexError beyond the last clip or view; LoadError where the clip fails and `on_error` is "raise"."""
        return self.load([item if isinstance(item, Sample) else Sample(int(item))])[0]

    def load(self, samples: Sequence[Sample]) -> list[LoadedClip]:
        """Several samples; those of one clip that stand side by side are read and decoded once."""
        loaded: list[LoadedClip] = []
        for clip, group in itertools.groupby(samples, key=lambda sample: sample.clip):
            loaded += self._load_clip(self.index[clip], list(group))
        return loaded

    def _load_clip(self, place: Place, samples: list[Sample]) -> Iterable[LoadedClip]:
        try:
            pixels, frames = self._frames(place, samples)
        except LoadError as error:
            if self.on_error == "raise":
                raise
            return [self._failed(place, sample, str(error)) for sample in samples]
        count = self.sampling.num_frames
        parts = [slice(number * count, (number + 1) * count) for number in range(len(samples))]
        return [
            LoadedClip(torch.from_numpy(pixels[part]), place.class_id, place.clip_id, frames[part], sample)
            for part, sample in zip(parts, samples, strict=True)
        ]

    def _frames(self, place: Place, samples: list[Sample]) -> tuple[npt.NDArray[np.uint8], Ints]:
        """The frames of all samples one behind the other: pixels, and which frames of the clip they are."""
        chosen: list[Ints] = []

        def choose(num_frames: int) -> Ints:
            found = np.concatenate([self._indices(place, sample, num_frames) for sample in samples])
            chosen.append(found)
            return found

        if place.frame_indices is not None:
            stored = place.frame_indices
            positions = nearest_stored(choose(place.num_frames), stored)
            needed, where = np.unique(positions, return_inverse=True)
            jpegs = self._files.read_frames(place, needed)
            return self._blaming(place, lambda: decode_jpegs(jpegs)[where]), stored[positions]
        media = self._files.read(place)
        pixels = self._blaming(place, lambda: decode(media, choose, decoder=self._decoder))
        return pixels, chosen[-1]

    def _indices(self, place: Place, sample: Sample, num_frames: int) -> Ints:
        if self.training:
            key = RandomKey(self.seed, sample.epoch, place.clip_id, sample.repeat)
            return self.sampling.train(num_frames, key.draws("frames"))
        return self.sampling.test(num_frames, clip=self.view_of(sample).clip, num_clips=self._num_clips)

    def view_of(self, sample: Sample) -> View:
        """Which view of its clip a sample is, in evaluation. Raises IndexError beyond the last."""
        return self.views[sample.view]

    def _blaming(self, place: Place, work: Any) -> npt.NDArray[np.uint8]:
        try:
            pixels: npt.NDArray[np.uint8] = work()
        except LoadError as error:
            raise LoadError(f"clip {place.clip_id} ({place.file}): {error}") from None
        return pixels

    def _failed(self, place: Place, sample: Sample, error: str) -> LoadedClip:
        size = (self.sampling.num_frames, _NO_PICTURE_PX, _NO_PICTURE_PX, 3)
        black, frames = torch.zeros(size, dtype=torch.uint8), np.full(self.sampling.num_frames, -1)
        return LoadedClip(black, place.class_id, place.clip_id, frames, sample, 0.0, error)

"""Packed shards, read from beginning to end: for storage on which long reads are much faster than small ones.

In each epoch the shards come in a seeded order, shared out between ranks and workers; inside a shard, clips are
shuffled within a window. A position is the list of shards that have been read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from k710.engine.part import Share
from k710.errors import K710Error, LoadError, UsageError
from k710.lists.labels import class_names
from k710.loading.augment.augment import Augment
from k710.loading.augment.mix import Mix
from k710.loading.batch import PackedBatch, pack_clips
from k710.loading.clip_index import NO_CLASS
from k710.loading.epochs import EpochWatch, check_epoch
from k710.loading.finish import Finish
from k710.loading.load_clip import ClipOptions, ClipReader, LoadedClip
from k710.loading.order import Sample
from k710.loading.sampling import View
from k710.loading.shard import COMMIT, SHARD, shard_clips
from k710.loading.workers import FailedClips, as_it_is, checked_batches, worker_options
from k710.manifest.read import Manifest, open_manifest
from k710.random_key import RandomKey
from k710.storage.remote import RemotePath
from k710.storage.storage import Location, location

_T = TypeVar("_T")


@dataclass(frozen=True)
class ShardStream:
    """Shards that `k710 pack` made, and how their clips are read; `open_stream` makes it. `about` is the content of
    shards.json."""

    folder: Location
    about: dict[str, Any]
    reader: ClipReader
    shuffle_clips: int

    @property
    def shards(self) -> dict[str, int]:
        """The shards by their file's name, and how many clips each has."""
        return {shard["file"]: shard["clips"] for shard in self.about["shards"]}

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the view's classes in the dialect's order."""
        own: Sequence[str] | None = self.about.get("labels")
        return tuple(own) if own else class_names(self.about["view"], self.about["dialect"])

    @property
    def training(self) -> bool:
        """Whether frames are drawn at random, for training."""
        return self.reader.training

    @property
    def seed(self) -> int:
        """The seed of the frames, the order and the augmentation."""
        return self.reader.options.seed

    @property
    def views(self) -> tuple[View, ...]:
        """The views of an evaluation, (temporal clip, crop) each."""
        return self.reader.options.views


def open_stream(
    manifest: Manifest | str | os.PathLike[str] | RemotePath,
    shards: str | os.PathLike[str] | RemotePath,
    *,
    training: bool | None = None,
    shuffle_clips: int = 200,
    options: ClipOptions | None = None,
) -> ShardStream:
    """The shards that `k710 pack` made of a manifest, to be read from beginning to end.

    `manifest` is an opened one, or the path or URL of one (`MANIFEST@VERSION` for an earlier version); `shards` is a
    folder or a URL. `training`: by default, whether their split is train. `shuffle_clips`: how many clips of a shard
    training shuffles at a time. `options`: how clips are sampled and decoded. Raises ManifestError where the manifest
    cannot be opened, UsageError for shards of another manifest, LoadError where there are none.
    """
    content_hash = (manifest if isinstance(manifest, Manifest) else open_manifest(manifest)).content_hash
    folder = location(shards)
    try:
        about = json.loads((folder / COMMIT).read_text(encoding="utf-8"))
        made_of, split, _, _ = (about[key] for key in ("manifest", "split", "view", "dialect"))
        names = [str(shard["file"]) for shard in about["shards"]]
        if not all(shard["clips"] > 0 for shard in about["shards"]):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise LoadError(f"{folder}: no shards there (no {COMMIT} that can be read); `k710 pack` makes some") from None
    for name in names:
        if not SHARD.fullmatch(name):
            raise LoadError(f"{folder / COMMIT}: lists {name!r}, which is no shard of this folder")
    if made_of != content_hash:
        raise UsageError(f"{folder}: made of manifest {made_of[:16]}, this is {content_hash[:16]}; pack it again")
    reader = ClipReader(options or ClipOptions(), split == "train" if training is None else training)
    return ShardStream(folder.resolve(), about, reader, max(shuffle_clips, 1))


class StreamLoader:
    """Batches of a ShardStream on a device, augmented: iterate over it for one epoch, and again for the next. Make one
    loader for all epochs. The arguments are those of ClipLoader.

    In training each worker of each rank drops an incomplete last batch, and all ranks get the same number of batches.
    `state_dict` lists the shards that this rank has read to their end. `load_state_dict` takes the states of all ranks,
    and the epoch continues with the other shards, on any number of ranks and workers: clips of a shard that was partly
    read are seen again. Raises UsageError where there are so few shards that a rank may get no batch.
    """

    def __init__(
        self,
        stream: ShardStream,
        *,
        batch_size: int,
        device: str | torch.device = "cpu",
        num_workers: int = 0,
        augment: Augment | None = None,
        mix: Mix | None = None,
        share: Share | None = None,
        epoch: int | None = None,
        prefetch: int = 2,
        start_method: str | None = None,
        dtype: torch.dtype = torch.float32,
        packed: bool = False,
        whole_frames: bool | None = None,
    ) -> None:
        self.stream, self.device, self._packed = stream, torch.device(device), packed
        self._whole_frames = packed if whole_frames is None else whole_frames
        self._share = share or Share()
        if batch_size < 1 or batch_size % self._share.world_size:
            raise UsageError(f"a batch of {batch_size} does not divide into {self._share.world_size} ranks")
        self._rank_batch = batch_size // self._share.world_size
        self._finish = Finish(augment or Augment(), mix, stream.reader.draws_frames, len(stream.labels), dtype)
        self._num_parts = max(num_workers, 1)
        options = worker_options(self.device, num_workers, prefetch=prefetch, start_method=start_method)
        self._workers = options | ({"persistent_workers": False} if num_workers else {})
        self.epoch = check_epoch(epoch, training=stream.training)
        self.num_failed, self._failed = 0, FailedClips()
        described = (stream.about, stream.reader, stream.shuffle_clips, self._finish.augment, mix, self._share)
        self._watch = EpochWatch(repr(described), sum(stream.shards.values()), wanted=epoch is not None)
        self._done: set[str] = set()
        smallest = sorted(stream.shards.values())[: len(stream.shards) // self._share.world_size]
        if not self._batches_of([sum(part) for part in self._of_workers(smallest)]):
            raise UsageError(
                f"{len(stream.shards)} shards for {self._share.world_size} ranks x {self._num_parts} workers and "
                f"batches of {self._rank_batch}: a rank may get none; pack more shards (--shard-clips), or take fewer "
                f"workers or smaller batches"
            )

    def __len__(self) -> int:
        """Batches of this rank from the position to the end of the epoch."""
        if not self.stream.training:
            return self._num_batches(self._share.rank)
        return min(self._num_batches(rank) for rank in range(self._share.world_size))

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and the shards that this rank has read to their end; after the last batch, the next epoch."""
        return {"seed": self.stream.seed, "epoch": self.epoch, "done": sorted(self._done)}

    def load_state_dict(self, *states: dict[str, Any]) -> None:
        """Go to the position that all ranks together had. Raises UsageError for states that do not fit."""
        found = {(state["seed"], state["epoch"]) for state in states}
        if found != {(self.stream.seed, epoch := states[0]["epoch"])}:
            raise UsageError(f"saved positions have (seed, epoch) {sorted(found)}, this run seed {self.stream.seed}")
        done = {name for state in states for name in state["done"]}
        if unknown := done - self.stream.shards.keys():
            raise UsageError(f"{self.stream.folder}: has no shard {min(unknown)}, which the saved position names")
        self.epoch, self._done, self._watch.wanted = epoch, done, True

    def __iter__(self) -> Iterator[Any]:
        """Raises LoadError where a shard or a clip fails, or a worker dies."""
        source = _Shards(
            self.stream,
            self._finish,
            self._parts(self._share.rank),
            self.epoch,
            self._rank_batch,
            whole_frames=self._whole_frames,
        )
        batches = checked_batches(DataLoader(source, batch_size=None, collate_fn=as_it_is, **self._workers))
        left = len(self)
        if not left:
            self._end_epoch()
        epoch, training = self.epoch, self.stream.training
        for number, (packed, finished) in enumerate(_first(batches, left), start=1):
            self.num_failed += self._failed.count(packed, training=training)
            self._done |= set(finished)
            left -= 1
            if training:
                if number == 1:
                    self._watch.begin(epoch)
                self._watch.given(epoch, number, is_whole=not left)
            if not left:
                self._end_epoch()
            on_device = packed.to(self.device)
            yield on_device if self._packed else self._finish.apply(on_device)

    def _end_epoch(self) -> None:
        self.epoch, self._done = self.epoch + 1, set()

    def _parts(self, rank: int) -> list[list[str]]:
        """The shards of each worker of a rank that are still to be read, in the order of the epoch.

        They are shared out to ranks first: clips that one rank has more than another are not read in that epoch.
        """
        names = list(self.stream.shards)
        if self.stream.training:
            numbers = RandomKey(self.stream.seed, self.epoch, 0).draws("order").raw(len(names))
            names = [names[number] for number in np.argsort(numbers, kind="stable")]
        left = [name for name in names if name not in self._done]
        return self._of_workers(left[rank :: self._share.world_size])

    def _of_workers(self, shards: list[_T]) -> list[list[_T]]:
        """One rank's shards, shared out to its workers."""
        return [shards[worker :: self._num_parts] for worker in range(self._num_parts)]

    def _num_batches(self, rank: int) -> int:
        return self._batches_of([sum(self.stream.shards[name] for name in part) for part in self._parts(rank)])

    def _batches_of(self, clips: list[int]) -> int:
        """How many batches workers with so many clips each make."""
        if self.stream.training:
            return sum(count // self._rank_batch for count in clips)
        return sum(-(-count * len(self.stream.views) // self._rank_batch) for count in clips)


class _Shards(IterableDataset[Any]):
    """The work of a worker process: it reads its shards and packs their clips into batches."""

    def __init__(
        self,
        stream: ShardStream,
        finish: Finish,
        parts: list[list[str]],
        epoch: int,
        batch_size: int,
        *,
        whole_frames: bool,
    ) -> None:
        self._stream, self._finish, self._parts, self._epoch, self._size = stream, finish, parts, epoch, batch_size
        self._needed_by = None if whole_frames else finish.augment

    def __iter__(self) -> Iterator[tuple[PackedBatch, list[str]] | K710Error]:
        info = get_worker_info()
        try:
            yield from self._batches(self._parts[info.id if info else 0])
        except K710Error as error:
            yield error

    def _batches(self, names: Sequence[str]) -> Iterator[tuple[PackedBatch, list[str]]]:
        """Batches, each with the shards whose last clip it contains."""
        loaded: list[LoadedClip] = []
        ended: list[tuple[int, str]] = []  # how many clips must be given out before the shard counts as read
        for name in names:
            for clip in self._clips(name):
                loaded.append(clip)
                if len(loaded) > self._size:
                    yield self._packed(loaded[: self._size]), [name for left, name in ended if left <= self._size]
                    ended = [(left - self._size, name) for left, name in ended if left > self._size]
                    loaded = loaded[self._size :]
            ended.append((len(loaded), name))
        if len(loaded) == self._size or (loaded and not self._stream.training):
            yield self._packed(loaded), [name for _, name in ended]

    def _clips(self, name: str) -> Iterator[LoadedClip]:
        stream = self._stream
        path, num_classes = stream.folder / name, len(stream.labels)
        window = stream.shuffle_clips if stream.training else 1
        draws = RandomKey(stream.seed, self._epoch, name).draws("order")
        for number, clip in enumerate(shard_clips(path, stream.shards[name], window, draws)):
            if not NO_CLASS <= clip.class_id < num_classes:
                raise LoadError(f"{path}: {clip.clip_id} has class {clip.class_id}; pack it again")
            if stream.training and clip.class_id == NO_CLASS:
                raise UsageError(f"{path}: {clip.clip_id} has no label to train on")
            num_views = 1 if stream.training else len(stream.views)
            samples = [Sample(number, self._epoch, view=view) for view in range(num_views)]
            yield from stream.reader.load(clip, samples, self._needed_by)

    def _packed(self, loaded: list[LoadedClip]) -> PackedBatch:
        (packed, loaded), stream = pack_clips(loaded, len(loaded)), self._stream
        views = [stream.reader.view_number(clip.clip_id, clip.sample) for clip in loaded]
        self._finish.choose(packed, loaded, stream.seed, [stream.views[view].crop for view in views])
        return packed


def _first(batches: Iterator[Any], count: int) -> Iterator[Any]:
    """The first `count` batches; it does not wait for workers that have more."""
    if not count:
        return
    for number, batch in enumerate(batches, start=1):
        yield batch
        if number == count:
            return

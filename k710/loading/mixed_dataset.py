"""MixedDataset: the clips of several sources as one dataset, each source drawn by its weight."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from k710.errors import LoadError, UsageError
from k710.loading.augment.augment import Augment
from k710.loading.clip_index import NO_CLASS
from k710.loading.dataset import DEFAULT_CACHE_BYTES, Counts
from k710.loading.load_clip import ClipOptions, LoadedClip
from k710.loading.mix_file import Mix, read_mix
from k710.loading.mix_member import LEFT_OUT, Member, of_folder, of_manifest
from k710.loading.mix_order import MixOrder
from k710.loading.order import EpochOrder, Sample
from k710.loading.sampling import View
from k710.loading.video_folder import VideoFolder
from k710.random_key import RandomKey


class MixedDataset(Dataset[LoadedClip]):
    """The clips of the members of a mix, one member after another, without classes; `open_mix` makes it.

    A clip_id has the member's name before it. What ClipLoader asks of a ClipDataset, it answers: in training, its order
    draws `clips_per_epoch` clips, of each member weight times as many as it has.
    """

    def __init__(self, members: Sequence[Member], *, options: ClipOptions, training: bool) -> None:
        self.members, self.training, self._options = tuple(members), training, options
        self._ends = np.cumsum([len(member) for member in members])
        self.reader = tuple(member.dataset.reader for member in members)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def clips_per_epoch(self) -> int:
        """The clips that an epoch draws."""
        return sum(member.part.num_draws for member in self.members)

    @property
    def labels(self) -> tuple[str, ...]:
        """None: a mix has no classes."""
        return ()

    @property
    def class_ids(self) -> npt.NDArray[np.int16]:
        """(clips,) -1 for every clip."""
        return np.full(len(self), NO_CLASS, np.int16)

    @property
    def counts(self) -> Counts:
        """Over all members; a video that was left out counts as failed."""
        counts = [member.counts for member in self.members]
        return Counts(*(sum(getattr(one, name) for one in counts) for name in ("in_split", "loaded", "failed")))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the members: their clips and bytes, draws and sampling. A run records it."""
        members = [{key: value for key, value in one.items() if key != LEFT_OUT} for one in self.record()]
        return hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()

    @property
    def seed(self) -> int:
        """The seed of the frames, the order and the augmentation."""
        return self._options.seed

    @property
    def views(self) -> tuple[View, ...]:
        """The views of an evaluation."""
        return self._options.views

    def order(self, num_repeats: int) -> EpochOrder:
        """In which order training draws the clips."""
        return MixOrder.of([member.part for member in self.members], self.seed, num_repeats)

    def num_drawn(self, epoch: int, start: int, stop: int, num_repeats: int) -> dict[str, int]:
        """How many of the samples `start` to `stop` of an epoch are of each member."""
        order = self.order(num_repeats)
        assert isinstance(order, MixOrder)
        return order.num_drawn(epoch, start, stop)

    def record(self) -> list[dict[str, Any]]:
        """What each member is, in plain values."""
        draws = self.clips_per_epoch
        return [
            {
                "name": member.name,
                **member.record,
                "weight": member.weight,
                "clips": len(member),
                "draws": member.part.num_draws,
                "share": round(member.part.num_draws / draws, 6),
            }
            for member in self.members
        ]

    def left_out(self) -> dict[str, dict[str, str]]:
        """Of each member that is a folder of videos, the files that cannot be used, and why; only where there are."""
        folders = {one.name: one.dataset for one in self.members if isinstance(one.dataset, VideoFolder)}
        return {name: folder.left_out for name, folder in folders.items() if folder.left_out}

    def messages(self) -> list[str]:
        """A line on each member: its clips and its share of an epoch, and what was left out."""
        return [line for member in self.members for line in member.messages(self.clips_per_epoch)]

    def key(self, sample: Sample) -> RandomKey:
        """The key from which all random choices of a sample follow."""
        member, clip = self._of(sample.clip)
        return RandomKey(self.seed, sample.epoch, member.clip_id(clip), sample.repeat)

    def __getitem__(self, item: int | Sample) -> LoadedClip:
        """Raises IndexError beyond the last clip; LoadError where it fails and `on_error` is "raise"."""
        return self.load([item if isinstance(item, Sample) else Sample(int(item))])[0]

    def load(self, samples: Sequence[Sample], augment: Augment | None = None) -> list[LoadedClip]:
        """Several samples, in their order. Neighbours of one clip are read and decoded once; `augment` is
        ClipReader.load's."""
        return list(self.load_each(samples, augment))

    def load_each(self, samples: Sequence[Sample], augment: Augment | None = None) -> Iterator[LoadedClip]:
        """As `load`, one after another."""
        for clip, group in itertools.groupby(samples, key=lambda sample: sample.clip):
            member, number = self._of(clip)
            yield from member.load(number, list(group), augment)

    @property
    def draws_frames(self) -> bool:
        """Whether a sample has random frames and a random crop, and not those of one of the views."""
        return self.training and not self._options.fixed_views

    def view_of(self, sample: Sample) -> View:
        """Which view of its clip a sample is."""
        member, clip = self._of(sample.clip)
        return self._options.views[member.dataset.reader.view_number(member.clip_id(clip), sample)]

    def _of(self, clip: int) -> tuple[Member, int]:
        if not 0 <= clip < len(self):
            raise IndexError(f"clip {clip} of {len(self)}")
        number = int(np.searchsorted(self._ends, clip, side="right"))
        return self.members[number], clip - int(self._ends[number - 1] if number else 0)


def open_mix(
    mix: Mix | str | os.PathLike[str],
    *,
    options: ClipOptions | None = None,
    split: str = "train",
    cache: Path | None = None,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    say: Callable[[str], None] = lambda line: None,
) -> MixedDataset:
    """The train or val clips of a mix, which is read already, or is the path of its file. Val clips are those of its
    manifests: a folder of videos has none.

    `options` are those of all members, but for a member's own stride. `say` gets a line before videos are looked into.
    Raises UsageError where a member cannot be, or none has a val split; and as `open_dataset` and `find_videos` do,
    naming the member.
    """
    mix, options = mix if isinstance(mix, Mix) else read_mix(os.fspath(mix)), options or ClipOptions()
    members = []
    for name, wanted in mix.members.items():
        own = options if wanted.stride is None else replace(options, stride=wanted.stride)
        try:
            member = (
                of_folder(name, wanted, own, split, say)
                if wanted.manifest is None
                else of_manifest(name, wanted, own, split, cache, cache_bytes)
            )
        except (LoadError, UsageError) as error:
            raise type(error)(f"{mix.path}: {name}: {error}") from None
        if member is not None:
            members.append(member)
    if not members:
        raise UsageError(f"{mix.path}: no member has {split} clips")
    return MixedDataset(members, options=options, training=split == "train")

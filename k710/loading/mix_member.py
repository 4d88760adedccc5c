"""A member of a mix, opened: which clips it has, which of them are drawn, and how many in an epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from k710.errors import UsageError
from k710.loading.augment.augment import Augment
from k710.loading.clip_index import NO_CLASS
from k710.loading.clip_source import Media
from k710.loading.dataset import ClipDataset, Counts
from k710.loading.find_videos import find_videos, left_out_text
from k710.loading.load_clip import ClipOptions, LoadedClip
from k710.loading.mix_file import MixMember
from k710.loading.mix_order import Part
from k710.loading.order import Sample
from k710.loading.video_folder import VideoFolder
from k710.manifest.read import open_manifest
from k710.random_key import Ints
from k710.storage.remote import RemotePath
from k710.storage.storage import local_folder

LEFT_OUT = "left_out"  # of a member's record: so many files cannot be used, which does not change what is drawn


@dataclass(frozen=True)
class Member:
    """An open member: its clips, those of them that are `chosen` (None: all), and how many are drawn in an epoch.

    `record` says what it is, for the record of a run.
    """

    name: str
    dataset: ClipDataset | VideoFolder
    chosen: Ints | None
    weight: float
    record: dict[str, Any]

    def __len__(self) -> int:
        return len(self.dataset) if self.chosen is None else len(self.chosen)

    @property
    def part(self) -> Part:
        """Its part of an epoch: weight times its clips, rounded, and at least 1."""
        return Part(self.name, len(self), max(round(self.weight * len(self)), 1))

    @property
    def prefix(self) -> str:
        """Before a clip_id, since members may have clips of one id."""
        return f"{self.name}/"

    def clip_id(self, clip: int) -> str:
        """The id of a clip, by its number."""
        return self.prefix + self.dataset.clip_id(self._number(clip))

    def load(self, clip: int, samples: Sequence[Sample], augment: Augment | None = None) -> list[LoadedClip]:
        """Samples of one clip, without its class: members have different ones."""
        loaded = self.dataset.load_clip(self._number(clip), samples, self.prefix, augment)
        return [one._replace(class_id=NO_CLASS) for one in loaded]

    def _number(self, clip: int) -> int:
        return clip if self.chosen is None else int(self.chosen[clip])

    @property
    def counts(self) -> Counts:
        """Its clips; a video that was left out counts as failed."""
        if isinstance(self.dataset, VideoFolder):
            left_out = len(self.dataset.left_out)
            return Counts(len(self) + left_out, len(self), left_out)
        of_all = self.dataset.counts
        return Counts(len(self) + of_all.missing, len(self), of_all.failed)

    def messages(self, draws: int) -> list[str]:
        """Lines on its clips, its part of the `draws` of an epoch, and what was left out."""
        of_all = "" if self.chosen is None else f" of {len(self.dataset):,}"
        line = f"{self.name}: {len(self):,}{of_all} {'clip' if len(self) == 1 and not of_all else 'clips'}"
        if isinstance(self.dataset, VideoFolder):
            line += f" ({self.dataset.content_text})"
        elif missing := self.dataset.counts.missing:
            line += f", {missing:,} are missing ({self.dataset.counts.failed:,} failed)"
        drawn = self.part.num_draws
        lines = [f"{line}; {drawn:,} an epoch, {drawn / draws:.1%} of the draws"]
        if (wanted := self.record["wanted"]) is not None and wanted > len(self):
            lines.append(f"{self.name}: {wanted:,} clips are wanted, and there are no more than {len(self):,}")
        if isinstance(self.dataset, VideoFolder) and self.dataset.left_out:
            lines.append(f"{self.name}: {left_out_text(self.dataset.left_out)}")
        return lines


def of_manifest(
    name: str, wanted: MixMember, options: ClipOptions, split: str, cache: Path | None, cache_bytes: int
) -> Member | None:
    """The clips of a view's split; None where the manifest has no such split, unless it is train. Raises as
    `open_dataset` does."""
    place = wanted.place("manifest")
    assert place is not None
    manifest = open_manifest(place)
    manifest.catalogue.check_view(wanted.view)
    store, folder = wanted.place("store"), wanted.place("folder")
    is_remote = folder is None and isinstance(place if store is None else store, RemotePath)
    media = Media(
        store,
        wanted.profile,
        None if folder is None else local_folder(folder, "folder of clips"),
        cache if is_remote else None,
        cache_bytes,
    )
    try:
        dataset = media.dataset(manifest, options, view=wanted.view, split=split, needs_labels=False)
    except UsageError:
        if split == "train":
            raise
        return None  # the lists that the manifest was built from have no such split
    record = {
        "manifest": manifest.content_hash,
        "view": wanted.view,
        "profile": media.profile_name,
        "fingerprint": dataset.fingerprint,
        "stride": options.stride,
    }
    return _member(name, wanted, dataset, split, record)


def of_folder(
    name: str, wanted: MixMember, options: ClipOptions, split: str, say: Callable[[str], None]
) -> Member | None:
    """The videos of a folder, which are all for training: None for another split. Raises LoadError without a video."""
    if split != "train":
        return None
    place = wanted.place("folder")
    assert place is not None
    folder = local_folder(place, "folder of videos")
    dataset = VideoFolder(
        folder,
        find_videos(folder, say=say),
        options=options,
        clip_frames=wanted.clip_frames,
        short_side_px=wanted.short_side_px,
    )
    record = {
        "fingerprint": dataset.fingerprint,
        "stride": options.stride,
        "clip_frames": wanted.clip_frames,
        "short_side_px": wanted.short_side_px,
        LEFT_OUT: len(dataset.left_out),
    }
    return _member(name, wanted, dataset, split, record)


def _member(
    name: str, wanted: MixMember, dataset: ClipDataset | VideoFolder, split: str, record: dict[str, Any]
) -> Member:
    chosen = None
    if split == "train" and wanted.clips is not None and wanted.clips < len(dataset):
        # By the hashes of their ids, so that the choice hardly changes where clips come or go.
        ids = (dataset.clip_id(clip).encode() for clip in range(len(dataset)))
        hashes = b"".join(hashlib.blake2b(one, digest_size=8).digest() for one in ids)
        chosen = np.sort(np.argsort(np.frombuffer(hashes, ">u8"), kind="stable")[: wanted.clips])
    return Member(name, dataset, chosen, wanted.weight, {**record, "of_clips": len(dataset), "wanted": wanted.clips})

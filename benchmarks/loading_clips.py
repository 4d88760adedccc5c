"""The clips of loading.py: a store in all profiles, its clips as files of their own, and what a batch shows of each."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet
import torch
from large_dataset import make_large
from loading_peers import Batches, Shown, crop

from k710 import ClipLoader, ClipOptions, open_dataset
from k710.cli import main as k710
from k710.loading.augment.augment import Augment
from k710.loading.batch import PackedBatch
from k710.loading.dataset import ClipDataset
from k710.loading.order import Sample
from k710.loading.sampling import nearest_stored
from k710.manifest.read import Manifest, open_manifest
from k710.manifest.views import split_of, view
from k710.sample.footage import clips_of, write_footage
from k710.sample.motions import LOOKS

KINDS = ("source", "h264", "frames")
NUM_CLIPS = 12
SIZE = (256, 340)  # height and width of the clips, in every profile
_SEED = 1
CROP_ALONE = Augment(randaugment=None)


@dataclass(frozen=True)
class Clips:
    """A dataset of one profile, its clips as `files` of their own, by clip_id, and the tars that hold them."""

    dataset: ClipDataset
    files: dict[str, Path]
    shards: list[Path]

    def shown(self, num_epochs: int) -> list[Shown]:
        """What the loader shows of each clip in epochs 0, 1, …"""
        return [self._shown(clip, epoch) for epoch in range(num_epochs) for clip in range(len(self.dataset))]

    def _shown(self, clip: int, epoch: int) -> Shown:
        place, key = self.dataset.index[clip], self.dataset.key(Sample(clip, epoch))
        frames = self.dataset.reader.options.sampling.train(place.num_frames, key.draws("frames"))
        if place.frame_indices is not None:
            frames = nearest_stored(frames, place.frame_indices)
        choice = CROP_ALONE.choose(key, *SIZE)
        return Shown(place.clip_id, self.files[place.clip_id], tuple(frames.tolist()), choice.box, choice.flip)


def make_store(folder: Path, kinds: Sequence[str] = KINDS, num_clips: int = NUM_CLIPS) -> Manifest:
    """A manifest of the sample whose first K400 train clips are in its store, in these profiles."""
    run = partial(k710, standalone_mode=False)
    run(["build", "--sources", "k400,k600,k700", "--annotations", "sample", "--out", str(folder / "m")])
    manifest = open_manifest(folder / "m")
    clips = clips_of(split_of(view(manifest.clips, "k400"), "train"))[:num_clips]
    write_footage(folder / "clips", clips, look=LOOKS["released"])
    for kind in kinds:
        chosen = ["--view", "k400", "--splits", "train", "--profile", kind]
        run(["fetch", str(folder / "m"), "--from", f"local:{folder / 'clips'}", *chosen])
    return manifest


def clips_in(manifest: Manifest, kind: str, folder: Path, *, frame_reads: str | None = None) -> Clips:
    """The clips of a profile; their files are written to `folder`."""
    options = ClipOptions(seed=_SEED)
    dataset = open_dataset(manifest, view="k400", profile=kind, options=options, frame_reads=frame_reads)
    return Clips(dataset, *_files_of(sorted((manifest.path / "store/tars" / kind).glob("*.tar")), folder))


def _files_of(shards: list[Path], folder: Path) -> tuple[dict[str, Path], list[Path]]:
    folder.mkdir(exist_ok=True)
    files = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                clip_id, _, suffix = Path(member.name).name.partition(".")
                if suffix != "json":
                    content = tar.extractfile(member)
                    assert content is not None
                    files[clip_id] = folder / f"{clip_id}.{suffix}"
                    files[clip_id].write_bytes(content.read())
    return files, shards


def large_clips(manifest: Manifest, kind: str, folder: Path, num_clips: int) -> Clips:
    """A dataset of `num_clips` clips that all have the bytes of one clip of the store, in tars of a quarter each."""
    media = sorted((manifest.path / "store/media" / kind).glob("*.parquet"))[0]
    row = next(row for row in pyarrow.parquet.read_table(media).to_pylist() if row["failure"] is None)
    with (manifest.path / "store/tars" / kind / row["tar"]).open("rb") as tar:
        tar.seek(row["offset"])
        content = tar.read(row["size"])
    make_large(folder, kind, num_clips, (content, row), num_clips)
    file = folder / f"clip.{row['suffix']}"
    file.write_bytes(content)
    dataset = open_dataset(folder / "m", profile=kind, options=ClipOptions(seed=_SEED))
    ids = [dataset.index[clip].clip_id for clip in range(len(dataset))]
    shards = []
    for number in range(4):
        shards.append(folder / f"shard-{number}.tar")
        with tarfile.open(shards[-1], "w") as tar_file:
            for clip_id in ids[number::4]:
                tar_file.add(file, f"{clip_id}.{row['suffix']}")
    return Clips(dataset, dict.fromkeys(ids, file), shards)


def whole_frames(clips: Clips, batch_size: int, num_workers: int) -> Callable[[], Any]:
    """Passes of k710's loader, one epoch each: PackedBatch, in which frames are whole and a crop is chosen."""
    loader = ClipLoader(clips.dataset, batch_size=batch_size, num_workers=num_workers, packed=True, epoch=0)
    return lambda: iter(loader)


def cropped(packed: PackedBatch) -> tuple[list[str], torch.Tensor]:
    """A batch as the peers give it."""
    assert packed.choices is not None
    crops = [crop(clip, one.box, one.flip) for clip, one in zip(packed.clips, packed.choices, strict=True)]
    return packed.clip_ids, torch.stack(crops)


def in_batches(clips: Clips, batch_size: int, num_workers: int) -> Callable[[], Batches]:
    """Passes of k710's loader up to the batches of the peers: as they do, it decodes and keeps what the crop shows."""
    loader = ClipLoader(
        clips.dataset,
        batch_size=batch_size,
        num_workers=num_workers,
        augment=CROP_ALONE,
        packed=True,
        whole_frames=False,
        epoch=0,
    )
    return lambda: (cropped(packed) for packed in loader)

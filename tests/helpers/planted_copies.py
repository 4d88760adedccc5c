"""What the tests of near-duplicates share: a manifest whose train repeats its val, in many ways, and its store."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from click.testing import Result

from k710.sample.copies import COPIES, Copy
from k710.sample.footage import Clip, write_video
from k710.sample.motions import Look
from k710.sample.textures import textured_frames
from tests.helpers.small_stores import LABELS, manifest_of

LOOK = Look(128, 96, 8, noise=0, preset="ultrafast", crf=23)
SPAN_S = 8
PLAIN = Copy()


@dataclass(frozen=True)
class Planted:
    """A clip of the textured video `shows`, as `copy` makes it, under an ID of its own."""

    youtube_id: str
    split: str
    shows: str
    copy: Copy = PLAIN
    start_s: int = 10
    label: str = LABELS[0]

    @property
    def clip(self) -> Clip:
        return Clip(self.youtube_id, self.start_s, self.start_s + SPAN_S, self.label, self.split)

    @property
    def clip_id(self) -> str:
        return self.clip.clip_id


def small_set() -> list[Planted]:
    """Three held-out originals with copies in train; a video that stands in train three times; and strangers."""
    held_out = [Planted(f"held-out-{n:02d}", "val", f"video {n}") for n in range(3)]
    # 'shifted by' plants copies that begin later; the names are in no order of their originals.
    ways = ["encoded anew, crf 32", "mirrored", "letterboxed", "cropped by 10 %", "shifted by 2.1 s", "watermarked"]
    copies = [Planted(f"copy-{n:02d}-abc", "train", f"video {n % 3}", COPIES[way]) for n, way in enumerate(ways)]
    repeats = [Planted(f"-repeat-{n}ab", "train", "train video", COPIES[way]) for n, way in enumerate(ways[:3])]
    strangers = [Planted(f"stranger-{n:02d}", "train", f"stranger {n}") for n in range(4)]
    return [*held_out, *copies, *repeats, *strangers]


def write_planted(folder: Path, planted: Iterable[Planted]) -> Path:
    """The clip files of `planted`, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in planted:
        look, first = each.copy.look(LOOK), round(each.copy.shift_s * LOOK.fps)
        frames = textured_frames(each.shows, first + SPAN_S * LOOK.fps, LOOK)
        copied = each.copy.frames(itertools.islice(frames, first, None), look)
        write_video(folder / f"{each.clip_id}.mp4", copied, look)
    return folder


def planted_manifest(
    k710: Callable[..., Result], folder: Path, planted: list[Planted], *, profile: str = "h264"
) -> Path:
    """The manifest of a K400 that has these clips, and its store, in `folder`."""
    manifest = manifest_of(k710, folder, [each.clip for each in planted])
    clips = write_planted(folder / "clips", planted)
    result = k710("fetch", manifest, "--from", f"local:{clips}", "--profile", profile, "--workers", 2)
    assert result.exit_code == 0, result.output
    return manifest

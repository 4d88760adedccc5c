"""What the tests of loading share: a manifest of the sample whose clips carry the numbers of their frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import Result

from k710.manifest.read import Manifest, open_manifest
from k710.manifest.views import view
from k710.sample.footage import clips_of, write_video
from k710.sample.motions import Look
from k710.sample.numbered import numbered_frames, read_number

LOOK = Look(128, 96, 12)
PROFILES = ("h264", "source", "frames")


def num_frames_of(clip_id: str) -> int:
    """How long a clip is: not all are as long as their span, and no two frames of one are alike."""
    return 50 + sum(clip_id.encode()) % 60


@dataclass(frozen=True)
class Numbered:
    """A built manifest, its store with PROFILES, and the folder of clip files that it was fetched from."""

    manifest: Manifest
    clips: Path


def make_numbered(folder: Path, k710: Callable[..., Result], profiles: tuple[str, ...] = PROFILES) -> Numbered:
    """The clips of view k400, train and val, in a store of these profiles."""
    built = k710("build", "--sources", "k400,k600,k700", "--annotations", "sample", "--out", folder / "m")
    assert built.exit_code == 0, built.output
    manifest = open_manifest(folder / "m")
    clips = folder / "clips"
    clips.mkdir()
    released: dict[str, Any] = {"options": {"g": "250", "bf": "3"}}
    for clip in clips_of(view(manifest.clips, "k400")):
        if clip.split != "test":
            frames = numbered_frames(num_frames_of(clip.clip_id), LOOK)
            write_video(clips / f"{clip.clip_id}.mp4", frames, LOOK, **released)
    for profile in profiles:
        chosen = ("--view", "k400", "--profile", profile, "--workers", 2)
        result = k710("fetch", folder / "m", "--from", f"local:{clips}", *chosen)
        assert result.exit_code == 0, result.output
    return Numbered(manifest, clips)


def numbers(pixels: Any) -> list[int]:
    """The numbers that frames (T, H, W, 3) carry."""
    return [read_number(frame) for frame in pixels.numpy()]

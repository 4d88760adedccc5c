"""What the tests of fetching share: manifests of a few rows, clips whose frames carry their number, a look into stores.

Clips are two seconds long and 64x48 pixels large, so that a whole run of the command line takes a fraction of a second.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from k710.maintenance.verify import read_media
from k710.sample.footage import encode_video, write_video
from k710.sample.motions import Look
from k710.sample.numbered import numbered_frames, read_number
from k710.store.store import Store

LOOK = Look(64, 48, 10, noise=0, preset="ultrafast")
Rows = Mapping[tuple[str, str], Iterable[tuple[str, int, int]]]


def write_lists(folder: Path, rows: Rows) -> Path:
    """Annotation lists by (source, split), of (ID, start, end); every clip is an abseiling."""
    folder.mkdir(parents=True, exist_ok=True)
    for (source, split), clips in rows.items():
        label = "" if split == "test" else "abseiling,"
        lines = [f"{label}{youtube_id},{start},{end},{split}" for youtube_id, start, end in clips]
        header = ("" if split == "test" else "label,") + "youtube_id,time_start,time_end,split"
        (folder / f"{source}_{split}.csv").write_text("\n".join([header, *lines, ""]))
    return folder


def build(k710: Any, folder: Path, rows: Rows, *more: object) -> Path:
    """The manifest of such lists, built by the command line."""
    sources, splits = (",".join(dict.fromkeys(key[place] for key in rows)) for place in (0, 1))
    lists = write_lists(folder / "lists", rows)
    out = folder / "manifest"
    options = ("--sources", sources, "--splits", splits, "--annotations", lists, "--out", out)
    result = k710("build", *options, *more)
    assert result.exit_code == 0, result.output
    return out


def clip_file(path: Path, *, seconds: float = 2, first: int = 0, look: Look = LOOK, **how: Any) -> Path:
    """A video file of numbered frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, numbered_frames(look.num_frames(seconds), look, first=first), look, **how)
    return path


def clip_bytes(*, seconds: float = 2, first: int = 0, look: Look = LOOK, **how: Any) -> bytes:
    """The same as bytes."""
    return encode_video(numbered_frames(look.num_frames(seconds), look, first=first), look, **how)


def frame_folder(
    folder: Path, shown: range, *, name: str = "{:05d}.jpg", first: int = 1, size: tuple[int, int] = (64, 48)
) -> Path:
    """A folder of JPEGs that show these numbers, in files that are numbered from `first` on."""
    folder.mkdir(parents=True, exist_ok=True)
    look = Look(*size, 10, noise=0, preset="ultrafast")
    for number, pixels in enumerate(numbered_frames(len(shown), look, first=shown.start), first):
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height = size
        encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 12)
        frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuvj420p")
        (folder / name.format(number)).write_bytes(
            b"".join(map(bytes, [*encoder.encode(frame), *encoder.encode(None)]))
        )
    return folder


def numbers(video: Path | bytes) -> list[int]:
    """The numbers of all frames, in the order in which they are shown."""
    source = str(video) if isinstance(video, Path) else io.BytesIO(video)
    with av.open(source) as file:
        return [read_number(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]


def settled(store: Path, profile: str = "h264") -> dict[str, dict[str, Any]]:
    """The media row that counts of each clip."""
    return {row["clip_id"]: row for row in Store(store, profile).best_rows().to_pylist()}


def fetched(store: Path, profile: str = "h264") -> dict[str, bytes]:
    """The bytes of each clip that is there."""
    opened = Store(store, profile)
    found = {}
    for clip_id, row in settled(store, profile).items():
        if row["failure"] is None:
            with (opened.tars_folder / row["tar"]).open("rb") as tar:
                found[clip_id] = read_media(tar, row)
    return found


def files_under(folder: Path) -> dict[str, bytes]:
    """Every file and folder under a folder: what a run that writes nothing leaves as it was."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}

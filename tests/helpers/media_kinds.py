"""What a kind of media file is, and the ways to make one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.media_bytes import (
    FOOTAGE,
    HEIGHT_PX,
    SOUND,
    SPAN_S,
    WIDTH_PX,
    base,
    encode,
    encoders,
    ffmpeg,
    put_secret,
)

NORMAL_PX = (WIDTH_PX, HEIGHT_PX)

Build = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    build: Build
    outcome: str | tuple[str, ...]
    flags: tuple[str, ...] = ()
    note: str = ""
    size_px: tuple[int, int] | None = NORMAL_PX  # as shown: upright, in square pixels; None: not a matter of this kind
    encoders: tuple[str, ...] = ()  # what an ffmpeg may lack

    @property
    def outcomes(self) -> tuple[str, ...]:
        return (self.outcome,) if isinstance(self.outcome, str) else self.outcome

    @property
    def missing(self) -> str:
        """Why this kind cannot be built here; empty if it can."""
        missing = [name for name in self.encoders if name not in encoders()]
        return f"this ffmpeg has no {', '.join(missing)}" if missing else ""


def all_are(outcome: str, builds: Mapping[str, Build]) -> dict[str, Kind]:
    return {name: Kind(build, outcome, size_px=None) for name, build in builds.items()}


def bytes_of(data: bytes | str) -> Build:
    return lambda path: path.write_bytes(data.encode() if isinstance(data, str) else data)


def changed(name: str, change: Callable[[bytes], bytes]) -> Build:
    """A base clip with other bytes."""
    return lambda path: path.write_bytes(change(base(name)))


def encoded(arguments: str, *, source: str = FOOTAGE, sound: str = SOUND, seconds: float = SPAN_S) -> Build:
    return lambda path: encode(path, arguments, source=source, sound=sound, seconds=seconds)


def copied(arguments: str, *, of: str = "mp4", before: str = "", seconds: float = SPAN_S) -> Build:
    """A base clip in another container, or with streams dropped, moved or marked, without encoding it again."""

    def make(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "base"
            whole.write_bytes(base(of, seconds))
            ffmpeg(*before.split(), "-i", whole, "-c", "copy", "-bitexact", *arguments.split(), path)

    return make


def reaching(text: str) -> Build:
    """A file that names the secret clip, by {absolute} or by {relative} path."""

    def make(path: Path) -> None:
        place = put_secret(path)
        path.write_text(text.format(absolute=place, relative=place.name))

    return make


def with_cover(path: Path, keep: str) -> None:
    """What `keep` takes of a base clip, and a cover picture that is larger than it."""
    with tempfile.TemporaryDirectory() as folder:
        whole, cover = Path(folder) / "base", Path(folder) / "cover.png"
        whole.write_bytes(base("mp4"))
        ffmpeg("-f", "lavfi", "-i", "smptebars=size=320x320", "-frames:v", 1, cover)
        number = 0 if "v" not in keep else 1
        marks = f"-disposition:v:{number} attached_pic -f mp4"
        ffmpeg("-i", whole, "-i", cover, *keep.split(), "-map", 1, "-c", "copy", "-bitexact", *marks.split(), path)

"""What a clip is: the span that it was asked for by, and what its file was measured to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Measured:
    """What a clip's file is, by its own packets and pictures. The size is that on the screen, after any rotation."""

    width: int
    height: int
    fps: float
    num_frames: int
    duration_s: float
    codec: str
    flags: tuple[str, ...] = ()


class FramePlaces(NamedTuple):
    """Of frames that are stored one by one: where each begins in the file, and which frame of the clip it is."""

    offsets: tuple[int, ...]
    indices: tuple[int, ...]

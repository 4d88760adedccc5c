"""Checked before it counts: does a clip decode, is all of it there, and does anything happen in it?"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from k710.fetch.encode.damage import MAX_LOST_SHARE, check_share, damage, each_stands_alone
from k710.fetch.encode.measured import Measured
from k710.fetch.encode.source_file import open_video, video_stream
from k710.store.containers import Container
from k710.store.display import Display, display_of
from k710.store.failures import ClipError

MIN_FRAMES, MIN_DURATION_S = 8, 1.0
FEW_PICTURES = 8  # too few to say that nothing moves
_GRID_PX = 32  # pictures are compared at this size
_EVERY_S = 0.25
_KEY_PICTURES = 12  # at most, of what was just encoded
_LUMA_FIRST = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "gray")
_SAME_LEVELS, _BLACK_LEVEL = 6, 24  # of 255; encoding a still again moves it a little, and limited-range black is 16


@dataclass
class _Reading:
    """What was met while a file was read."""

    times_s: list[float] = field(default_factory=list)
    last_duration_s: float = 0.0
    num_hidden: int = 0  # packets that an edit list hides
    num_pictures: int = 0  # that decoded, undamaged
    num_lost: int = 0
    size: tuple[int, int] = (0, 0)
    pictures: list[npt.NDArray[Any]] = field(default_factory=list)  # (32, 32) each, grey


def measure(path: Path, container: Container, *, decode_all: bool) -> Measured:
    """Read a clip's file to its end. `decode_all`: every frame, as for bytes from outside; else the key frames, as for
    what was just encoded. Flags: `frozen`, `black`. Raises ClipError ("undecodable", "corrupt", "short")."""
    with open_video(path, container) as file:
        stream = video_stream(file)
        found = _read(file, stream, decode_all=decode_all)
        tick_s = float(stream.time_base or 0)
        claimed, codec = stream.frames - found.num_hidden, stream.codec_context.name
    if not decode_all and len(found.pictures) < FEW_PICTURES:
        return measure(path, container, decode_all=True)
    if decode_all and (found.num_lost or each_stands_alone(codec)):
        check_share(damage(path, container))
    if not found.pictures:
        raise ClipError("undecodable", "no picture decodes")
    # A packet may hold two pictures or none, as in AVI: where all were decoded, pictures are counted.
    num_frames = found.num_pictures if decode_all else len(found.times_s) - found.num_lost
    if found.num_lost > MAX_LOST_SHARE * len(found.times_s):
        raise ClipError("corrupt", f"{found.num_lost} of {len(found.times_s)} frames do not decode")
    num_there = len(found.times_s) - found.num_lost
    if container.demuxer == "avi" and tick_s:  # whose header counts chunks, also those without a picture in them
        covered_s = max(found.times_s) - min(found.times_s) + _usual_gap_s(found.times_s)
        num_there = max(num_there, round(covered_s / tick_s) - found.num_lost)
    if num_there < (1 - MAX_LOST_SHARE) * claimed - 1:
        raise ClipError("corrupt", f"{num_there} of {claimed} frames are there")
    duration_s = max(found.times_s) - min(found.times_s) + (found.last_duration_s or _usual_gap_s(found.times_s))
    if num_frames < MIN_FRAMES or duration_s < MIN_DURATION_S:
        raise ClipError("short", f"{num_frames} frames in {duration_s:.1f} s")
    fps = round(num_frames / duration_s, 3)
    return Measured(*found.size, fps, num_frames, round(duration_s, 3), codec, _flags(found.pictures))


def _read(file: av.container.InputContainer, stream: av.VideoStream, *, decode_all: bool) -> _Reading:
    found, looked_s, tick_s = _Reading(), -math.inf, float(stream.time_base or 0)
    display: Display | None = None
    every_s = _EVERY_S if decode_all else float(stream.duration or 0) * tick_s / _KEY_PICTURES
    for packet in _packets(file, stream):
        if packet.is_discard:
            found.num_hidden += 1
        elif packet.size:
            at_s = _next_s(found.times_s, stream) if packet.pts is None else packet.pts * tick_s
            found.times_s.append(at_s)
            found.last_duration_s = (packet.duration or 0) * tick_s
            if not decode_all:
                if not packet.is_keyframe or at_s < looked_s + every_s:
                    continue
                looked_s = at_s
        try:
            pictures = packet.decode()
        except av.error.FFmpegError:
            found.num_lost += 1
            continue
        for picture in pictures:
            found.num_lost += picture.is_corrupt
            found.num_pictures += not picture.is_corrupt
            display = display or display_of(picture, stream.sample_aspect_ratio)
            found.size = display.size(picture.width, picture.height)
            if not decode_all or picture.time is None or picture.time >= looked_s + every_s:
                looked_s = looked_s if picture.time is None or not decode_all else picture.time
                found.pictures.append(_small(picture))
    return found


def _small(picture: av.VideoFrame) -> npt.NDArray[Any]:
    """The picture's brightness as (32, 32); the mean of its parts where its first plane is that brightness."""
    part_px, part_py = picture.width // _GRID_PX, picture.height // _GRID_PX
    if picture.format.name not in _LUMA_FIRST or not part_px or not part_py:
        return picture.reformat(_GRID_PX, _GRID_PX, "gray").to_ndarray()
    plane = picture.planes[0]
    luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    luma = luma[: part_py * _GRID_PX, : part_px * _GRID_PX]
    # Rows first: over both axes at once, NumPy takes ten times as long.
    rows = luma.reshape(_GRID_PX, part_py, -1).sum(1, dtype=np.uint32)
    sums = rows.reshape(_GRID_PX, _GRID_PX, part_px).sum(2, dtype=np.uint32)
    small: npt.NDArray[Any] = np.divide(sums, part_py * part_px, dtype=np.float32)
    return small


def _packets(file: av.container.InputContainer, stream: av.VideoStream) -> Iterator[Any]:
    """The stream's packets up to where the file breaks off; what is missing then shows in their number."""
    try:
        yield from file.demux(stream)
    except av.error.FFmpegError:
        return


def _next_s(times_s: list[float], stream: av.VideoStream) -> float:
    """The time of a picture that has none, as in AVI: one frame after the last."""
    return times_s[-1] + 1 / float(stream.average_rate or 25) if times_s else 0.0


def _usual_gap_s(times_s: list[float]) -> float:
    ordered = sorted(times_s)
    gaps = [later - earlier for earlier, later in itertools.pairwise(ordered)]
    return statistics.median(gaps) if gaps else 0.0


def _flags(pictures: list[npt.NDArray[Any]]) -> tuple[str, ...]:
    stack = np.stack(pictures).astype(np.float32)  # (pictures, 32, 32)
    if stack.max() <= _BLACK_LEVEL:
        return ("black",)
    if np.abs(stack - stack[0]).max() <= _SAME_LEVELS:
        return ("frozen",)
    return ()

"""A found video file: what it says of itself, and which part of it is the clip."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error

from k710.containers import SNIFF_BYTES, Container, sniff
from k710.fetch.failures import ClipError
from k710.fetch.jobs import Span

TOLERANCE_S = 0.5  # between a span and the file that is cut to it: crawlers cut at frames of their own choice
TRIMMED_S = 5.0  # a file of a span that lasts at most this much longer was cut at key frames, and loses its end
MAX_PIXELS = 8192 * 4352  # more than 8K; a larger claim is a bomb
MAX_FPS = 240
TRIED_PACKETS = 200  # until the first picture

# Nothing but the file itself is ever opened, whatever it says.
OPEN_OPTIONS = {"protocol_whitelist": "file", "enable_drefs": "0"}


@dataclass(frozen=True)
class SourceFile:
    """What a video file declares. Sizes are those on the screen: rotated, with square pixels."""

    path: Path
    container: Container
    stream: int  # index of the video stream in the file
    codec: str
    width_px: int
    height_px: int
    duration_s: float
    rotated: bool
    size_bytes: int

    @property
    def short_side_px(self) -> int:
        return min(self.width_px, self.height_px)


@dataclass(frozen=True)
class Part:
    """The part of a file that is the clip. `start_s` None: from its beginning, `whole`: all of it, as it is."""

    start_s: float | None
    duration_s: float
    whole: bool
    flags: tuple[str, ...] = ()


def container_of(path: Path) -> Container:
    """The container by the file's first bytes. Raises ClipError where it is none."""
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    if found := sniff(head):
        return found
    raise ClipError("not_video", "an empty file" if not head else f"no video file: begins with {head[:16]!r}")


def open_video(path: Path, container: Container) -> av.container.InputContainer:
    """The file opened by the demuxer of its container, which may open nothing else. Raises ClipError."""
    try:
        return av.open(f"file:{path.resolve()}", format=container.demuxer, options=OPEN_OPTIONS)
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError("undecodable", f"cannot be opened: {said(error)}") from None


def video_stream(file: av.container.InputContainer) -> av.VideoStream:
    """The first stream of moving pictures; cover art is none. Raises ClipError where there is none."""
    for stream in file.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if not hasattr(stream, "codec_context") or stream.codec_context is None:
                raise ClipError("undecodable", "its video codec is unknown")
            return stream
    raise ClipError("undecodable", "there is no video in it")


def probe(path: Path) -> SourceFile:
    """What the file declares, and how its first picture stands. Raises ClipError."""
    container = container_of(path)
    with open_video(path, container) as file:
        stream = video_stream(file)
        context = stream.codec_context
        if not 1 <= context.width * context.height <= MAX_PIXELS:
            raise ClipError("undecodable", f"claims {context.width}x{context.height} pixels")
        duration_s = _duration_s(file, stream)
        if stream.frames > MAX_FPS * max(duration_s, 1):
            raise ClipError("mismatch", f"claims {stream.frames:,} frames in {duration_s:.1f} s")
    with open_video(path, container) as file:  # the duration may have been read through to the end
        stream = video_stream(file)
        picture = _first_picture(file, stream)
        width_px = max(1, round(picture.width * (stream.sample_aspect_ratio or Fraction(1))))
        shown = (width_px, picture.height) if picture.rotation % 180 == 0 else (picture.height, width_px)
        codec, turned = stream.codec_context.name, picture.rotation % 360 != 0
        return SourceFile(path, container, stream.index, codec, *shown, duration_s, turned, path.stat().st_size)


def part_of(source: SourceFile, span: Span, *, named_span: bool, spans: Sequence[Span]) -> Part:
    """Which part of `source` is the clip `span`, in whole seconds of the video.

    `named_span`: the file is named by the span, so it begins where the span begins. Otherwise it is named by the video
    alone, whose clips have these `spans`: it may be the whole video, which is cut, or a clip where there is but one.
    Raises ClipError ("mismatch", "ambiguous", "short").
    """
    start_s, end_s = span
    length_s, lasts_s = end_s - start_s, source.duration_s
    about_a_span = any(abs(lasts_s - (end - start)) <= TOLERANCE_S for start, end in spans)
    if not named_span and about_a_span and len(spans) > 1:
        raise ClipError("ambiguous", f"lasts {lasts_s:.1f} s and could be any of the {len(spans)} spans of its video")
    if named_span or about_a_span:
        if lasts_s <= length_s + TOLERANCE_S:
            return Part(None, min(length_s, lasts_s), whole=True)
        if lasts_s <= length_s + TRIMMED_S:
            return Part(None, length_s, whole=False, flags=("trimmed",))
        raise ClipError("mismatch", f"lasts {lasts_s:.1f} s, its span {length_s} s")
    if lasts_s >= end_s - TOLERANCE_S:
        return Part(start_s, length_s, whole=False)
    if len(spans) == 1 and lasts_s < length_s:
        return Part(None, lasts_s, whole=True)  # a clip that its video cut short; flagged once it is measured
    raise ClipError("mismatch", f"lasts {lasts_s:.1f} s: neither the clip of {length_s} s nor a video up to {end_s} s")


def _duration_s(file: av.container.InputContainer, stream: av.VideoStream) -> float:
    """How long the video stream says it lasts. Containers whose streams do not say are read through."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION")
    if tag and (seconds := _tag_s(tag)):
        return seconds
    return _demuxed_s(file, stream)


def _demuxed_s(file: av.container.InputContainer, stream: av.VideoStream) -> float:
    """From the first to the last picture; the whole file's own claim where all its streams stop short of it."""
    first_s, ends_s = None, {-1: 0.0}
    try:
        for packet in file.demux():
            if packet.pts is None or packet.time_base is None:
                continue
            at_s = float(packet.pts * packet.time_base)
            first_s = at_s if first_s is None else min(first_s, at_s)
            end_s = at_s + float((packet.duration or 0) * packet.time_base)
            ends_s[packet.stream_index] = max(ends_s.get(packet.stream_index, 0.0), end_s)
    except av.error.FFmpegError:
        pass  # what is missing shows when it is decoded
    start_s = first_s or 0.0
    claimed_s = (file.duration or 0) / av.time_base
    if claimed_s > max(ends_s.values()) - start_s + 1.0:
        return claimed_s  # cut off: what is missing shows when it is decoded
    return max(0.0, ends_s.get(stream.index, 0.0) - start_s)


def _tag_s(tag: str) -> float | None:
    """The seconds of Matroska's `00:00:10.010000000`."""
    try:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _first_picture(file: av.container.InputContainer, stream: av.VideoStream) -> av.VideoFrame:
    """The first picture that decodes: the display matrix that turns it stands nowhere else."""
    for packet in itertools.islice(file.demux(stream), TRIED_PACKETS):
        try:
            pictures = packet.decode()
        except av.error.FFmpegError:
            continue
        if pictures:
            return pictures[0]
    raise ClipError("undecodable", "no picture decodes")


def said(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)

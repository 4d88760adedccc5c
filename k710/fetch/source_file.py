"""A found video file: what it says of itself, and which part of it is the clip."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from k710.containers import DEMUXERS, SNIFF_BYTES, Container, sniff
from k710.fetch.failures import ClipError
from k710.fetch.jobs import Span

TOLERANCE_S = 0.5  # between a span and the file that is cut to it: crawlers cut at frames of their own choice
TRIMMED_S = 5.0  # a file of a span that lasts at most this much longer was cut at key frames, and loses its end
MAX_PIXELS = 8192 * 4352  # more than 8K; a larger claim is a bomb
MAX_FPS = 240
JUMP_S = 60.0  # between two frames: the clock of a transport stream is damaged
TRIED_PACKETS = 200  # until the first picture

# Nothing but the file itself is ever opened, whatever it says.
OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(DEMUXERS), "enable_drefs": "0"}


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
    frames_gone: float  # the share that the gaps between its frames leave room for; 0 at a steady rate
    longest_gap_s: float = 0.0  # between two frames: a still may stand for long

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
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
        raise ClipError("not_video", "a pipe, a socket, a device or a folder")
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    if found := sniff(head):
        return found
    raise ClipError("not_video", "an empty file" if not head else f"no video file: begins with {head[:16]!r}")


def open_video(path: Path, container: Container) -> av.container.InputContainer:
    """The file opened by the demuxer of its container, which may open nothing else. Raises ClipError."""
    # Opening decodes a little; what the container does not know, PyAV passes on to every stream that is known by then.
    options = OPEN_OPTIONS | {"max_pixels": str(MAX_PIXELS)}
    try:
        return av.open(f"file:{path.resolve()}", format=container.demuxer, options=options)
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError("undecodable", f"cannot be opened: {said(error)}") from None


def video_stream(file: av.container.InputContainer) -> av.VideoStream:
    """The first stream of moving pictures; cover art is none. Raises ClipError where there is none."""
    for stream in file.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if getattr(stream, "codec_context", None) is None:
                raise ClipError("undecodable", "its video codec is unknown")
            return stream
    raise ClipError("undecodable", "there is no video in it")


def probe(path: Path) -> SourceFile:
    """What the file declares, when its packets are, and how its first picture stands. Raises ClipError."""
    container = container_of(path)
    with open_video(path, container) as file:
        stream = video_stream(file)
        context = stream.codec_context
        if not 1 <= context.width * context.height <= MAX_PIXELS:
            raise ClipError("undecodable", f"claims {context.width}x{context.height} pixels")
        picture, packets = _read_through(file, stream)
        if picture is None:
            raise ClipError("undecodable", "no picture decodes")
        if packets.jumps and container.demuxer == "mpegts":
            raise ClipError("corrupt", "its clock jumps")
        duration_s = max(packets.duration_s, _claimed_s(file, stream, packets))
        if packets.num_video > MAX_FPS * max(duration_s, 1):
            raise ClipError("mismatch", f"has {packets.num_video:,} frames in {duration_s:.1f} s")
        width_px = max(1, round(picture.width * (stream.sample_aspect_ratio or Fraction(1))))
        shown = (width_px, picture.height) if picture.rotation % 180 == 0 else (picture.height, width_px)
        gone, gap_s = frames_gone(packets.video_s), longest_gap_s(packets.video_s)
        return SourceFile(path, container, stream.index, context.name, *shown, duration_s, gone, gap_s)


def part_of(source: SourceFile, span: Span, *, named_span: bool, spans: Sequence[Span]) -> Part:
    """Which part of `source` is the clip `span`, in whole seconds of the video.

    `named_span`: the file is named by the span, so it begins where the span begins. Otherwise it is named by the video
    alone, whose clips have these `spans`: it may be the whole video, which is cut, or a clip where there is but one.
    Raises ClipError ("mismatch", "ambiguous").
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


@dataclass
class _Packets:
    """When the packets of a file are, in seconds of the file: of the video each, of other streams the last."""

    video_s: list[float] = field(default_factory=list)
    end_s: float = 0.0  # of the video
    last_s: float = 0.0  # of all streams
    jumps: int = 0
    num_video: int = 0

    def add(self, packet: Any, *, is_video: bool) -> None:
        self.num_video += is_video
        at = packet.dts if packet.pts is None else packet.pts
        if at is None or packet.time_base is None or packet.is_discard:
            return
        tick_s = float(packet.time_base)
        at_s, end_s = at * tick_s, (at + (packet.duration or 0)) * tick_s
        self.last_s = max(self.last_s, end_s)
        if is_video:
            self.jumps += bool(self.video_s) and abs(at_s - self.video_s[-1]) > JUMP_S
            self.end_s = max(self.end_s, end_s) if self.video_s else end_s
            self.video_s.append(at_s)

    @property
    def duration_s(self) -> float:
        return max(0.0, self.end_s - min(self.video_s)) if self.video_s else 0.0


def _read_through(file: av.container.InputContainer, stream: av.VideoStream) -> tuple[av.VideoFrame | None, _Packets]:
    """The first picture that decodes, since the matrix that turns it stands nowhere else, and all packets' times."""
    picture, packets = None, _Packets()
    try:
        for packet in file.demux():
            is_video = packet.stream_index == stream.index and packet.size > 0
            packets.add(packet, is_video=is_video)
            if is_video and picture is None and packets.num_video <= TRIED_PACKETS:
                picture = _first_of(packet)
    except av.error.FFmpegError:
        pass  # what is missing shows when it is encoded
    return picture or _first_of(stream), packets


def _first_of(source: Any) -> av.VideoFrame | None:
    """The first picture that a packet completes, or that a stream's decoder still holds at the end."""
    try:
        pictures = source.decode()
    except av.error.FFmpegError:
        return None
    return next(iter(pictures), None)


def frames_gone(times_s: Sequence[float]) -> float:
    """The share of frames that would fill the gaps between frames at these times, at the rate that is usual there."""
    gaps = np.diff(np.sort(times_s))
    usual_s = float(np.median(gaps)) if len(gaps) else 0.0
    if usual_s <= 0:
        return 0.0
    gone = float(np.maximum(np.round(gaps / usual_s) - 1, 0).sum())
    return gone / (gone + len(times_s))


def longest_gap_s(times_s: Sequence[float]) -> float:
    """The longest time between two frames in a row."""
    return float(np.diff(np.sort(times_s)).max(initial=0.0))


def _claimed_s(file: av.container.InputContainer, stream: av.VideoStream, packets: _Packets) -> float:
    """How long the headers say that the video lasts; 0 where they do not say. A file that was cut off says more than
    its packets do."""
    if file.format.name == "avi" and stream.average_rate:
        return stream.frames / float(stream.average_rate)  # FFmpeg corrects the duration, not the number of frames
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # The whole file's duration counts only where every stream ends before it: sound may outlast the picture.
    whole_s = (file.duration or 0) / av.time_base
    return whole_s if whole_s > packets.last_s + 1.0 else 0.0


def said(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)

"""A found video file: what it says of itself, and which part of it is the clip."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from k710.fetch.encode.mp4_boxes import is_cut_off
from k710.sources.video_ids import Span
from k710.store.containers import DEMUXERS, SNIFF_BYTES, Container, other_video, sniff
from k710.store.display import MAX_PIXELS as MAX_PIXELS
from k710.store.display import display_of
from k710.store.failures import ClipError

TOLERANCE_S = 0.5  # between a span and the file that is cut to it: crawlers cut at frames of their own choice
TRIMMED_S = 5.0  # a file of a span that lasts at most this much longer was cut at key frames, and loses its end
MAX_FPS = 240
JUMP_S = 60.0  # between two frames: the clock of a transport stream is damaged
ROUNDING_S = 0.0005  # containers that count milliseconds round a frame's time to the nearest
# Containers that lead to the key frame before any time. Others are read from their beginning: MPEG lands between key
# frames, FLV and AVI miss, and the pictures up to the next key frame would be lost.
SEEKABLE = ("mov", "matroska")
TRIED_PACKETS = 200  # until the first picture

# Nothing but the file itself is ever opened, whatever it says.
OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(DEMUXERS), "enable_drefs": "0"}


# The matrices of AVColorSpace that every ffmpeg's scaler knows, by its names for them. What a file does not say is
# BT.601, as decoders have it; 5 and 6 are names of BT.601.
_MATRICES = {1: "bt709", 2: "bt601", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_FULL_RANGE = 2  # of AVColorRange


@dataclass(frozen=True)
class Colours:
    """What the numbers of a YUV picture mean as colours: FFmpeg's name of the matrix, and the range of the numbers."""

    matrix: str
    full_range: bool
    declared: bool  # the file says which matrix it is


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
    longest_gap_s: float = 0.0  # between two frames: a still may last long
    clock_s: float = 0.0  # the time at which the file's own clock begins: its seconds are counted from there
    first_s: float = 0.0  # the time of its first picture, by the same clock
    has_sound: bool = False
    usual_gap_s: float = 0.0  # between two frames
    colours: Colours | None = None  # None: no YUV colours that a converter knows, as for RGB

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
    if name := other_video(head):
        raise ClipError("not_video", f"{name} is not read; convert it, for example to MP4")
    raise ClipError("not_video", "an empty file" if not head else f"no video file: begins with {head[:16]!r}")


def open_video(path: Path, container: Container) -> av.container.InputContainer:
    """The file opened by the demuxer of its container, which may open nothing else. Raises ClipError."""
    # Opening decodes a little; what the container does not know, PyAV passes on to every stream that is known by then.
    options = OPEN_OPTIONS | {"max_pixels": str(MAX_PIXELS)}
    try:
        # Titles in other encodings than UTF-8 are many, and none is looked at.
        return av.open(f"file:{path.resolve()}", format=container.demuxer, options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError("undecodable", f"cannot be opened: {error_text(error)}") from None


def video_stream(file: av.container.InputContainer) -> av.VideoStream:
    """The first stream of moving pictures; cover art is none. Raises ClipError where there is none."""
    for stream in file.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if getattr(stream, "codec_context", None) is None:
                raise ClipError("undecodable", "its video codec is unknown")
            stream.codec_context.thread_count = 1  # the other cores have clips of their own
            return stream
    raise ClipError("undecodable", "there is no video in it")


def probe(path: Path) -> SourceFile:
    """What the file declares, when its packets are, and how its first picture stands. Raises ClipError."""
    container = container_of(path)
    if container.demuxer == "mov" and is_cut_off(path):
        raise ClipError("corrupt", "the file breaks off inside its last fragment")
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
        shown = display_of(picture, stream.sample_aspect_ratio).size(picture.width, picture.height)
        if shown[0] * shown[1] > MAX_PIXELS:
            raise ClipError("undecodable", f"is shown as {shown[0]}x{shown[1]} pixels")
        gone, gap_s = frames_gone(packets.video_s), longest_gap_s(packets.video_s)
        clock_s = (file.start_time or 0) / av.time_base
        return SourceFile(
            *(path, container, stream.index, context.name, *shown, duration_s, gone, gap_s),
            clock_s=clock_s,
            first_s=min(packets.video_s, default=clock_s),
            has_sound=bool(file.streams.audio),
            usual_gap_s=float(np.median(np.diff(np.sort(packets.video_s)))) if len(packets.video_s) > 1 else 0.0,
            colours=_colours(picture),
        )


def part_of(source: SourceFile, span: Span | None, *, named_span: bool, spans: Sequence[Span]) -> Part:
    """Which part of `source` is the clip `span`, in seconds of the video; None is all of it.

    `named_span`: the file is named by the span, so it begins where the span begins. Otherwise it is named by the video
    alone, whose clips have these `spans`: it may be the whole video, which is cut, or a clip where there is but one.
    Raises ClipError ("mismatch", "ambiguous").
    """
    if span is None:
        return Part(None, source.duration_s, whole=True)
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
    if len(spans) == 1 and lasts_s <= length_s + TRIMMED_S:  # too short to be the whole video
        return Part(None, length_s, whole=False, flags=("trimmed",))
    raise ClipError("mismatch", f"lasts {lasts_s:.1f} s: neither the clip of {length_s} s nor a video up to {end_s} s")


@dataclass
class _Packets:
    """When the packets of a file are, in seconds of the file: of the video each, of other streams the last."""

    video_s: list[float] = field(default_factory=list)
    end_s: float = 0.0  # of the video
    last_s: float = 0.0  # of all streams
    jumps: int = 0
    num_video: int = 0  # of those that are shown

    def add(self, packet: Any, tick_s: float | None, *, is_video: bool) -> None:
        """Count a packet in, whose stream's clock ticks every `tick_s`."""
        if packet.is_discard:  # an edit list hides it
            return
        self.num_video += is_video
        at = packet.dts if packet.pts is None else packet.pts
        if at is None or tick_s is None:
            return
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
    """The first picture that decodes, since only it has the matrix that turns it, and all packets' times."""
    picture, packets = None, _Packets()
    ticks_s: dict[int, float | None] = {}  # of each stream
    try:
        for packet in file.demux():
            at = packet.stream_index
            if at not in ticks_s:  # the fraction takes longer to make than the packet to read
                ticks_s[at] = None if packet.time_base is None else float(packet.time_base)
            is_video = at == stream.index and packet.size > 0
            packets.add(packet, ticks_s[at], is_video=is_video)
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


def _colours(picture: av.VideoFrame) -> Colours | None:
    pixels = picture.format
    if pixels.is_rgb or len(pixels.components) < 3 or pixels.name.startswith("xyz"):
        return None
    matrix = int(picture.colorspace)
    if matrix not in _MATRICES:
        return None
    full_range = pixels.name.startswith("yuvj") or int(picture.color_range) == _FULL_RANGE
    return Colours(_MATRICES[matrix], full_range, matrix != 2)


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


def error_text(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)

"""How much of a file is damaged: decoders conceal what they cannot decode, so pictures that come out prove little."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
from av.codec.codec import Codec

from k710.fetch.encode.source_file import ROUNDING_S, SEEKABLE, Part, SourceFile, open_video, video_stream
from k710.store.containers import Container
from k710.store.failures import ClipError

MAX_LOST_SHARE = 0.05  # of the frames; cutting without encoding often spoils the first few
_READ_ON_S = 1.0  # packets come in the order of decoding, which is not that of showing


class Damage(NamedTuple):
    """Of some frames of a file: how many are damaged, how many there are, and how many pictures came out."""

    num_damaged: int
    num_frames: int
    num_pictures: int


def check_damage(source: SourceFile, part: Part) -> Damage:
    """What is damaged of the part. Raises ClipError where the part is no clip.

    "corrupt" where more than MAX_LOST_SHARE of it is damaged, or nothing of a span decodes; "undecodable" where nothing
    of a whole file decodes; "short" where the file has no frame there.
    """
    start_s, from_s = -math.inf, source.first_s
    if part.start_s is not None:
        start_s = from_s = source.clock_s + part.start_s - ROUNDING_S
    end_s = math.inf if part.whole else from_s + part.duration_s - ROUNDING_S
    found = damage(source.path, source.container, start_s, end_s)
    if not found.num_frames:
        span = f"{part.start_s or 0:g} and {(part.start_s or 0) + part.duration_s:g} s"
        raise ClipError("short", f"no frame begins between {span}")
    if not found.num_pictures:
        failure = "undecodable" if part.start_s is None else "corrupt"
        raise ClipError(failure, f"none of {found.num_frames} frames decodes")
    check_share(found)
    return found


def check_share(found: Damage) -> None:
    """Raise ClipError ("corrupt") where too many of the frames are damaged."""
    if found.num_damaged > MAX_LOST_SHARE * found.num_frames:
        raise ClipError("corrupt", f"{found.num_damaged} of {found.num_frames} frames do not decode")


def damage(path: Path, container: Container, start_s: float = -math.inf, end_s: float = math.inf) -> Damage:
    """What is damaged of the frames that begin from `start_s` to before `end_s`, by the file's own clock.

    First the file is decoded as every reader does: a frame is damaged where it does not come out, or where the decoder
    says that it concealed a part of it. Where there is such a frame, or where no frame needs another one, the file is
    decoded once more without concealing: what needs a damaged frame is then damaged as well. Without a first sign this
    would prove nothing, since a decoder that conceals nothing also refuses oddities that harm no picture.
    """
    found, codec = _decoded(path, container, start_s, end_s, conceal=True)
    if not found.num_damaged and not each_stands_alone(codec):
        return found
    strict, _ = _decoded(path, container, start_s, end_s, conceal=False)
    return found._replace(num_damaged=max(found.num_damaged, strict.num_damaged))


def each_stands_alone(codec: str) -> bool:
    """Whether no frame of this codec needs another one, by FFmpeg's name of its decoder."""
    return bool(Codec(codec, "r").intra_only)


def _decoded(path: Path, container: Container, start_s: float, end_s: float, *, conceal: bool) -> tuple[Damage, str]:
    """The second value is FFmpeg's name of the decoder."""
    num_frames = num_refused = num_concealed = num_pictures = 0
    with open_video(path, container) as file:
        stream = video_stream(file)
        if not conceal:
            stream.codec_context.options = {"err_detect": "explode"}
        tick_s = float(stream.time_base or 0)
        if start_s > 0 and tick_s and container.demuxer in SEEKABLE:
            file.seek(int(start_s / tick_s), stream=stream)
        for packet in packets_of(file, stream):
            at = packet.dts if packet.pts is None else packet.pts
            at_s = -math.inf if at is None else at * tick_s
            inside = bool(packet.size) and not packet.is_discard and (start_s <= at_s < end_s or at is None)
            num_frames += inside
            try:
                pictures = packet.decode()
            except av.error.FFmpegError:
                num_refused += inside
                continue
            for picture in pictures:
                shown = picture.time is None or start_s <= picture.time < end_s
                num_pictures += shown
                num_concealed += shown and picture.is_corrupt
            if at_s - end_s > _READ_ON_S:
                break
        codec = stream.codec_context.name
    # A decoder that conceals either refuses a frame or conceals it; one that does not may refuse it and yet show it.
    num_damaged = num_refused + num_concealed if conceal else max(num_refused, num_concealed)
    return Damage(num_damaged, num_frames, num_pictures), codec


def packets_of(file: av.container.InputContainer, stream: av.VideoStream) -> Iterator[Any]:
    """The stream's packets up to where the file breaks off; what is missing then shows in their number."""
    try:
        yield from file.demux(stream)
    except av.error.FFmpegError:
        return

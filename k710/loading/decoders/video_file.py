"""Frames of a video file of any length, read where it is: the container seeks, and only what is near is decoded.

`decode.decode` is given a whole clip and knows which packet holds which frame. Of an hour of video it would read
gigabytes for sixteen frames. Here a frame's number becomes a time by the file's mean frame rate; decoding starts at the
key frame before that time, and from the first picture at that time on, pictures are counted. So the frames of a window
are exactly as far apart as they should be, and the window begins within half a frame of its place, or of the mean
rate's idea of it where the rate varies.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np

from k710.errors import LoadError
from k710.loading.decoders.pixels import Pixels
from k710.loading.decoders.pyav import decoded, opened, packets_of
from k710.loading.media.open_files import open_media
from k710.random_key import Ints
from k710.store.containers import SNIFF_BYTES, other_video, sniff
from k710.store.display import ScreenPixels
from k710.text import os_error_text

_MOST_GAP_S = 5.0  # between two wanted frames: a longer one is passed over by seeking
_SEEK_EARLIER_S = (0.0, 1.0, 5.0, 25.0)  # tried in this order
_LONG_BEFORE = -(10**9)  # a time from which every file is read from its beginning; its own first time is not enough
_TRIED_PACKETS = 500  # for the first picture of a file
_REACHED_SHARE = 0.95  # of its length, which a file must have packets for; see pyav.MAX_LOST_SHARE


class Timing(NamedTuple):
    """Of a video: its frames, as far as the container tells, when the first is shown, and frames a second (mean)."""

    num_frames: int
    start_s: float
    rate: float


def frames_at(path: Path, timing: Timing, indices: Ints, *, short_side_px: int | None = None) -> Pixels:
    """The frames `indices` of a video file, uint8 (num_frames, height_px, width_px, 3), upright; larger ones are scaled
    down to `short_side_px`.

    A frame that is damaged, or beyond the end of a file that is shorter than it says, is shown as the nearest one that
    is there. Raises LoadError where the file does not open or most of the frames are not there.
    """
    wanted = np.unique(indices)
    found: dict[int, Any] = {}
    try:
        with _open(path) as (file, stream):
            size = (stream.codec_context.width, stream.codec_context.height)
            pixels = ScreenPixels(*size, stream.sample_aspect_ratio, short_side_px=short_side_px)
            borders = np.flatnonzero(np.diff(wanted) > _MOST_GAP_S * timing.rate) + 1
            for run in np.split(wanted, borders):
                found |= _run(file, stream, timing, run.tolist(), pixels)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise LoadError(_reason(error)) from None
    if 2 * len(found) < len(wanted):
        at_s = timing.start_s + wanted[0] / timing.rate
        raise LoadError(f"{len(found)} of {len(wanted)} frames from {at_s:.1f} s on decode")
    there = np.array(sorted(found))
    nearest = there[np.abs(there[None, :] - indices[:, None]).argmin(axis=1)]
    return np.stack([found[index] for index in nearest.tolist()])


def _run(file: Any, stream: Any, timing: Timing, wanted: list[int], pixels: ScreenPixels) -> dict[int, Any]:
    """The pictures of some frames (increasing), without those that do not decode."""
    # Half a frame early: times are rounded, and a picture is never shown before its own.
    begin = int((timing.start_s + (wanted[0] - 0.5) / timing.rate) / float(stream.time_base))
    start, frame = stream.start_time or 0, 1 / (timing.rate * float(stream.time_base))
    for earlier_s in _SEEK_EARLIER_S:
        place = begin - int(earlier_s / float(stream.time_base))
        _seek(file, stream, place if place > start else _LONG_BEFORE)
        found, first = _counted(file, stream, begin, wanted, pixels)
        # MPEG streams have no list of key frames: a seek may end after the place, or after the last key frame.
        if place <= start or (found and (first is None or first <= begin + frame)):
            break
    return found


def _seek(file: Any, stream: Any, place: int) -> None:
    """Go to the key frame before a time; to the beginning in a file that does not find it, as AVI before its first."""
    try:
        file.seek(place, stream=stream)
    except av.error.FFmpegError:
        file.seek(stream.start_time or 0, stream=stream)


def _counted(
    file: Any, stream: Any, begin: int, wanted: list[int], pixels: ScreenPixels
) -> tuple[dict[int, Any], int | None]:
    """The wanted pictures, counted from the first one that is shown at `begin` or later, whose number is wanted[0]; and
    the time of the very first picture that decodes."""
    decoder, among = stream.codec_context, set(wanted)
    found: dict[int, Any] = {}
    index, first = wanted[0] - 1, None
    for packet in _then_none(packets_of(file, stream)):
        if decoder.name == "h264" and packet is not None:
            is_before = packet.pts is not None and packet.pts < begin
            decoder.skip_frame = "NONREF" if is_before else "DEFAULT"
        for picture in decoded(decoder, packet) or ():
            has_begun = index >= wanted[0]
            if not has_begun and picture.is_corrupt:
                continue
            first = picture.pts if first is None else first
            if not has_begun and picture.pts is not None and picture.pts < begin:
                continue
            index += 1
            if index in among and not picture.is_corrupt:
                found[index] = pixels(picture)
            if index >= wanted[-1]:
                return found, first
    return found, first


def probe(path: Path) -> Timing:
    """What the container says of a video file, after a look at its first picture and at its end.

    Raises LoadError for a file that is no video, has no picture that decodes, or ends before it says.
    """
    try:
        with _open(path) as (file, stream):
            timing = _timing(file, stream)
            _check_first(stream, itertools.islice(packets_of(file, stream), _TRIED_PACKETS))
            _check_end(file, stream, timing)
            return timing
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise LoadError(_reason(error)) from None


def _timing(file: Any, stream: Any) -> Timing:
    base = float(stream.time_base)
    start_s = (stream.start_time or 0) * base
    length_s = stream.duration * base if stream.duration else (file.duration or 0) / av.time_base
    rate = float(stream.average_rate or 0)
    if length_s > 0 and rate > 0:
        return Timing(max(round(length_s * rate), 1), start_s, rate)
    # A recorder that never finished the file wrote no length: it is read once, from beginning to end.
    times = sorted(packet.pts for packet in packets_of(file, stream) if packet.pts is not None)
    if not times:
        raise LoadError("there is no picture in it")
    file.seek(0)
    span_s = (times[-1] - times[0]) * base
    rate = (len(times) - 1) / span_s if span_s > 0 else 1.0
    return Timing(len(times), times[0] * base, rate)


def _check_first(stream: Any, packets: Iterator[Any]) -> None:
    for packet in _then_none(packets):
        if any(not picture.is_corrupt for picture in decoded(stream.codec_context, packet) or ()):
            return
    raise LoadError("no picture of it decodes")


def _check_end(file: Any, stream: Any, timing: Timing) -> None:
    length_s = timing.num_frames / timing.rate
    wanted_s = timing.start_s + _REACHED_SHARE * length_s - 1 / timing.rate
    file.seek(max(int(wanted_s / float(stream.time_base)), 0), stream=stream)
    last_s = timing.start_s
    for packet in packets_of(file, stream):
        time = packet.pts if packet.pts is not None else packet.dts
        last_s = max(last_s, float((time or 0) * stream.time_base))
        if last_s >= wanted_s:
            return
    raise LoadError(f"cut off: it should last {length_s:.1f} s and ends before")


def _then_none(packets: Iterator[Any]) -> Iterator[Any]:
    """The packets, then None, which makes a decoder give what it still holds."""
    yield from packets
    yield None


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Any]]:
    # Not by its name: FFmpeg would take some names for addresses or for patterns of many files.
    with os.fdopen(open_media(path), "rb") as media:
        head = media.read(SNIFF_BYTES)
        media.seek(0)
        if (container := sniff(head)) is None:
            other = other_video(head)
            reason = f"{other}, which k710 does not read" if other else f"no video file: begins with {head[:16]!r}"
            raise LoadError(reason if head else "an empty file")
        with opened(media, container) as (file, stream):
            yield file, stream


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.FFmpegError):
        return f"does not decode: {error.strerror or error}"
    return os_error_text(error) if isinstance(error, OSError) else f"does not decode: {error}"

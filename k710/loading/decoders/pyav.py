"""Frames of a video by PyAV, packet by packet: only frames that a wanted frame needs are decoded.

First it is known which frame each packet holds: from the file's own list of packets where that is enough, else from all
packets, which are read then. For a wanted frame, decoding starts at the last key frame before it, or continues from the
last wanted frame where that is nearer. H.264 frames to which no other frame refers are skipped unless they are wanted.
The result is the same as decoding everything.

Files whose packets do not say which frame they hold (picture_times.py) are decoded from beginning to end.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import av
import av.error
import numpy as np
import numpy.typing as npt

from k710.errors import LoadError
from k710.loading.decoders.listed_packets import Packets, listed_packets
from k710.loading.decoders.picture_times import num_pictures_held, times_can_be_trusted
from k710.loading.decoders.pixels import Choose, Decoder, Pixels
from k710.random_key import Ints
from k710.store.containers import Container
from k710.store.display import MAX_PIXELS, ScreenPixels

MAX_LOST_SHARE = 0.05  # of the frames; a fetch refuses clips that have lost more
_HELD_BACK = 2  # frames that a decoder may not give at the ends of a file without times

_INTRA = 1  # FFmpeg's number of a picture that needs no other
_OPTIONS = {"protocol_whitelist": "", "enable_drefs": "0"}


def with_pyav(media: bytes, container: Container, choose: Choose) -> Pixels:
    """See `decode.decode`. A damaged frame is shown as the nearest one that is not, where 95 % of them decode."""
    try:
        with opened(media, container) as (file, stream):
            return _Clip(media, container, file, stream).frames(choose)
    except (av.error.FFmpegError, ValueError) as error:
        raise LoadError(f"does not decode: {getattr(error, 'strerror', None) or error}") from None


@contextmanager
def opened(media: bytes | BinaryIO, container: Container) -> Iterator[tuple[Any, Any]]:
    """The open file and its video stream, whose decoder has one thread. `media` is the file's bytes, or the open file.
    Raises LoadError, FFmpegError or ValueError."""
    options = _OPTIONS if container.demuxer == "mov" else {"protocol_whitelist": ""}
    # Titles in other encodings than UTF-8 are many, and none is looked at.
    content = io.BytesIO(media) if isinstance(media, bytes) else media
    with av.open(content, format=container.demuxer, options=options, metadata_errors="replace") as file:
        covers = av.stream.Disposition.attached_pic
        stream = next((s for s in file.streams.video if not s.disposition & covers), None)
        if stream is None or getattr(stream, "codec_context", None) is None:
            raise LoadError("there is no video in it")
        decoder = stream.codec_context
        decoder.thread_count = 1
        if not 1 <= decoder.width * decoder.height <= MAX_PIXELS:
            raise LoadError(f"claims {decoder.width}x{decoder.height} pixels")
        yield file, stream


class _Clip:
    """An open file: its packets in the order of decoding, and their times in the order of showing."""

    def __init__(self, media: bytes, container: Container, file: Any, stream: Any) -> None:
        self._media, self._container = media, container
        self._decoder = stream.codec_context
        listed = listed_packets(media, container, stream)
        self._packets = listed or Packets.of_file(list(packets_of(file, stream)))
        # Without trust in times, frames are only known once they are decoded.
        self._timed = listed is not None or times_can_be_trusted(
            self._packets.read, self._decoder, demuxer=container.demuxer
        )
        self._times: Ints = np.sort(np.array(self._packets.shown, np.int64)) if self._timed else np.array([], np.int64)
        # The decoder's own size changes with the picture's.
        self._pixels = ScreenPixels(self._decoder.width, self._decoder.height, stream.sample_aspect_ratio)
        self._num_pictures = self._num_lost = 0

    def frames(self, choose: Choose) -> Pixels:
        if not self._timed:
            return self._one_by_one(choose)
        indices = choose(len(self._times))
        wanted = self._times[np.unique(indices)].tolist()
        found = self._by_seeking(wanted)
        if len(found) < len(wanted):
            return self._one_by_one(choose)
        return np.stack([found[time] for time in self._times[indices].tolist()])

    def _by_seeking(self, wanted: list[int]) -> dict[int, npt.NDArray[np.uint8]]:
        """The pictures at the times `wanted` (increasing), without those that do not decode. No pictures at all where
        the file's key frames or times turn out to be wrong."""
        packets, decoder = self._packets, self._decoder
        times, keys = packets.times, packets.keys
        number_of = {time: number for number, time in enumerate(times) if not packets.is_hidden[number]}
        found: dict[int, npt.NDArray[np.uint8]] = {}
        among = set(wanted)
        starts: set[int] = set()  # the times of the key frames at which decoding starts
        shown_last: int | None = None
        plain = True

        def take(pictures: Iterable[av.VideoFrame]) -> None:
            nonlocal shown_last, plain
            for picture in pictures:
                if picture.pts is None:
                    continue
                plain &= shown_last is None or picture.pts > shown_last
                plain &= picture.pts not in starts or bool(picture.key_frame) or picture.pict_type == _INTRA
                shown_last = picture.pts
                if picture.pts in among and picture.pts not in found and not picture.is_corrupt:
                    found[picture.pts] = self._pixels(picture)

        position, skips, skipped = 0, decoder.name == "h264", ""
        for time in wanted:
            last = number_of[time]
            # A frame that comes after a key frame in the file but is shown before it needs frames before the key frame.
            before = reversed(keys[: bisect_right(keys, last)])
            start = next((key for key in before if times[key] <= time), 0)
            if start > position:
                take(decoded(decoder, None) or ())
                decoder.flush_buffers()
                position, shown_last = start, None
                starts.add(times[start])
            for number in range(position, last + 1):
                if skips and skipped != (now := "DEFAULT" if times[number] in among else "NONREF"):
                    decoder.skip_frame = skipped = now
                take(decoded(decoder, packets.read[number]) or ())
            position = max(position, last + 1)
        take(decoded(decoder, None) or ())
        return found if plain else {}

    def _one_by_one(self, choose: Choose) -> Pixels:
        """Decode everything, twice, so that only the wanted pictures are kept in memory."""
        stamps = np.array([stamp for stamp, _ in self._all()], np.int64)
        # A decoder gives pictures in the order of showing: if their times do not rise, the times are wrong.
        if self._timed and np.any(np.diff(stamps) < 0):
            self._timed = False
            stamps = np.array([stamp for stamp, _ in self._all()], np.int64)
        num_held = num_pictures_held(self._packets.read, self._decoder.name)
        num_lost = max(num_held - len(stamps), 0 if self._timed else self._num_lost)
        allowed = MAX_LOST_SHARE * num_held + (0 if self._timed else _HELD_BACK)
        if not len(stamps) or num_lost > allowed:
            raise LoadError(f"{len(stamps)} of {max(num_held, len(stamps) + num_lost)} frames decode")
        num_frames = len(self._times) if self._timed else self._num_pictures
        indices = choose(num_frames)
        stamps.sort()
        wanted = self._times[indices] if self._timed else indices
        nearest = stamps[np.abs(stamps[None, :] - wanted[:, None]).argmin(axis=1)]
        among = set(nearest.tolist())
        found = {stamp: self._pixels(picture) for stamp, picture in self._all() if stamp in among}
        if len(found) < len(among):  # after damage, a decoder's pictures depend on those before
            raise LoadError("damaged: a frame decodes once and not again")
        return np.stack([found[stamp] for stamp in nearest.tolist()])

    def _all(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Every picture that decodes, in the order of showing, with its time, or its number where times are unknown.

        The decoder is new each time: its pictures depend on what it has decoded before. It counts pictures and losses.
        """
        self._num_pictures = self._num_lost = 0
        shown = set(self._times.tolist())
        with opened(self._media, self._container) as (file, stream):
            for packet in (*packets_of(file, stream), None):
                pictures = decoded(stream.codec_context, packet)
                self._num_lost += pictures is None
                for picture in pictures or ():
                    number, self._num_pictures = self._num_pictures, self._num_pictures + 1
                    self._num_lost += picture.is_corrupt
                    stamp = picture.pts if self._timed else number
                    if stamp is not None and not picture.is_corrupt and (not self._timed or stamp in shown):
                        yield stamp, picture


def packets_of(file: av.container.InputContainer, stream: av.VideoStream) -> Iterator[Any]:
    """The stream's packets, up to the place where the file is cut off or damaged."""
    try:
        yield from (packet for packet in file.demux(stream) if packet.size)
    except av.error.FFmpegError:
        return


def decoded(decoder: Any, packet: Any) -> list[av.VideoFrame] | None:
    """The pictures that a packet completes (with None: those left in the decoder); None where it does not decode."""
    try:
        return list(decoder.decode(packet))
    except av.error.FFmpegError:
        return None


PYAV = Decoder(with_pyav, why_unavailable=lambda: None)

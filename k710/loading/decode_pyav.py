"""Frames of a video by PyAV, packet by packet: what no wanted frame needs is never decoded.

All packets are read first, which is cheap, so it is known which frame each of them holds. For a wanted frame, decoding
starts at the last key frame before it, or goes on from the frame before where that is nearer; and H.264 frames that
nothing refers to are skipped unless they are wanted themselves. The result is what decoding everything would give.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from k710.containers import Container
from k710.errors import LoadError

if TYPE_CHECKING:
    from k710.loading.decode import Choose
    from k710.loading.random_key import Ints

MAX_PIXELS = 8192 * 4352  # a larger claim is a bomb
MAX_LOST_SHARE = 0.05  # of the frames; the store takes in no clip that has lost more

_OPTIONS = {"protocol_whitelist": "", "enable_drefs": "0"}


def with_pyav(media: bytes, container: Container, choose: Choose) -> npt.NDArray[np.uint8]:
    """See `decode.decode`. A damaged frame is shown as the nearest one that is not, where 95 % of them decode."""
    options = _OPTIONS if container.demuxer == "mov" else {"protocol_whitelist": ""}
    try:
        with av.open(io.BytesIO(media), format=container.demuxer, options=options) as file:
            return _Clip(file).frames(choose)
    except (av.error.FFmpegError, ValueError) as error:
        raise LoadError(f"does not decode: {getattr(error, 'strerror', None) or error}") from None


class _Clip:
    """An open file: its packets in the order of decoding, and their times in the order of showing."""

    def __init__(self, file: Any) -> None:
        self._stream = next(
            (s for s in file.streams.video if not s.disposition & av.stream.Disposition.attached_pic), None
        )
        if self._stream is None or getattr(self._stream, "codec_context", None) is None:
            raise LoadError("there is no video in it")
        self._decoder = self._stream.codec_context
        self._decoder.thread_count = 1
        if not 1 <= self._decoder.width * self._decoder.height <= MAX_PIXELS:
            raise LoadError(f"claims {self._decoder.width}x{self._decoder.height} pixels")
        self._packets = list(_packets(file, self._stream))
        shown = [packet for packet in self._packets if not packet.is_discard]
        times = [packet.pts for packet in shown]
        # AVI has no times, and a damaged file may have one twice: then frames are only known once they are decoded.
        self._timed = bool(times) and None not in times and len(set(times)) == len(times)
        self._times: Ints = np.sort(np.array(times, np.int64)) if self._timed else np.zeros(0, np.int64)
        self._reformatter = VideoReformatter()
        self._size = self._decoder.width, self._decoder.height  # the decoder's own change with the picture's

    def frames(self, choose: Choose) -> npt.NDArray[np.uint8]:
        if not self._timed:
            return self._one_by_one(choose)
        indices = choose(len(self._times))
        wanted = self._times[np.unique(indices)].tolist()
        found = self._jumping(wanted)
        if len(found) < len(wanted):
            return self._one_by_one(choose)
        return np.stack([found[time] for time in self._times[indices].tolist()])

    def _jumping(self, wanted: list[int]) -> dict[int, npt.NDArray[np.uint8]]:
        """The pictures at the times `wanted` (increasing); those that do not decode are not there."""
        packets, decoder = self._packets, self._decoder
        keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        number_of = {packet.pts: number for number, packet in enumerate(packets) if not packet.is_discard}
        found: dict[int, npt.NDArray[np.uint8]] = {}
        among = set(wanted)

        def take(pictures: Iterable[av.VideoFrame]) -> None:
            for picture in pictures:
                if picture.pts in among and picture.pts not in found and not picture.is_corrupt:
                    found[picture.pts] = self._pixels(picture)

        position = 0
        for time in wanted:
            last = number_of[time]
            # A frame that is shown before a key frame but stands behind it needs frames before that.
            start = max((key for key in keys if key <= last and packets[key].pts <= time), default=0)
            if start > position:
                take(_decoded(decoder, None))
                decoder.flush_buffers()
                position = start
            for packet in packets[position : last + 1]:
                if decoder.name == "h264":
                    decoder.skip_frame = "DEFAULT" if packet.pts in among else "NONREF"
                take(_decoded(decoder, packet))
            position = max(position, last + 1)
        take(_decoded(decoder, None))
        decoder.flush_buffers()
        decoder.skip_frame = "DEFAULT"
        return found

    def _one_by_one(self, choose: Choose) -> npt.NDArray[np.uint8]:
        """Decode everything, twice, so that never more than the wanted pictures are held."""
        stamps = np.array([stamp for stamp, _ in self._all()], np.int64)
        num_frames = len(self._times) if self._timed else len(stamps)
        if not len(stamps) or len(stamps) < (1 - MAX_LOST_SHARE) * num_frames:
            raise LoadError(f"{len(stamps)} of {num_frames or len(self._packets)} frames decode")
        indices = choose(num_frames)
        stamps.sort()
        asked = self._times[indices] if self._timed else indices
        nearest = stamps[np.abs(stamps[None, :] - asked[:, None]).argmin(axis=1)]
        among = set(nearest.tolist())
        found = {stamp: self._pixels(picture) for stamp, picture in self._all() if stamp in among}
        if len(found) < len(among):  # after damage, what a decoder gives hangs on what it had before
            raise LoadError("damaged: a frame decodes once and not again")
        return np.stack([found[stamp] for stamp in nearest.tolist()])

    def _all(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Every picture that decodes, with its time, or its number where there are no times."""
        shown = set(self._times.tolist())
        numbers = itertools.count()
        for packet in (*self._packets, None):
            for picture in _decoded(self._decoder, packet):
                if not self._timed:
                    yield next(numbers), picture
                elif picture.pts is not None and picture.pts in shown and not picture.is_corrupt:
                    yield picture.pts, picture
        self._decoder.flush_buffers()

    def _pixels(self, picture: av.VideoFrame) -> npt.NDArray[np.uint8]:
        """(height_px, width_px, 3) RGB, of the clip's size even where the picture's own changes, turned upright."""
        rgb: Any = self._reformatter.reformat(picture, *self._size, format="rgb24").to_ndarray()
        return np.rot90(rgb, round(picture.rotation / 90)) if picture.rotation else rgb


def _packets(file: av.container.InputContainer, stream: av.VideoStream) -> Iterator[Any]:
    """The stream's packets up to where the file breaks off."""
    try:
        yield from (packet for packet in file.demux(stream) if packet.size)
    except av.error.FFmpegError:
        return


def _decoded(decoder: Any, packet: Any) -> list[av.VideoFrame]:
    """What a packet completes (None: what the decoder still holds); nothing where it does not decode."""
    try:
        return list(decoder.decode(packet))
    except av.error.FFmpegError:
        return []

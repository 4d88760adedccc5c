"""The packets of a video file, by the file's own list of them where that is enough: then only wanted ones are read.

FFmpeg makes the list when it opens an MP4: place, size, time and key frames, edit lists applied. Its times are those of
decoding. So the list is enough only where every frame is shown when it is decoded, and where the file keeps nothing
beside a packet's bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import av
import numpy as np

from k710.random_key import Ints
from k710.store.containers import Container

_TIMES_OF_SHOWING = b"ctts"
_DECODER_SETTINGS = b"avcC"  # a second one would come with a packet in the middle of the file
_KEY, _HIDDEN = 1, 2  # FFmpeg's flags of an entry


@dataclass(frozen=True)
class Packets:
    """Packets in the order of decoding: when each is shown, which are key frames, which an edit list hides, and the
    packets themselves."""

    times: list[Any]
    keys: list[int]
    is_hidden: list[bool]
    read: Sequence[Any]

    @classmethod
    def of_file(cls, packets: list[Any]) -> Packets:
        """Packets that were read."""
        return cls(
            [packet.pts for packet in packets],
            [number for number, packet in enumerate(packets) if packet.is_keyframe],
            [packet.is_discard for packet in packets],
            packets,
        )

    @property
    def shown(self) -> list[Any]:
        """The times of those that are not hidden."""
        return [time for time, is_hidden in zip(self.times, self.is_hidden, strict=True) if not is_hidden]


class _Unread(Sequence[Any]):
    """Packets of a file, each made of its bytes when it is asked for."""

    def __init__(self, media: bytes, times: list[int], begins: list[int], ends: list[int]) -> None:
        self._media, self._times, self._begins, self._ends = memoryview(media), times, begins, ends

    def __len__(self) -> int:
        return len(self._times)

    @overload
    def __getitem__(self, number: int) -> Any: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Any]: ...
    def __getitem__(self, number: int | slice) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        packet = av.Packet(self._media[self._begins[number] : self._ends[number]])  # type: ignore[arg-type]  # any buffer
        packet.pts = packet.dts = self._times[number]
        return packet


def listed_packets(media: bytes, container: Container, stream: Any) -> Packets | None:
    """The packets of an H.264 stream without B-frames; None where the list is not known to be enough.

    Where it is, the packets are those that reading the whole file gives: tests compare them.
    """
    decoder, entries = stream.codec_context, getattr(stream, "index_entries", None)
    if container.demuxer != "mov" or decoder.name != "h264" or decoder.has_b_frames or not entries:
        return None
    header = _header(media)
    if header is None or _TIMES_OF_SHOWING in header or header.count(_DECODER_SETTINGS) != 1:
        return None
    numbers: list[int] = []  # and no object per packet, which the garbage collector would look at
    for entry in entries:
        numbers += (entry.timestamp, entry.flags, entry.pos, entry.size)
    times, flags, begins, sizes = np.array(numbers, np.int64).reshape(-1, 4).T
    ends: Ints = begins + sizes
    if (np.diff(times) <= 0).any() or begins.min() < 0 or sizes.min() <= 0 or ends.max() > len(media):
        return None
    unread = _Unread(media, times.tolist(), begins.tolist(), ends.tolist())
    keys, hidden = np.flatnonzero(flags & _KEY).tolist(), (flags & _HIDDEN > 0).tolist()
    return Packets(times.tolist(), keys, hidden, unread)


def _header(media: bytes) -> bytes | None:
    """The box `moov` of an MP4; None where there is none, or where fragments (`moof`) have their own."""
    at, found = 0, None
    while at + 8 <= len(media):
        size, name = struct.unpack_from(">I4s", media, at)
        if name == b"moof" or size < 8:  # 0 and 1: a box to the end of the file, or longer than 4 GiB
            return None
        if name == b"moov":
            found = media[at : at + size]
        at += size
    return found

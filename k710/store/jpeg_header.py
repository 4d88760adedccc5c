"""The header of a JPEG as far as stored frames need it: its size, how its colours are sampled, its restart markers."""

from __future__ import annotations

import struct
from typing import NamedTuple

from k710.store.stored_frames import JPEG_BEGIN

BLOCK_PX = 16  # the side of a block of 4:2:0: four 8x8 blocks of brightness, one of each colour
_FRAME, _RESTART_INTERVAL, _SCAN = 0xC0, 0xDD, 0xDA
_SAMPLING_420 = (0x22, 0x11, 0x11)


class JpegHeader(NamedTuple):
    """Of a baseline JPEG of 4:2:0: `size_at` is where its size stands, `scan_at` where its pixels begin. A restart
    marker comes after every `interval` blocks; none where that is 0."""

    width_px: int
    height_px: int
    interval: int
    size_at: int
    scan_at: int

    @property
    def blocks(self) -> tuple[int, int]:
        """How many blocks a row has, and how many rows there are."""
        return -(-self.width_px // BLOCK_PX), -(-self.height_px // BLOCK_PX)

    def resized(self, jpeg: bytes, width_px: int, height_px: int) -> bytes:
        """The JPEG with another size in its header."""
        return jpeg[: self.size_at] + struct.pack(">HH", height_px, width_px) + jpeg[self.size_at + 4 :]


def read_header(jpeg: bytes) -> JpegHeader | None:
    """The header; None where the JPEG is of another kind, or damaged."""
    if not jpeg.startswith(JPEG_BEGIN):
        return None
    at, interval, size = 2, 0, None
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, length = jpeg[at + 1], struct.unpack_from(">H", jpeg, at + 2)[0]
        if at + 2 + length > len(jpeg):
            return None
        if marker == _FRAME:
            if length != 17 or jpeg[at + 4] != 8 or (jpeg[at + 11], jpeg[at + 14], jpeg[at + 17]) != _SAMPLING_420:
                return None
            size = (at + 5, *struct.unpack_from(">HH", jpeg, at + 5))
        elif marker == _RESTART_INTERVAL:
            interval = struct.unpack_from(">H", jpeg, at + 4)[0]
        elif marker == _SCAN:
            if size is None or not size[1] or not size[2] or jpeg[at + 4] != 3:
                return None
            return JpegHeader(size[2], size[1], interval, size[0], at + 2 + length)
        elif 0xC1 <= marker <= 0xCF and marker != 0xC4:
            return None
        at += 2 + length
    return None

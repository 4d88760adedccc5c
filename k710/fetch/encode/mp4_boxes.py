"""The outer boxes of an MP4 file (ISO/IEC 14496-12): does the file end before the last one does?"""

from __future__ import annotations

import struct
from pathlib import Path

_MAX_BOXES = 1_000_000  # a fragment has two or three; a file with more is no clip


def is_cut_off(path: Path) -> bool:
    """Whether a fragmented file ends inside a fragment: inside its `moof`, or inside the `mdat` that belongs to it.

    A file that is not fragmented tells by its tables what is missing. Bytes behind the last box that belong to none are
    no sign: other programs append what they like.
    """
    size_bytes, at, in_fragments = path.stat().st_size, 0, False
    with path.open("rb") as file:
        for _ in range(_MAX_BOXES):
            file.seek(at)
            head = file.read(16)
            if len(head) < 8:
                return False
            length, name = struct.unpack(">I4s", head[:8])
            if length == 1 and len(head) == 16:
                (length,) = struct.unpack(">Q", head[8:])
            in_fragments |= name == b"moof"
            ends_beyond = length > size_bytes - at
            if in_fragments and ends_beyond and name in (b"moof", b"mdat"):
                return True
            if length < 8 or ends_beyond:  # 0: to the end of the file
                return False
            at += length
    return False

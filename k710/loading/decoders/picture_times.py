"""Whether a file's packets say when each picture is shown, or whether only decoding shows it.

A picture can be found without decoding everything before it only under three conditions. Each packet holds one picture.
Its time is the time when the picture is shown. Packets that are marked as key frames are key frames. There are files
that break each of them. AVI has decoding times alone. DivX and Xvid put two pictures into one packet and a filler into
the next ("packed bitstream"). Some writers mark every packet as a key frame. In case of doubt the whole file is
decoded, as players do.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

# Codecs of which the containers here hold one picture in a packet, and mark the key frames.
_ONE_PICTURE = frozenset({"h264", "hevc", "vp9", "av1", "mpeg1video", "mpeg2video", "mjpeg"})
_PICTURE_CODE = b"\0\0\1\xb6"  # begins a picture of MPEG-4, Part 2
# A picture of MPEG-4 that repeats the one before is a few bytes long, and decoders give nothing for it.
_MIN_PICTURE_BYTES = 12


def times_can_be_trusted(packets: Sequence[Any], decoder: Any, *, demuxer: str) -> bool:
    """Whether the packets' times say which pictures are shown, and in which order.

    `packets`: those of the video, in decoding order; `decoder`: its codec context as the file was opened.
    """
    times = [packet.pts for packet in packets if not packet.is_discard]
    if not times or None in times or len(set(times)) < len(times):  # damage may give a time twice
        return False
    if not _one_picture_each(packets, decoder.name):
        return False
    if any(later < earlier for earlier, later in itertools.pairwise(times)):
        return demuxer != "avi"  # the file itself says that decoding and showing have different orders
    # By these times, pictures are shown in decoding order. If the decoder expects another order, they are decoding
    # times. The H.264 decoder may learn the order late, so in AVI, which has no other times, it cannot decide.
    return not decoder.has_b_frames and (demuxer != "avi" or decoder.name != "h264")


def num_pictures_held(packets: Sequence[Any], codec: str) -> int:
    """How many pictures that are to be shown the packets hold, as far as that can be seen without decoding."""
    return sum(_pictures_in(packet, codec) for packet in packets if not packet.is_discard)


def _one_picture_each(packets: Sequence[Any], codec: str) -> bool:
    if codec in _ONE_PICTURE:
        return True
    if codec in ("mpeg4", "vp8"):
        return all(_pictures_in(packet, codec) == 1 for packet in packets)
    return False


def _pictures_in(packet: Any, codec: str) -> int:
    if codec == "mpeg4":
        content = bytes(packet)
        return 0 if len(content) < _MIN_PICTURE_BYTES else max(1, content.count(_PICTURE_CODE))
    if codec == "vp8":
        return bytes(packet)[0] >> 4 & 1  # a bit says whether the picture is shown
    return 1

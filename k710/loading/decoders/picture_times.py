"""Whether a file's packets say which picture is shown when, or only decoding does.

A picture can be found without decoding what stands before it only if three things are so: each packet holds one
picture, its time is the time when it is shown, and what is called a key frame is one. Files break all three. AVI knows
decoding times alone. DivX and Xvid put two pictures into one packet and a filler into the next ("packed bitstream").
Some writers call every packet a key frame. Where there is a doubt, all of the file is decoded, as players do.
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
        return demuxer != "avi"  # the file's own word that decoding and showing have different orders
    # Pictures are said to be shown in decoding order. Where the decoder expects another, these are decoding times.
    # The decoder of H.264 may learn it late, so that in AVI, which has no other times, it is not asked.
    return not decoder.has_b_frames and (demuxer != "avi" or decoder.name != "h264")


def num_pictures_held(packets: Sequence[Any], codec: str) -> int:
    """How many pictures the packets hold that are to be shown, as far as that can be seen without decoding."""
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

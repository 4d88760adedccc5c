"""Checks of a file before a decoder gets it that seeks by itself: decord, torchcodec.

Such a decoder finds frames by the file's list of key frames and by times. Where these are wrong it shows other frames
than those asked for, and says nothing. PyAV opens the file first and finds such files; they are refused.
"""

from __future__ import annotations

from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from k710.errors import LoadError
from k710.loading.decoders.picture_times import times_can_be_trusted
from k710.loading.decoders.pyav import decoded, opened
from k710.store.containers import Container
from k710.store.display import Display, ScreenPixels, display_of

_INTRA = 1  # FFmpeg's number of a picture that needs no other


def display_of_file(media: bytes, container: Container, *, decoder: str) -> Display:
    """How the clip is shown. Raises LoadError for a file of which the decoder of that name would show other frames."""
    try:
        with opened(media, container) as (file, stream):
            display = _checked(file, stream, container, decoder)
    except (av.error.FFmpegError, ValueError) as error:
        raise LoadError(f"does not decode: {getattr(error, 'strerror', None) or error}") from None
    if not display.is_quarter_turn:
        raise LoadError(f"{decoder} mirrors no picture and turns by quarters alone; decoder='pyav' reads this file")
    return display


def _checked(file: Any, stream: Any, container: Container, decoder: str) -> Display:
    codec = stream.codec_context
    packets = [packet for packet in file.demux(stream) if packet.size]
    if any(packet.is_discard for packet in packets):
        raise LoadError(f"{decoder} shows frames that this file hides; decoder='pyav' reads it")
    by_times = times_can_be_trusted(packets, codec, demuxer=container.demuxer)
    if not by_times or (codec.name == "mpeg4" and codec.has_b_frames):
        raise LoadError(f"{decoder} cannot find the frames of this file by their times; decoder='pyav' reads it")
    first = _first_picture(codec, packets)
    if not _key_frames_are_whole(codec, packets):
        raise LoadError(f"{decoder} cannot start at the key frames that this file names; decoder='pyav' reads it")
    return Display() if first is None else display_of(first, stream.sample_aspect_ratio)


def _first_picture(codec: Any, packets: list[Any]) -> av.VideoFrame | None:
    for packet in (*packets, None):
        if pictures := decoded(codec, packet):
            return pictures[0]
    return None


def _key_frames_are_whole(codec: Any, packets: list[Any]) -> bool:
    """Whether the second key frame that the file names is one: a picture that needs no other.

    With intra refresh it is not, and in a file without its list of key frames every packet is named one. Such a file is
    so throughout. Only one packet is decoded, because this is done for every clip.
    """
    keys = [packet for packet in packets if packet.is_keyframe]
    if len(keys) < 2:
        return True
    codec.flush_buffers()
    pictures = [*(decoded(codec, keys[1]) or ()), *(decoded(codec, None) or ())]
    return bool(pictures) and all(picture.pict_type == _INTRA for picture in pictures[:1])


def with_square_pixels(frames: npt.NDArray[np.uint8], display: Display) -> npt.NDArray[np.uint8]:
    """`frames` (num_frames, height_px, width_px, 3), which are upright already, with the pixels of `display` made
    square. Raises ValueError for a size above MAX_PIXELS."""
    if display.pixel_aspect == 1:
        return frames
    across = frames.swapaxes(1, 2) if display.is_sideways else frames  # the width that was decoded is across again
    pixels = ScreenPixels(across.shape[2], across.shape[1], display.pixel_aspect)
    square = [pixels(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")) for frame in across]
    return np.stack(square).swapaxes(1, 2) if display.is_sideways else np.stack(square)

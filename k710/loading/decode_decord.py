"""Frames of a video by decord, which seeks by itself; its last release is 0.6.0 of 2021, for x86-64 alone.

decord turns pictures by quarters. It does not mirror them, it leaves pixels that are not square as they are, and it
counts frames that an edit list hides. PyAV opens the file first and tells: pixels are made square here, the rest is
refused.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from k710.containers import Container
from k710.display import Display, ScreenPixels, display_of
from k710.errors import LoadError
from k710.loading.decode_pyav import decoded, opened

if TYPE_CHECKING:
    from k710.loading.decode import Choose


def with_decord(media: bytes, container: Container, choose: Choose) -> npt.NDArray[np.uint8]:
    """See `decode.decode`. It opens containers by itself: whoever calls it has looked at the magic bytes."""
    import decord

    try:
        display = _display(media, container)
    except (av.error.FFmpegError, ValueError) as error:
        raise LoadError(f"does not decode: {getattr(error, 'strerror', None) or error}") from None
    decord.logging.set_level(decord.logging.QUIET)  # it writes to the terminal what it then raises
    try:
        reader = decord.VideoReader(io.BytesIO(media), num_threads=1)
        indices = choose(len(reader))
        frames: Any = reader.get_batch(indices.tolist()).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise LoadError(f"does not decode: {said[-1][-200:]}") from None
    return _with_square_pixels(np.asarray(frames, np.uint8), display)


def _display(media: bytes, container: Container) -> Display:
    """How the clip is shown. Raises LoadError for a clip of which decord would show something else."""
    display = None
    with opened(media, container) as (file, stream):
        for packet in file.demux(stream):
            if packet.is_discard:
                raise LoadError("decord shows frames that this file hides; decoder='pyav' reads it")
            if display is None and (pictures := decoded(stream.codec_context, packet)):
                display = display_of(pictures[0], stream.sample_aspect_ratio)
    display = display or Display()
    if not display.is_quarter_turn:
        raise LoadError("decord mirrors no picture and turns by quarters alone; decoder='pyav' reads this file")
    return display


def _with_square_pixels(frames: npt.NDArray[np.uint8], display: Display) -> npt.NDArray[np.uint8]:
    """`frames` (num_frames, height_px, width_px, 3), which are upright already."""
    upright = Display(1 / display.pixel_aspect if display.is_sideways else display.pixel_aspect)
    pixels = ScreenPixels(frames.shape[2], frames.shape[1], upright.pixel_aspect)
    if upright.size(frames.shape[2], frames.shape[1]) == frames.shape[2:0:-1]:
        return frames
    return np.stack([pixels(av.VideoFrame.from_ndarray(frame, format="rgb24")) for frame in frames])

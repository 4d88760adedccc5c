"""Frames of a video by decord, which seeks by itself; its last release is 0.6.0 of 2021, for x86-64 alone.

decord turns pictures by quarters. It does not mirror them, it leaves pixels that are not square as they are, it counts
frames that an edit list hides, and it seeks by times that may not be the times of showing. PyAV opens the file first
and finds such cases: pixels are made square here, the rest is refused.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from k710.errors import LoadError
from k710.loading.decoders.picture_times import times_can_be_trusted
from k710.loading.decoders.pixels import Choose, Decoder, Pixels
from k710.loading.decoders.pyav import decoded, opened
from k710.store.containers import Container
from k710.store.display import Display, ScreenPixels, display_of


def with_decord(media: bytes, container: Container, choose: Choose) -> Pixels:
    """See `decode.decode`. decord opens any container by itself: the caller must have checked the first bytes."""
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
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise LoadError(f"does not decode: {lines[-1][-200:]}") from None
    try:
        return _with_square_pixels(np.asarray(frames, np.uint8), display)
    except ValueError as error:
        raise LoadError(f"does not decode: {error}") from None


def _display(media: bytes, container: Container) -> Display:
    """How the clip is shown. Raises LoadError for a clip of which decord would show something else."""
    with opened(media, container) as (file, stream):
        decoder = stream.codec_context
        packets = [packet for packet in file.demux(stream) if packet.size]
        if any(packet.is_discard for packet in packets):
            raise LoadError("decord shows frames that this file hides; decoder='pyav' reads it")
        if not times_can_be_trusted(packets, decoder, demuxer=container.demuxer) or (
            decoder.name == "mpeg4" and decoder.has_b_frames
        ):
            raise LoadError("decord cannot find the frames of this file by their times; decoder='pyav' reads it")
        pictures = itertools.chain.from_iterable(decoded(decoder, packet) or () for packet in (*packets, None))
        first = next(pictures, None)
        display = Display() if first is None else display_of(first, stream.sample_aspect_ratio)
    if not display.is_quarter_turn:
        raise LoadError("decord mirrors no picture and turns by quarters alone; decoder='pyav' reads this file")
    return display


def _with_square_pixels(frames: npt.NDArray[np.uint8], display: Display) -> npt.NDArray[np.uint8]:
    """`frames` (num_frames, height_px, width_px, 3), which are upright already."""
    if display.pixel_aspect == 1:
        return frames
    across = frames.swapaxes(1, 2) if display.is_sideways else frames  # the width that was decoded is across again
    pixels = ScreenPixels(across.shape[2], across.shape[1], display.pixel_aspect)
    square = [pixels(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")) for frame in across]
    return np.stack(square).swapaxes(1, 2) if display.is_sideways else np.stack(square)


def _why_unavailable() -> str | None:
    if importlib.util.find_spec("decord") is None:
        return "decord is not installed: it has wheels for x86-64 alone; decoder='pyav' reads the same frames"
    return None


DECORD = Decoder(with_decord, _why_unavailable)

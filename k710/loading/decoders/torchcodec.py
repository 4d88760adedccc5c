"""Frames of a video by torchcodec, which seeks by itself. It needs FFmpeg's shared libraries on the machine.

Its seek mode `exact` reads all packets first; `approximate` guesses frames from the rate, which showed wrong frames in
our tests (open GOPs, MPEG-4). It turns pictures by quarters, as the tests hold it. What it would show wrong is refused
(seeks_by_itself.py).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from k710.errors import LoadError
from k710.loading.decoders.pixels import Choose, Decoder, Pixels
from k710.loading.decoders.seeks_by_itself import display_of_file, with_square_pixels
from k710.store.containers import Container


def with_torchcodec(media: bytes, container: Container, choose: Choose) -> Pixels:
    """See `decode.decode`. torchcodec opens any container by itself: the caller must have checked the first bytes."""
    from torchcodec.decoders import VideoDecoder

    display = display_of_file(media, container, decoder="torchcodec")
    try:
        reader = VideoDecoder(media, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
        indices = choose(len(reader))
        frames: Any = reader.get_frames_at(indices.tolist()).data.numpy()
    except (RuntimeError, IndexError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise LoadError(f"does not decode: {lines[0][:200]}") from None
    try:
        return with_square_pixels(np.asarray(frames, np.uint8), display)
    except ValueError as error:
        raise LoadError(f"does not decode: {error}") from None


@functools.cache
def _why_unavailable() -> str | None:
    try:
        import torchcodec.decoders  # noqa: F401  # loads its libraries, which may be of another torch or FFmpeg
    except ImportError:
        return "torchcodec is not installed: pip install 'k710[torchcodec]'; decoder='pyav' reads the same frames"
    except (OSError, RuntimeError) as error:
        reason = ([line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[0]
        return (
            f"torchcodec does not load ({reason[:120]}): it needs FFmpeg's shared libraries, and the release that fits "
            f"this torch; decoder='pyav' reads the same frames"
        )
    return None


TORCHCODEC = Decoder(with_torchcodec, _why_unavailable)

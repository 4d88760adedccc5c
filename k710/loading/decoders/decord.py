"""Frames of a video by decord, which seeks by itself; its last release is 0.6.0 of 2021, for x86-64 alone.

decord turns pictures by quarters. It does not mirror them, it leaves pixels that are not square as they are, it counts
frames that an edit list hides, and it seeks by times that may not be the times of showing. Pixels are made square here;
the rest is refused (seeks_by_itself.py).
"""

from __future__ import annotations

import importlib.util
import io
from typing import Any

import numpy as np

from k710.errors import LoadError
from k710.loading.decoders.pixels import Choose, Decoder, Pixels
from k710.loading.decoders.seeks_by_itself import display_of_file, with_square_pixels
from k710.store.containers import Container


def with_decord(media: bytes, container: Container, choose: Choose) -> Pixels:
    """See `decode.decode`. decord opens any container by itself: the caller must have checked the first bytes."""
    import decord

    display = display_of_file(media, container, decoder="decord")
    decord.logging.set_level(decord.logging.QUIET)  # it writes to the terminal what it then raises
    try:
        reader = decord.VideoReader(io.BytesIO(media), num_threads=1)
        indices = choose(len(reader))
        frames: Any = reader.get_batch(indices.tolist()).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise LoadError(f"does not decode: {lines[-1][-200:]}") from None
    try:
        return with_square_pixels(np.asarray(frames, np.uint8), display)
    except ValueError as error:
        raise LoadError(f"does not decode: {error}") from None


def _why_unavailable() -> str | None:
    if importlib.util.find_spec("decord") is None:
        return "decord is not installed: it has wheels for x86-64 alone; decoder='pyav' reads the same frames"
    return None


DECORD = Decoder(with_decord, _why_unavailable)

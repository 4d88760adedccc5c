"""Frames of a video by decord, which seeks by itself; its last release is 0.6.0 of 2021, for x86-64 alone."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from k710.containers import Container
from k710.errors import LoadError

if TYPE_CHECKING:
    from k710.loading.decode import Choose


def with_decord(media: bytes, container: Container, choose: Choose) -> npt.NDArray[np.uint8]:
    """See `decode.decode`. It opens containers by itself: whoever calls it has looked at the magic bytes."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)  # it writes to the terminal what it then raises
    try:
        reader = decord.VideoReader(io.BytesIO(media), num_threads=1)
        indices = choose(len(reader))
        frames: Any = reader.get_batch(indices.tolist()).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise LoadError(f"does not decode: {said[-1][-200:]}") from None
    return np.asarray(frames, np.uint8)

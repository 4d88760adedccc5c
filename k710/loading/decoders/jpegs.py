"""Stored frames by libjpeg-turbo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import simplejpeg

from k710.errors import LoadError
from k710.store.stored_frames import JPEG_BEGIN

_MAX_PIXELS = 8192 * 4352


def decode_jpegs(jpegs: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    """JPEGs of one size as uint8 (num_frames, height_px, width_px, 3) RGB.

    Raises LoadError for bytes that are no JPEG, a damaged one, or sizes that differ.
    """
    for jpeg in jpegs:
        if not jpeg.startswith(JPEG_BEGIN):
            raise LoadError(f"no JPEG where one should be: begins with {jpeg[:8]!r}")
    try:
        height_px, width_px, _, _ = simplejpeg.decode_jpeg_header(jpegs[0])
        if height_px * width_px > _MAX_PIXELS:
            raise LoadError(f"a JPEG claims {width_px}x{height_px} pixels")
        frames = np.empty((len(jpegs), height_px, width_px, 3), np.uint8)
        for frame, jpeg in zip(frames, jpegs, strict=True):
            simplejpeg.decode_jpeg(jpeg, "RGB", buffer=frame)
    except ValueError as error:
        raise LoadError(f"a JPEG does not decode: {error}") from None
    return frames

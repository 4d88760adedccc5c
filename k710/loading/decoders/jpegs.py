"""Stored frames by libjpeg-turbo, whole or a part of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import simplejpeg

from k710.errors import LoadError
from k710.loading.augment.boxes import Box
from k710.loading.decoders.jpeg_parts import cut_parts
from k710.store.stored_frames import JPEG_BEGIN

_MAX_PIXELS = 8192 * 4352


def decode_jpegs(jpegs: Sequence[bytes], box: Box | None = None) -> npt.NDArray[np.uint8]:
    """JPEGs of one size as uint8 (num_frames, height_px, width_px, 3) RGB; with `box`, this part of each alone.

    Of JPEGs with restart markers little more than the box is decoded then, to the same pixels. Raises LoadError for
    bytes that are no JPEG, a damaged one, or sizes that differ; damage outside the box may not be noticed.
    """
    if box is None:
        return _decoded(jpegs)
    if (parts := cut_parts(jpegs, box)) is not None:
        return _boxed(_decoded(parts.jpegs), box, parts.top, parts.left)
    return _boxed(_decoded(jpegs), box, 0, 0)


def jpeg_size(jpeg: bytes | memoryview) -> tuple[int, int]:
    """Height and width of a JPEG. Raises LoadError for bytes that are none."""
    if jpeg[: len(JPEG_BEGIN)] != JPEG_BEGIN:
        raise LoadError(f"no JPEG where one should be: begins with {bytes(jpeg[:8])!r}")
    try:
        height_px, width_px, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    except ValueError as error:
        raise LoadError(f"a JPEG does not decode: {error}") from None
    if height_px * width_px > _MAX_PIXELS:
        raise LoadError(f"a JPEG claims {width_px}x{height_px} pixels")
    return height_px, width_px


def _boxed(frames: npt.NDArray[np.uint8], box: Box, top: int, left: int) -> npt.NDArray[np.uint8]:
    """The box as a view of frames whose first pixel is (`top`, `left`)."""
    begin_y, begin_x = box.top - top, box.left - left
    return frames[:, begin_y : begin_y + box.height, begin_x : begin_x + box.width]


def _decoded(jpegs: Sequence[bytes | memoryview]) -> npt.NDArray[np.uint8]:
    for jpeg in jpegs:
        if jpeg[: len(JPEG_BEGIN)] != JPEG_BEGIN:
            raise LoadError(f"no JPEG where one should be: begins with {bytes(jpeg[:8])!r}")
    height_px, width_px = jpeg_size(jpegs[0])
    try:
        frames = np.empty((len(jpegs), height_px, width_px, 3), np.uint8)
        for frame, jpeg in zip(frames, jpegs, strict=True):
            simplejpeg.decode_jpeg(jpeg, "RGB", buffer=frame)
    except ValueError as error:
        raise LoadError(f"a JPEG does not decode: {error}") from None
    return frames

"""A clip's frames → its hashes: as they are, in the mirror, without their rim, and both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from k710.loading.decoders.pixels import Pixels
from k710.near_duplicates.hashes import Luma, Words, luma_of, pdq
from k710.near_duplicates.letterbox import without_bars

# Of each side, what a copy loses that is "cropped by 10 %"; PDQ forgives about 3 % of difference.
RIM_SHARE = 0.05
# How a clip may look in its copy. The copy is always compared as it is.
VARIANTS = ("plain", "mirrored", "cropped", "cropped_mirrored")


class ClipHashes(NamedTuple):
    """`plain` (n, 4) and PDQ's `quality` (n,) of every hashed frame; of every second one the others, (⌈n/2⌉, 4) each.

    Two clips are compared frame by frame as every second of one against every one of the other: whatever their shift,
    frames meet that are at most half a step apart.
    """

    plain: Words
    quality: npt.NDArray[np.uint8]
    mirrored: Words
    cropped: Words
    cropped_mirrored: Words


def hash_clip(pixels: Pixels) -> ClipHashes:
    """The hashes of frames, uint8 (n, height_px, width_px, 3), n at least 1. Bars around the picture are cut off."""
    luma = without_bars(luma_of(pixels))
    plain, mirrored, quality = pdq(luma)
    cropped, cropped_mirrored, _ = pdq(without_rim(luma[::2]))
    return ClipHashes(plain, quality, mirrored[::2], cropped, cropped_mirrored)


def without_rim(luma: Luma) -> Luma:
    """Frames without RIM_SHARE on each side; a view."""
    top, left = (round(RIM_SHARE * size) for size in luma.shape[1:])
    return luma[:, top : luma.shape[1] - top, left : luma.shape[2] - left]

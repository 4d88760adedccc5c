"""A clip's frames → its hashes: unchanged, mirrored, without the rim, and mirrored without the rim."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from k710.loading.decoders.pixels import Pixels
from k710.near_duplicates.hashes import Luma, Words, luma_of, pdq

# The share that a copy "cropped by 10 %" loses on each side. PDQ tolerates a difference of about 3 %.
RIM_SHARE = 0.05
# How a clip may look in its copy. The copy is always compared unchanged.
VARIANTS = ("plain", "mirrored", "cropped", "cropped_mirrored")

# A bar is dark and flat in every frame. The limits leave room for brightening (luma) and for compression (deviation).
MAX_BAR_LUMA = 56.0
MAX_BAR_STD = 4.0
# The largest share that may be cut off on one side. A clip that is dark everywhere keeps its size.
MAX_BAR_SHARE = 0.4
# The share that is cut off beyond a bar, because the edge of a bar is blurred.
_MARGIN_SHARE = 0.008


class ClipHashes(NamedTuple):
    """The hashes of a clip.

    `plain` (n, 4) and PDQ's `quality` (n,) belong to every hashed frame. The other variants, (⌈n/2⌉, 4) each, belong to
    every second frame.
    Every second frame of one clip is compared with every frame of the other. So for any shift in time, some compared
    frames are at most half a step apart.
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


def without_bars(luma: Luma) -> Luma:
    """The frames (num_frames, height_px, width_px) without the bars that all of them have; a view."""
    rows = _picture(luma, axis=2)
    luma = luma[:, rows]
    return luma[:, :, _picture(luma, axis=1)]


def _picture(luma: Luma, *, axis: int) -> slice:
    """The rows or columns that are picture and not bar. `axis` is the axis to average over."""
    across = axis - 1  # the axis in one frame; squaring all frames at once would need as much memory again
    mean = np.mean([frame.mean(axis=across) for frame in luma], axis=0, dtype=np.float64)
    square = np.mean([np.square(frame).mean(axis=across) for frame in luma], axis=0, dtype=np.float64)
    is_bar = (mean <= MAX_BAR_LUMA) & (square - np.square(mean) <= MAX_BAR_STD**2)
    size = len(is_bar)
    before, after = _run(is_bar), _run(is_bar[::-1])
    if max(before, after) > MAX_BAR_SHARE * size:
        return slice(0, size)
    margin = round(_MARGIN_SHARE * size)
    return slice(before + margin if before else 0, size - (after + margin if after else 0))


def _run(is_bar: npt.NDArray[np.bool_]) -> int:
    """The number of bars at the beginning, up to the first row or column that is no bar."""
    return len(is_bar) if is_bar.all() else int(np.argmin(is_bar))

"""Bars around a picture, black or nearly, which an upload may have and its copy not: where the picture itself is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from k710.near_duplicates.hashes import Luma

# A bar is dark and flat, in every frame: a brightened one is less dark, a compressed one less flat.
MAX_BAR_LUMA = 56.0
MAX_BAR_STD = 4.0
# What may be cut away on one side; a clip that is dark all over keeps its size.
MAX_BAR_SHARE = 0.4
# Of the side, beyond a bar: its edge is blurred.
_MARGIN_SHARE = 0.008


def without_bars(luma: Luma) -> Luma:
    """The part of the frames (num_frames, height_px, width_px) that is no bar in any of them; a view."""
    rows = _picture(luma, axis=2)
    luma = luma[:, rows]
    return luma[:, :, _picture(luma, axis=1)]


def _picture(luma: Luma, *, axis: int) -> slice:
    """Where along the other axis of the picture, rows or columns, the bars end."""
    across = axis - 1  # of one frame; all of them at once would be squared into as much memory again
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
    """How many stand at the beginning without a gap."""
    return len(is_bar) if is_bar.all() else int(np.argmin(is_bar))

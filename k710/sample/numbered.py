"""Frames that show their own number, so that a test can check which frame a reader returned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from k710.errors import UsageError
from k710.sample.motions import Frame, Look

# 4 x 4 cells, the lowest bit first. A cell has an upper and a lower half: white over black is a one.
_CELLS = 4
MAX_FRAMES = 2 ** (_CELLS * _CELLS)


def numbered_frames(num_frames: int, look: Look, *, first: int = 0) -> Iterator[Frame]:
    """`num_frames` frames, uint8 (height_px, width_px, 3) RGB, numbered from `first` on for `read_number`.

    The number is in Gray code, so only one cell changes from frame to frame. So an encoder detects no cuts and adds no
    key frames, and a long group of pictures stays one. Raises UsageError for numbers too large.
    """
    if not 0 <= first <= first + num_frames <= MAX_FRAMES:
        raise UsageError(f"frames {first} to {first + num_frames}: the numbers must be from 0 to {MAX_FRAMES - 1}")
    rows = np.arange(look.height_px) * 2 * _CELLS // look.height_px
    columns = np.arange(look.width_px) * _CELLS // look.width_px
    bit = rows[:, None] // 2 * _CELLS + columns[None, :]
    lower = rows[:, None] % 2
    noise = np.random.default_rng(0).integers(0, 12, (look.height_px, look.width_px, 3), np.uint8)
    for number in range(first, first + num_frames):
        white = (number ^ number >> 1) >> bit & 1 ^ lower
        plain = np.where(white, np.uint8(210), np.uint8(30))[:, :, None]
        yield plain + np.roll(noise, number * 7, axis=1)


def read_number(frame: npt.NDArray[Any]) -> int:
    """The number that a frame shows: (height, width, 3) or (height, width), of any size and any scale of values.

    It survives lossy codecs, scaling, and changes of brightness and contrast, as only the two halves of a cell are
    compared; it does not survive cropping and mirroring. Raises ValueError for a cell that is not clearly 0 or 1.
    """
    grey = np.asarray(frame, np.float64)
    grey = grey.mean(axis=2) if grey.ndim == 3 else grey
    halves = _means(grey)  # (_CELLS, 2, _CELLS)
    difference = (halves[:, 0] - halves[:, 1]).ravel()
    contrast = np.ptp(halves)
    if contrast == 0 or np.abs(difference).min() < contrast / 2:
        raise ValueError(f"a frame of {grey.shape[1]}x{grey.shape[0]} shows no number that can be read")
    gray_code = sum(1 << bit for bit in np.flatnonzero(difference > 0).tolist())
    number = 0
    while gray_code:
        number, gray_code = number ^ gray_code, gray_code >> 1
    return number


def _means(grey: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean of the inner part of every half cell. Codecs and scaling blur its borders."""
    height, width = grey.shape
    centres_y = (np.arange(2 * _CELLS) + 0.5) / (2 * _CELLS)
    centres_x = (np.arange(_CELLS) + 0.5) / _CELLS
    offsets = np.linspace(-0.2, 0.2, 5)
    rows = ((centres_y[:, None] + offsets / (2 * _CELLS)) * height).astype(int)
    columns = ((centres_x[:, None] + offsets / _CELLS) * width).astype(int)
    means: npt.NDArray[np.float64] = grey[rows[:, None, :, None], columns[None, :, None, :]].mean(axis=(2, 3))
    return means.reshape(_CELLS, 2, _CELLS)

"""Which part of a frame a training crop is. Pure functions of a frame's size and random draws."""

from __future__ import annotations

import math
from typing import NamedTuple

from k710.random_key import Draws

CROPS = ("random_resized", "multi_scale")

_CROP_TRIES = 10

# Of multi-scale cropping: sides as parts of the frame's short side. Height and width are at most one step apart.
_SCALES = (1.0, 0.875, 0.75, 0.66)
_MOST_STEPS_APART = 1
# A side that is so near to the crop's is the crop's, so that nothing is resized.
_NEAR_PX = 3
# Places as quarters of the room that is left, (across, down): corners, middles of the sides, centre, and the four
# points between centre and corners.
_PLACES = (
    (0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3),
)  # fmt: skip


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int


def choose_box(height: int, width: int, area: tuple[float, float], aspect: tuple[float, float], draws: Draws) -> Box:
    """Inception-style crop (Szegedy et al., 2015): an area and an aspect (log-uniform) that fit, or after ten tries the
    largest central box whose aspect is allowed.
    """
    for _ in range(_CROP_TRIES):
        target = height * width * draws.uniform(*area)
        ratio = math.exp(draws.uniform(math.log(aspect[0]), math.log(aspect[1])))
        box_width, box_height = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top, left = draws.integer(0, height - box_height), draws.integer(0, width - box_width)
            return Box(top, left, box_height, box_width)
    box_height = max(min(height, round(width / aspect[0])), 1)
    box_width = max(min(width, round(height * aspect[1])), 1)
    return Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)


def multi_scale_box(height: int, width: int, crop_px: int, draws: Draws) -> Box:
    """Multi-scale crop (TSN; Wang et al., 2016), with VideoMAE's scales: one of ten pairs of sides, at one of thirteen
    places."""
    sides = [max(int(min(height, width) * scale), 1) for scale in _SCALES]
    # Never larger than the frame: a short side of 222 px is no crop of 224.
    sides = [crop_px if abs(side - crop_px) < _NEAR_PX and crop_px <= min(height, width) else side for side in sides]
    pairs = [
        (sides[down], sides[across])
        for down in range(len(sides))
        for across in range(len(sides))
        if abs(down - across) <= _MOST_STEPS_APART
    ]
    box_height, box_width = pairs[draws.integer(0, len(pairs) - 1)]
    across, down = _PLACES[draws.integer(0, len(_PLACES) - 1)]
    return Box((height - box_height) // 4 * down, (width - box_width) // 4 * across, box_height, box_width)

"""Multi-scale crops: TSN's sizes and places, with VideoMAE's scales."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.errors import UsageError
from k710.loading.augment.augment import Augment
from k710.loading.augment.boxes import Box, multi_scale_box
from k710.random_key import RandomKey


def drawn(height: int, width: int, crop_px: int, number: int = 4000) -> Counter[Box]:
    return Counter(
        multi_scale_box(height, width, crop_px, RandomKey(0, 0, clip).draws("crop")) for clip in range(number)
    )


def test_sides_and_places_by_hand():
    """Of a short side of 256: 256, 224, 192, 168 (0.66 x 256 truncated), neighbours together."""
    boxes = drawn(256, 340, 224)
    sides = Counter((box.height, box.width) for box in boxes.elements())
    steps = [256, 224, 192, 168]
    expected = {(steps[i], steps[j]) for i in range(4) for j in range(4) if abs(i - j) <= 1}
    assert set(sides) == expected
    assert max(sides.values()) < 1.3 * min(sides.values())
    places = {(box.left, box.top) for box in boxes if (box.height, box.width) == (192, 224)}
    across, down = (340 - 224) // 4, (256 - 192) // 4
    corners = {(0, 0), (4 * across, 0), (0, 4 * down), (4 * across, 4 * down)}
    middles = {(2 * across, 0), (0, 2 * down), (4 * across, 2 * down), (2 * across, 4 * down), (2 * across, 2 * down)}
    between = {(x * across, y * down) for x in (1, 3) for y in (1, 3)}
    assert places == corners | middles | between


def test_a_side_near_the_crops_is_the_crops():
    assert {box.height for box in drawn(226, 300, 224)} == {224, int(226 * 0.875), int(226 * 0.75), int(226 * 0.66)}
    assert max(box.height for box in drawn(222, 300, 224)) == 222, "never larger than the frame"


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 300), st.integers(0, 10**6))
def test_a_box_lies_in_the_frame(height, width, crop_px, clip):
    box = multi_scale_box(height, width, crop_px, RandomKey(0, 0, clip).draws("crop"))
    assert min(box.height, box.width) >= 1
    assert min(box.top, box.left) >= 0
    assert box.top + box.height <= height
    assert box.left + box.width <= width


def test_augment_takes_the_crop_that_it_is_told():
    key = RandomKey(1, 2, "clip")
    chosen = Augment(crop_px=48, crop="multi_scale").choose(key, 64, 80)
    assert chosen.box == multi_scale_box(64, 80, 48, key.draws("crop"))
    assert chosen.box != Augment(crop_px=48).choose(key, 64, 80).box
    assert chosen.flip == Augment(crop_px=48).choose(key, 64, 80).flip
    with pytest.raises(UsageError, match="unknown crop 'centre'; known: random_resized, multi_scale"):
        Augment(crop="centre")

"""Pictures → hashes: PDQ as its authors have it, in the mirror, and without the bars around a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.errors import UsageError
from k710.near_duplicates.frames import MAX_FRAMES, STEP_S, hashed_frames
from k710.near_duplicates.hash_clip import VARIANTS, hash_clip, without_bars
from k710.near_duplicates.hashes import HASH_BITS, distance, luma_of, pdq
from k710.sample import copies
from k710.sample.motions import LOOKS, Look
from k710.sample.textures import textured_frames

# Made by pdqhash, whose wheel needs a compiler: {kind, height_px, width_px} of a picture, its hash and its quality.
GOLDEN: list[dict[str, Any]] = json.loads(Path(__file__).with_name("pdq_golden.json").read_text())["pictures"]
LOOK = Look(160, 120, 4, noise=0)

Pixels = npt.NDArray[np.uint8]


def picture(height_px: int, width_px: int, kind: int) -> Pixels:
    """Pictures from whole numbers alone, the same with any numpy."""
    y, x = np.mgrid[:height_px, :width_px]

    def wave(at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.abs(at % 510 - 255)

    size = width_px * height_px
    planes = (
        (x * 3 + y * 2 ^ x * y // 16, x * y // 7 + y * 5, (x * x + y * y) // 40),
        (x // 9 * 37 + y // 11 * 53, x // 13 * 71 ^ y // 7 * 29, x + y),
        (
            wave(x * 700 // width_px + y * 300 // height_px),
            wave(x * 200 // width_px - y * 500 // height_px + 90),
            wave(x * y * 3000 // size),
        ),
    )[kind]
    return (np.stack(planes, axis=-1) & 255).astype(np.uint8)


def textured(name: str = "a video", num_frames: int = 3) -> Pixels:
    return np.stack(list(textured_frames(name, num_frames, LOOK)))


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['kind']}-{case['height_px']}x{case['width_px']}")
def test_it_is_pdq(case):
    luma = luma_of(picture(case["height_px"], case["width_px"], case["kind"])[None])
    words, _, quality = pdq(luma)
    wanted = np.frombuffer(bytes.fromhex(case["hash"]), "<u8").astype(np.uint64)
    # A frequency that lies on the median within a float's precision may fall on either side.
    assert distance(words[0], wanted) <= 2
    assert abs(int(quality[0]) - case["quality"]) <= 1


def test_it_is_what_pdqhash_says_of_many_pictures():
    """Where pdqhash is installed; the pictures above were made with it."""
    pdqhash = pytest.importorskip("pdqhash", reason="pdqhash is not installed: it was not compared live")
    rng = np.random.default_rng(710)
    for name, size in (("a", (64, 64)), ("b", (240, 426)), ("c", (256, 340)), ("d", (50, 90))):
        frame = next(textured_frames(name, 1, Look(2 * (size[1] // 2), 2 * (size[0] // 2), 1, noise=0)))
        noisy = (frame.astype(int) + rng.integers(-3, 4, frame.shape)).clip(0, 255).astype(np.uint8)
        bits, quality = pdqhash.compute(noisy)
        words, _, ours = pdq(luma_of(noisy[None]))
        theirs = np.packbits(np.array(bits)[::-1], bitorder="little").view(np.uint64)
        assert distance(words[0], theirs) <= 2
        assert abs(int(ours[0]) - int(quality)) <= 1


def test_half_of_the_bits_are_set():
    words, mirrored, _ = pdq(luma_of(textured()))
    for each in (words, mirrored):
        assert distance(each, np.zeros_like(each)).tolist() == [HASH_BITS // 2] * len(each)


@pytest.mark.parametrize("size", [(120, 160), (96, 128), (64, 64), (63, 65), (256, 340)])
def test_in_the_mirror_is_the_hash_of_the_mirrored_picture(size):
    """To the bit, but for what a float's precision decides."""
    luma = luma_of(np.stack([picture(*size, 1), picture(*size, 2)]))
    words, mirrored, _ = pdq(luma)
    words_of_mirrored, twice, _ = pdq(luma[:, :, ::-1])
    assert distance(mirrored, words_of_mirrored).max() <= 2
    assert distance(words, twice).max() <= 2
    assert distance(words, mirrored).min() > 60, "else the mirror would tell nothing"


def test_what_is_flat_has_no_quality():
    flat = np.full((2, 120, 160, 3), 127, np.uint8)
    black = np.zeros((2, 120, 160, 3), np.uint8)
    assert pdq(luma_of(flat))[2].tolist() == pdq(luma_of(black))[2].tolist() == [0, 0]
    assert pdq(luma_of(textured()))[2].min() > 50


def test_a_picture_without_a_pixel():
    with pytest.raises(UsageError, match="each at least 1"):
        pdq(np.zeros((1, 0, 4), np.float32))


words_of_hashes = st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4).map(
    lambda each: np.array(each, np.uint64)
)


@given(words_of_hashes, words_of_hashes, st.integers(0, 31))
def test_distance_counts_bits_and_bytes_may_be_rotated(one, other, places):
    expected = sum((int(a) ^ int(b)).bit_count() for a, b in zip(one, other, strict=True))
    assert distance(one, other) == expected
    rotated = [np.frombuffer(np.roll(each.view(np.uint8), places).tobytes(), np.uint64) for each in (one, other)]
    assert distance(*rotated) == expected


def test_distance_before_numpy_2(monkeypatch):
    one, other, _ = pdq(luma_of(textured()))
    expected = distance(one[:, None], other[None])
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert np.array_equal(distance(one[:, None], other[None]), expected)


def test_bars_are_cut():
    luma = luma_of(textured())
    for change, side in ((copies.letterboxed, 1), (copies.pillarboxed, 2)):
        boxed = np.stack([change(frame) for frame in textured()])
        found = without_bars(luma_of(boxed))
        wanted = luma.shape[side] * 3 // 4
        assert wanted * 0.95 <= found.shape[side] <= wanted
        assert found.shape[3 - side] == luma.shape[3 - side]
        assert without_bars(luma_of(np.stack([copies.brightened(frame) for frame in boxed]))).shape == found.shape
    assert without_bars(luma).shape == luma.shape


def test_bars_are_what_is_one_in_every_frame():
    """A picture that is dark below for a moment is none with a bar."""
    pixels = np.stack([textured()[0], copies.letterboxed(textured()[1])])
    assert without_bars(luma_of(pixels)).shape[1:] == pixels.shape[1:3]


def test_a_clip_that_is_dark_all_over_keeps_its_size():
    black = np.zeros((2, 120, 160, 3), np.uint8)
    assert without_bars(luma_of(black)).shape == (2, 120, 160)
    night = black.copy()
    night[:, 58:62, 78:82] = 255  # a light, far away
    assert without_bars(luma_of(night)).shape == (2, 120, 160)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("mirrored", "mirrored"),
        ("letterboxed", "plain"),
        ("pillarboxed", "plain"),
        ("cropped by 10 %", "cropped"),
        ("cropped by 10 % and mirrored", "cropped_mirrored"),
        ("brightened", "plain"),
        ("watermarked", "plain"),
    ],
)
def test_a_copy_is_near_in_its_variant_alone(name, variant):
    pixels = textured(num_frames=5)
    change = copies.COPIES[name].change
    assert change is not None
    copy = hash_clip(np.stack([change(frame) for frame in pixels]))
    original = hash_clip(pixels)
    bits = {each: np.median(distance(getattr(original, each), copy.plain[::2])) for each in VARIANTS[1:]}
    bits["plain"] = np.median(distance(original.plain, copy.plain))
    assert bits.pop(variant) <= 36
    others = [value for each, value in bits.items() if ("mirrored" in each) != ("mirrored" in variant)]
    assert min(others) > 60


def test_every_second_frame_has_the_other_variants():
    assert [len(part) for part in hash_clip(textured(num_frames=5))] == [5, 5, 3, 3, 3]
    assert [len(part) for part in hash_clip(textured(num_frames=1))] == [1, 1, 1, 1, 1]


def test_which_frames_are_hashed():
    assert hashed_frames(300, 10.0).tolist() == [round(step * 7.5) for step in range(40)]
    assert hashed_frames(1, 10.0).tolist() == [0] * 40
    assert hashed_frames(16, 2.0).tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert hashed_frames(5, 0.1).tolist() == [0]
    assert len(hashed_frames(30 * 3600, 3600.0)) == MAX_FRAMES
    assert hashed_frames(0, 10.0).tolist() == []


@given(st.integers(1, 2000), st.floats(0, 100))
def test_hashed_frames_are_in_the_clip_and_in_order(num_frames, duration_s):
    frames = hashed_frames(num_frames, duration_s)
    assert 0 <= frames.min() <= frames.max() < num_frames
    assert (np.diff(frames) >= 0).all()
    assert len(frames) <= max(duration_s / STEP_S + 1, 1)


def test_frames_that_are_needed_look_alike_whatever_their_rate():
    """The footage of these tests: a second is the same picture at any rate."""
    slow = list(textured_frames("a", 5, Look(128, 96, 2, noise=0)))
    fast = list(textured_frames("a", 17, Look(128, 96, 8, noise=0)))
    assert all(np.array_equal(slow[n], fast[4 * n]) for n in range(5))
    assert LOOKS["tiny"].fps == 8

"""Which frames: the published indices, and what must hold for clips of any length."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.errors import UsageError
from k710.loading.sampling import (
    FrameSampling,
    View,
    evaluation_views,
    nearest_stored,
    segment_ranges,
    storage_error,
)
from k710.random_key import STREAMS, RandomKey

# Frame indices as UniFormerV2's released loader computes them, `source frames x frames x clips`, each with the start of
# the SHA-256 of its nested list. The plain examples below say the same in a readable way.
PUBLISHED = """
    2x8x2:0bfb6a14 2x8x4:625899c2 2x16x1:6d991161 2x16x3:cbc6af76 2x16x10:5f453407 2x32x2:77805acf
    2x32x4:3c84fdd6 5x8x1:f6a00418 5x8x3:e899b44f 5x8x10:84d7309b 5x16x2:00595a84 5x16x4:8dce877f
    5x32x1:df919214 5x32x3:90b112b4 5x32x10:a269182f 8x8x2:20b9a9e5 8x8x4:c64f4c77 8x16x1:161cc90c
    8x16x3:121c8701 8x16x10:c6779cf4 8x32x2:2b94bb01 8x32x4:b91e5f18 10x8x1:37c33974 10x8x3:f57b742f
    10x8x10:b14b0420 10x16x2:88f0ea87 10x16x4:de0d3297 10x32x1:d6371a9e 10x32x3:c4dd3e6c 10x32x10:5b506729
    16x8x2:99f5b926 16x8x4:7bd07fc3 16x16x1:6bbc7fc0 16x16x3:340f802b 16x16x10:38a12978 16x32x2:276623ae
    16x32x4:fd0cf1c3 64x8x1:e6127256 64x8x3:2016f1c4 64x8x10:dfc31fdf 64x16x2:f0c8f9d2 64x16x4:70c989b0
    64x32x1:bf417f18 64x32x3:706b2ba3 64x32x10:69357963 100x8x2:e914cdde 100x8x4:9205b1bf 100x16x1:41cef811
    100x16x3:befe48f4 100x16x10:4b9182d8 100x32x2:b883060c 100x32x4:2b27f225 250x8x1:13f49161 250x8x3:f7902e6e
    250x8x10:dd9993d3 250x16x2:b4156f4a 250x16x4:69e1bcd4 250x32x1:59c98eb5 250x32x3:3f587f4b 250x32x10:cc4164da
    299x8x2:fe92ed14 299x8x4:407e161f 299x16x1:f38c1d7e 299x16x3:63190497 299x16x10:fad68d97 299x32x2:5a5560ce
    299x32x4:9a37d271 300x8x1:0e48e3de 300x8x3:f7e30b7d 300x8x10:73725e10 300x16x2:f09faff1 300x16x4:7a184ce3
    300x32x1:10acb360 300x32x3:430989f7 300x32x10:98039a68 301x8x2:245b2e8f 301x8x4:1522185e 301x16x1:25f69672
    301x16x3:8bb8a6fc 301x16x10:b8ea76c2 301x32x2:da13f84f 301x32x4:343e3ab7 900x8x1:33c63fe0 900x8x3:98de8454
    900x8x10:e208b548 900x16x2:9fd08adc 900x16x4:4acc606b 900x32x1:f3639b02 900x32x3:bcd227f3 900x32x10:133880d4
"""

sizes = st.integers(1, 2000)
frames = st.integers(1, 64)
samplings = st.one_of(
    st.builds(FrameSampling, frames),
    st.builds(FrameSampling, frames, method=st.sampled_from(["dense", "window"]), stride=st.integers(1, 20)),
)
keys = st.builds(RandomKey, st.integers(0, 2**64 - 1), st.integers(0, 1000), st.text(max_size=30), st.integers(0, 9))


@pytest.mark.parametrize("row", PUBLISHED.split())
def test_evaluation_frames_are_the_published_ones(row):
    shape, digest = row.split(":")
    source, num_frames, num_clips = map(int, shape.split("x"))
    sampling = FrameSampling(num_frames)
    indices = [sampling.test(source, clip=clip, num_clips=num_clips).tolist() for clip in range(num_clips)]
    assert hashlib.sha256(repr(indices).encode()).hexdigest()[:8] == digest, indices


def test_evaluation_frames_of_ten_seconds():
    sampling = FrameSampling(8)
    assert sampling.test(300).tolist() == [18, 55, 93, 130, 168, 205, 242, 280]
    assert sampling.test(300, clip=0, num_clips=4).tolist() == [7, 44, 82, 119, 157, 194, 231, 269]
    assert sampling.test(1).tolist() == [0] * 8


@pytest.mark.parametrize(
    ("source", "num_frames", "first", "last"),
    [
        (300, 8, [0, 37, 75, 112, 150, 187, 224, 262], [37, 75, 112, 150, 187, 224, 262, 299]),
        (100, 8, [0, 12, 25, 37, 50, 62, 74, 87], [12, 25, 37, 50, 62, 74, 87, 99]),
        (10, 8, [0, 1, 2, 3, 4, 6, 7, 8], [1, 2, 3, 4, 6, 7, 8, 9]),
        (5, 8, [0, 0, 1, 2, 2, 2, 3, 4], [0, 1, 2, 2, 2, 3, 4, 4]),  # borders at .5 go to the even neighbour
    ],
)
def test_training_segments_are_the_published_ones(source, num_frames, first, last):
    starts, ends = segment_ranges(source, num_frames)
    assert (starts.tolist(), ends.tolist()) == (first, last)


@given(sizes, samplings, keys, st.integers(1, 10))
def test_indices_are_in_the_clip_and_in_order(source, sampling, key, num_clips):
    views = [sampling.test(source, clip=clip, num_clips=num_clips) for clip in range(num_clips)]
    for indices in [sampling.train(source, key.draws("frames")), *views]:
        assert len(indices) == sampling.num_frames
        assert indices.dtype == np.int64
        assert indices.min() >= 0
        assert indices.max() < source
        assert (np.diff(indices) >= 0).all()
    assert all((later >= earlier).all() for earlier, later in pairwise(views))


@given(sizes, samplings, keys)
def test_a_sample_depends_on_its_key_alone(source, sampling, key):
    first = sampling.train(source, key.draws("frames"))
    RandomKey(1, 2, "other").draws("frames").uniforms(5)
    assert (sampling.train(source, key.draws("frames")) == first).all()


def test_training_draws_every_frame_of_a_segment_equally():
    counts = Counter(
        int(FrameSampling(8).train(80, RandomKey(0, epoch, "clip").draws("frames"))[3]) for epoch in range(4000)
    )
    first, last = (int(border[3]) for border in segment_ranges(80, 8))
    assert sorted(counts) == list(range(first, last + 1))
    expected = 4000 / len(counts)
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 30  # chi-square, 11 degrees: p < .002


def test_every_part_of_the_key_changes_the_numbers():
    base = RandomKey(1, 2, "clip", 3)
    others = [RandomKey(9, 2, "clip", 3), RandomKey(1, 9, "clip", 3), RandomKey(1, 2, "c", 3), RandomKey(1, 2, "clip")]
    drawn = {tuple(key.draws("crop").raw(4)) for key in [base, *others]}
    drawn |= {tuple(base.draws(stream).raw(4)) for stream in STREAMS}
    assert len(drawn) == len(others) + len(STREAMS)


def test_numbers_of_a_key_stay_what_they_are():
    """They are part of a run's identity: another release of NumPy or of ours must not change them."""
    assert RandomKey(0, 0, 0).draws("order").raw(2).tolist() == [213000021201967259, 4455796210202625458]
    assert RandomKey(6666, 3, "aaaaaaaaaaa_000001_000011", 1).draws("frames").raw(2).tolist() == [
        4011545501624981113,
        9805000636360424252,
    ]


def test_distributions():
    draws = RandomKey(0, 0, "x").draws("crop")
    normals = np.array([draws.normal(7, 0.5) for _ in range(4000)])
    assert abs(normals.mean() - 7) < 0.03
    assert abs(normals.std() - 0.5) < 0.02
    uniforms = draws.uniforms(4000)
    assert abs(uniforms.mean() - 0.5) < 0.02
    assert uniforms.min() >= 0
    assert uniforms.max() < 1
    for shape in (0.3, 0.8, 1.0):
        gammas = np.array([draws.gamma_below_one(shape) for _ in range(4000)])
        assert abs(gammas.mean() - shape) < 0.08  # mean and variance of the gamma distribution are both its shape
        assert abs(gammas.var() - shape) < 0.2


def test_dense_windows():
    sampling = FrameSampling(8, method="dense", stride=16)
    assert sampling.test(300).tolist() == [93, 109, 125, 141, 157, 173, 189, 205]  # 187 frames of room, the middle
    starts = [int(sampling.test(300, clip=clip, num_clips=3)[0]) for clip in range(3)]
    assert starts == [0, 94, 187]
    assert sampling.test(50).tolist() == [0, 16, 32, 48, 49, 49, 49, 49]
    assert sampling.test(50, clip=2, num_clips=3).tolist() == [0, 16, 32, 48, 49, 49, 49, 49]
    draws = RandomKey(0, 0, 7).draws("frames")
    assert sampling.train(50, draws).tolist() == [0, 16, 32, 48, 48, 48, 48, 48]
    assert sampling.train(113, draws).tolist() == [0, 16, 32, 48, 64, 80, 96, 112], "it just fits"
    starts = {int(sampling.train(116, RandomKey(0, epoch, 7).draws("frames"))[0]) for epoch in range(200)}
    assert starts == {0, 1, 2, 3}


def test_views_come_crops_first():
    assert evaluation_views(2, 3) == tuple(View(clip, crop) for clip in (0, 1) for crop in (0, 1, 2))
    assert evaluation_views(3, 1) == (View(0, 1), View(1, 1), View(2, 1))


@given(st.sets(st.integers(0, 400), min_size=1, max_size=64), st.data())
def test_nearest_stored_frame(stored, data):
    stored = np.array(sorted(stored))
    source = int(stored[-1]) + data.draw(st.integers(1, 30))
    indices = np.array(data.draw(st.lists(st.integers(0, source - 1), min_size=1, max_size=64).map(sorted)))
    positions = nearest_stored(indices, stored)
    for index, position in zip(indices, positions, strict=True):
        distances = [abs(int(index) - int(frame)) for frame in stored]
        assert position == distances.index(min(distances))  # the nearest, and the earlier of two
    assert (np.diff(positions) >= 0).all()
    everywhere = np.arange(source)
    assert np.abs(stored[nearest_stored(everywhere, stored)] - everywhere).max() == storage_error(stored, source)


def test_sixty_four_stored_frames_of_three_hundred_are_at_most_two_off():
    stored = np.rint(np.linspace(0, 299, 64)).astype(np.int64)
    assert storage_error(stored, 300) == 2


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: FrameSampling(0), "num_frames is 0"),
        (lambda: FrameSampling(8, method="uniform"), "known: sparse, dense"),
        (lambda: FrameSampling(8, method="dense"), "stride is None"),
        (lambda: FrameSampling(8, method="dense", stride=0), "stride is 0"),
        (lambda: FrameSampling(8, stride=4), "sparse takes none"),
        (lambda: FrameSampling(8).test(300, clip=4, num_clips=4), "allowed: 0 to 3"),
        (lambda: FrameSampling(8).test(0), "a clip of 0 frames"),
        (lambda: FrameSampling(8).train(0, RandomKey(0, 0, 0).draws("frames")), "a clip of 0 frames"),
        (lambda: evaluation_views(4, 2), "1 or 3 crops"),
        (lambda: evaluation_views(0, 3), "at least 1 clip"),
        (lambda: RandomKey(-1, 0, 0), "seed of a random key is -1"),
        (lambda: RandomKey(0, 0, 2**64), "clip of a random key"),
        (lambda: nearest_stored(np.array([0]), np.array([], np.int64)), "at least one"),
        (lambda: nearest_stored(np.array([0]), np.array([3, 3])), "strictly increasing"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, says):
    with pytest.raises(UsageError, match=says):
        make()


# VideoMAE's window of 64 frames, by hand: floor(64 i / 15), the last one kept inside.
WINDOW = [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]


def test_a_window_is_spread_and_truncated():
    sampling = FrameSampling(16, method="window", stride=4)
    seen = Counter()
    for epoch in range(3000):
        indices = sampling.train(70, RandomKey(0, epoch, "clip").draws("frames"))
        assert (indices - indices[0]).tolist() == WINDOW
        seen[int(indices[0])] += 1
    assert sorted(seen) == [0, 1, 2, 3, 4, 5], "the window's end is drawn from 64 to 69"
    assert max(seen.values()) < 600


def test_the_window_of_validation_is_in_the_middle():
    sampling = FrameSampling(16, method="window", stride=4)
    assert sampling.test(300).tolist() == [118 + index for index in WINDOW]  # ends at (64 + 300) // 2
    assert sampling.test(65).tolist() == WINDOW


@pytest.mark.parametrize("source", [64, 63, 40, 6, 3, 1])
def test_a_clip_no_longer_than_its_window(source):
    """As many frames as it has strides, spread over all of it; then the last one."""
    sampling = FrameSampling(16, method="window", stride=4)
    number = source // 4
    spread = [min(int(source * i / (number - 1)), source - 1) for i in range(number)] if number > 1 else [0] * number
    expected = spread + [source - 1] * (16 - number)
    assert sampling.test(source).tolist() == expected
    assert sampling.train(source, RandomKey(0, 0, "clip").draws("frames")).tolist() == expected


@pytest.mark.parametrize(
    ("source", "starts"),
    [
        (300, [0, 14, 29, 44, 59]),  # 75 frames at stride 4, room for 59: 0, 14.75, 29.5, 44.25, 59
        (250, [0, 11, 23, 35, 47]),  # 63, 47
        (64, [0, 0, 0, 0, 0]),
    ],
)
def test_the_views_of_a_test_are_exactly_a_stride_apart(source, starts):
    sampling = FrameSampling(16, method="window", stride=4)
    for clip, start in enumerate(starts):
        expected = [4 * (start + index) for index in range(16)]
        assert sampling.test(source, clip=clip, num_clips=5).tolist() == expected
    assert len(evaluation_views(5, 3)) == 15


def test_a_short_clip_in_a_test_repeats_its_last_shown_frame():
    indices = FrameSampling(16, method="window", stride=4).test(30, clip=4, num_clips=5).tolist()
    assert indices == [0, 4, 8, 12, 16, 20, 24] + [28] * 9

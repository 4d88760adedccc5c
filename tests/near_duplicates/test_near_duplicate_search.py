"""Hashes → candidates → aligned matches → groups and proposals, against the same by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k710.near_duplicates.align import MIN_AGREEING, Match, matches
from k710.near_duplicates.candidates import NUM_BANDS, _portions, candidates, common_frames
from k710.near_duplicates.frames import STEP_S
from k710.near_duplicates.groups import Clips, best_of_each, groups_of, proposals
from k710.near_duplicates.hash_clip import VARIANTS
from k710.near_duplicates.hashed_clips import MIN_QUALITY, HashedClips, HashedFrames, video_codes
from k710.near_duplicates.hashes import distance
from k710.near_duplicates.same_bytes import same_bytes

Words = npt.NDArray[np.uint64]
TRAIN, VAL = 0, 1


def random_words(rng: np.random.Generator, *shape: int) -> Words:
    return rng.integers(0, 2**64 - 1, (*shape, 4), np.uint64, endpoint=True)


def flipped(rng: np.random.Generator, words: Words, bits: int) -> Words:
    """Each hash (n, 4) with as many bits turned over."""
    unpacked = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1)
    for row in unpacked:
        row[rng.choice(256, bits, replace=False)] ^= 1
    return np.packbits(unpacked, axis=1).view(np.uint64)


def frames_of(clips: Sequence[Words]) -> HashedFrames:
    """Clips whose every frame is usable."""
    counts = [len(clip) for clip in clips]
    step = np.concatenate([np.arange(count, dtype=np.int16) for count in counts])
    clip = np.repeat(np.arange(len(clips), dtype=np.int32), counts)
    return HashedFrames(np.concatenate(clips), clip, step, np.concatenate([[0], np.cumsum(counts)]))


def videos(count: int) -> npt.NDArray[np.int32]:
    return np.arange(count, dtype=np.int32)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(0, NUM_BANDS - 1), st.booleans())
def test_every_pair_within_the_bands_is_found(seed, num_clips, bits, both_ways):
    """Whatever differs in fewer bits than there are bands agrees in one of them."""
    rng = np.random.default_rng(seed)
    clips = [random_words(rng, rng.integers(1, 6)) for _ in range(num_clips)]
    for _ in range(num_clips):
        one, other = rng.integers(0, num_clips, 2)
        clips[other][-1:] = flipped(rng, clips[one][:1], int(rng.integers(0, bits + 1)))
    frames, video = frames_of(clips), (videos(num_clips) // 2).astype(np.int32)
    found = candidates(frames, frames, video, max_bits=bits, both_ways=both_ways)
    expected = set()
    for a in range(num_clips):
        for b in range(num_clips):
            apart = video[a] != video[b] if both_ways else video[a] < video[b]
            if apart and distance(clips[a][:, None], clips[b][None]).min() <= bits:
                expected.add((a, b))
    assert [tuple(pair) for pair in found.tolist()] == sorted(expected)


def test_beyond_the_bands_a_clip_of_many_frames_is_found():
    """At 31 bits a frame is found with 0.6, so one of twenty always."""
    rng = np.random.default_rng(0)
    originals = [random_words(rng, 20) for _ in range(50)]
    frames = frames_of([*originals, *(flipped(rng, clip, 31) for clip in originals)])
    found = candidates(frames, frames, videos(100), max_bits=31)
    assert found.tolist() == [[n, n + 50] for n in range(50)]
    assert not len(candidates(frames, frames, videos(100), max_bits=30))
    assert not len(candidates(frames, frames, np.tile(videos(50), 2), max_bits=31)), "clips of one video are no pair"


def test_it_does_not_matter_how_many_are_looked_at_at_once(monkeypatch):
    rng = np.random.default_rng(8)
    clips = [random_words(rng, 6) for _ in range(40)]
    for n in range(0, 40, 4):
        for other in (1, 2, 3):
            clips[n + other][:3] = flipped(rng, clips[n][:3], 9)
    frames = frames_of(clips)
    expected = candidates(frames, frames, videos(40), max_bits=20)
    assert len(expected) == 10 * 6
    for at_once in (1, 2, 7, 50):
        monkeypatch.setattr("k710.near_duplicates.candidates._PAIRS_AT_ONCE", at_once)
        monkeypatch.setattr("k710.near_duplicates.candidates._ENTRIES_AT_ONCE", 3 * at_once)
        assert candidates(frames, frames, videos(40), max_bits=20).tolist() == expected.tolist()


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 60))
def test_portions_leave_out_nothing_that_meets_and_take_nothing_twice(counts, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("k710.near_duplicates.candidates._PAIRS_AT_ONCE", at_once)
        parts = list(_portions(np.array(counts, np.int64)))
    taken = [number for part in parts for number in range(part.start, part.stop)]
    assert taken == sorted(set(taken))
    assert {number for number, count in enumerate(counts) if count} <= set(taken)
    assert all(part.stop == part.start + 1 or sum(counts[part]) <= at_once for part in parts)


def test_no_clips_and_no_frames():
    empty = frames_of([np.zeros((0, 4), np.uint64), np.zeros((0, 4), np.uint64)])
    assert candidates(empty, empty, videos(2), max_bits=31).shape == (0, 2)
    assert common_frames(empty).shape == (0,)


def test_a_frame_in_very_many_clips_is_common_and_makes_no_pairs():
    rng = np.random.default_rng(1)
    card = random_words(rng, 1)
    clips = [np.concatenate([random_words(rng, 5), flipped(rng, card, n % 4), card]) for n in range(60)]
    clips[1][:5] = flipped(rng, clips[0][:5], 8)
    frames = frames_of(clips)
    common = common_frames(frames, max_clips=20)
    assert set(frames.step[common].tolist()) <= {5, 6}
    assert common.sum() >= 100
    assert not common_frames(frames, max_clips=60).any()
    telling = frames.only(~common)
    found = candidates(telling, telling, videos(60), max_bits=20, max_clips=20)
    assert found.tolist() == [[0, 1]], "the clip is still found by its other frames"
    assert len(candidates(frames, frames, videos(60), max_bits=20, max_clips=1000)) == 60 * 59 / 2


def test_one_clip_that_stands_still_is_not_common():
    rng = np.random.default_rng(2)
    frames = frames_of([np.repeat(random_words(rng, 1), 480, axis=0), random_words(rng, 5)])
    assert not common_frames(frames, max_clips=5).any()


# Alignment.


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(-28, 28), st.integers(0, 30))
def test_a_shift_is_found_to_the_step(seed, shift, bits):
    rng = np.random.default_rng(seed)
    film = random_words(rng, 100)
    one = film[30:70]
    other = flipped(rng, film[30 - shift : 70 - shift], bits)  # what `one` shows now, `other` shows `shift` steps later
    frames = frames_of([one, other])
    [found] = matches(np.array([[0, 1]]), frames.even_steps(), frames, variant="plain", max_bits=40)
    assert found.shift_s == shift * STEP_S
    assert found.distance == bits
    assert found.agreeing == len([step for step in range(0, 40, 2) if 0 <= step + shift < 40])


def test_too_little_is_no_match():
    """Three seconds, and half of what lies side by side."""
    rng = np.random.default_rng(3)

    def of_common(count: int) -> list[Any]:
        one, other = random_words(rng, 40), random_words(rng, 40)
        other[40 - count :] = one[:count]  # all that lies side by side at that shift
        frames = frames_of([one, other])
        return list(matches(np.array([[0, 1]]), frames.even_steps(), frames, variant="plain", max_bits=40))

    assert of_common(2 * MIN_AGREEING - 2) == []
    assert len(of_common(2 * MIN_AGREEING)) == 1
    for count, enough in ((18, False), (22, True)):
        one, other = random_words(rng, 40), random_words(rng, 40)
        other[:count] = one[:count]
        frames = frames_of([one, other])
        found = list(matches(np.array([[0, 1]]), frames.even_steps(), frames, variant="plain", max_bits=40))
        assert bool(found) is enough, f"{count} of 40 frames"


def test_of_short_clips_three_fifths_are_enough():
    rng = np.random.default_rng(4)
    one = random_words(rng, 8)
    for kept, enough in ((4, False), (6, True)):
        frames = frames_of([one, np.concatenate([one[:kept], random_words(rng, 8 - kept)])])
        found = list(matches(np.array([[0, 1]]), frames.even_steps(), frames, variant="plain", max_bits=40))
        assert bool(found) is enough


def test_of_slow_pictures_the_nearest_shift():
    """A step off, frames agree too, and at a smaller shift there are more of them."""
    rng = np.random.default_rng(9)
    film = [random_words(rng, 1)]
    for _ in range(79):
        film.append(flipped(rng, film[-1], 10))
    whole = np.concatenate(film)
    frames = frames_of([whole[20:60], flipped(rng, whole[40:80], 3)])
    [found] = matches(np.array([[0, 1]]), frames.even_steps(), frames, variant="plain", max_bits=40)
    assert (found.shift_s, found.distance) == (-20 * STEP_S, 3)


def test_of_pictures_that_stand_still_the_least_shift():
    rng = np.random.default_rng(5)
    still = np.repeat(random_words(rng, 1), 40, axis=0)
    frames = frames_of([still, still.copy()])
    [found] = matches(np.array([[0, 1]]), frames.even_steps(), frames, variant="plain", max_bits=40)
    assert (found.shift_s, found.distance) == (0, 0)


def test_of_several_matches_of_two_clips_the_best_is_kept():
    worse, better = Match(3, 1, 9.0, 1.0, 7, "cropped"), Match(1, 3, 12.0, -1.0, 9, "plain")
    assert best_of_each([worse, better]) == [better]
    assert best_of_each([worse]) == [Match(1, 3, 9.0, -1.0, 7, "cropped")]
    assert best_of_each([]) == []


# Columns of signatures.


def test_frames_without_quality_are_left_out():
    rng = np.random.default_rng(6)
    plain, half = [random_words(rng, 5), random_words(rng, 4)], [random_words(rng, 3), random_words(rng, 2)]
    quality = [np.array([0, MIN_QUALITY, 100, MIN_QUALITY - 1, 50], np.uint8), np.array([90, 90, 0, 0], np.uint8)]
    columns = {"plain": plain, "mirrored": half, "quality": quality}
    packed = {name: [part.tobytes() for part in parts] for name, parts in columns.items()}
    column = {name: pa.chunked_array([pa.array(parts, pa.large_binary())]) for name, parts in packed.items()}
    hashed = HashedClips(pa.array(["a", "b"]), videos(2), column.__getitem__)
    frames = hashed.frames("plain")
    assert frames.step.tolist() == [1, 2, 4, 0, 1]
    assert frames.clip.tolist() == [0, 0, 0, 1, 1]
    assert frames.starts.tolist() == [0, 3, 5]
    assert np.array_equal(frames.words, np.concatenate([plain[0][[1, 2, 4]], plain[1][:2]]))
    mirrored = hashed.frames("mirrored")
    assert mirrored.step.tolist() == [2, 4, 0]
    assert np.array_equal(mirrored.words, np.concatenate([half[0][1:], half[1][:1]]))
    even = frames.even_steps()
    assert even.step.tolist() == [2, 4, 0]
    assert even.starts.tolist() == [0, 2, 3]
    assert np.array_equal(even.of(0)[0], plain[0][[2, 4]])


def test_columns_in_pieces():
    rng = np.random.default_rng(7)
    clips = [random_words(rng, n) for n in (3, 0, 2, 4)]
    rows = pa.array([clip.tobytes() for clip in clips], pa.large_binary())
    quality = pa.array([bytes([99] * len(clip)) for clip in clips], pa.large_binary())
    pieces = {
        "plain": pa.chunked_array([rows.slice(0, 1), rows.slice(1, 0), rows.slice(1, 3)]),
        "quality": pa.chunked_array([quality.slice(0, 2), quality.slice(2)]),
    }
    frames = HashedClips(pa.array(list("abcd")), videos(4), pieces.__getitem__).frames(VARIANTS[0])
    assert np.array_equal(frames.words, np.concatenate(clips))
    assert frames.starts.tolist() == [0, 3, 3, 5, 9]


def test_video_codes():
    assert video_codes(pa.array(["b", "a", "b"])).tolist() == [0, 1, 0]


# Groups and proposals.

graphs = st.integers(2, 14).flatmap(
    lambda n: st.tuples(
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda p: p[0] < p[1]), unique=True),
        st.lists(st.tuples(st.sampled_from([0, 0, 1, 2]), st.integers(0, 3)), min_size=n, max_size=n),
    )
)


@given(graphs)
def test_groups_are_the_connected_components(graph):
    pairs, clips = graph
    one, other = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    found = groups_of(len(clips), one, other).tolist()
    expected = list(range(len(clips)))
    for _ in clips:  # labels spread until nothing changes
        for a, b in pairs:
            expected[a] = expected[b] = min(expected[a], expected[b])
    assert found == expected


@given(graphs)
def test_who_gives_way_to_whom(graph):
    pairs, about = graph
    one, other = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    side, rank = (np.array([each[place] for each in about], np.int8) for place in (0, 1))
    clips = Clips(side, rank, np.zeros(len(about), np.int32), [f"{n:02d}" for n in range(len(about))])
    drop, kept = (each.tolist() for each in proposals(clips, one, other))
    dropped = {clip for clip in drop if clip >= 0}
    assert all(side[clip] == TRAIN for clip in dropped), "who is held out stays"
    for pair, loser, winner in zip(pairs, drop, kept, strict=True):
        assert {loser, winner} in (set(pair), {-1}), "a clip gives way to one that it repeats itself"
        assert winner not in dropped, "and which stays"
        sides = sorted(side[list(pair)] != TRAIN)
        assert (loser >= 0) or sides != [False, True], "every repetition across the sides is proposed"
        # Nothing that repeats anything else is left in train.
        assert sides != [False, False] or dropped & set(pair)
    leaked = {loser for loser, winner in zip(drop, kept, strict=True) if loser >= 0 and side[winner] != TRAIN}
    within = [(a, b) for a, b in pairs if side[a] == side[b] == TRAIN and not {a, b} & leaked]
    for clip in range(len(about)):
        better = [o for pair in within if clip in pair for o in pair if o != clip and (rank[o], o) < (rank[clip], clip)]
        if side[clip] == TRAIN and clip not in leaked and not set(better) - dropped:
            assert clip not in dropped, "a clip goes only in favour of one that precedes it"


def test_precedence_within_train():
    """Newest release, then the earliest span, then the id."""
    ids, one, other = ["a", "b", "c", "d"], np.array([0, 1, 2]), np.array([1, 2, 3])

    def stays(rank: list[int], start_s: list[int]) -> set[str]:
        clips = Clips(np.zeros(4, np.int8), np.array(rank, np.int8), np.array(start_s, np.int32), ids)
        return set(ids) - {ids[clip] for clip in proposals(clips, one, other)[0] if clip >= 0}

    assert stays([0, 0, 0, 0], [0, 0, 0, 0]) == {"a", "c"}
    assert stays([0, 0, 0, 0], [5, 0, 5, 5]) == {"b", "d"}
    assert stays([1, 1, 1, 0], [5, 0, 5, 5]) == {"b", "d"}
    assert stays([2, 1, 1, 0], [0, 9, 8, 9]) == {"b", "d"}


@pytest.mark.parametrize("side", [VAL, 2])
def test_held_out_clips_that_repeat_each_other_stay(side):
    clips = Clips(np.full(2, side, np.int8), np.zeros(2, np.int8), np.zeros(2, np.int32), ["a", "b"])
    drop, kept = proposals(clips, np.array([0]), np.array([1]))
    assert (drop.tolist(), kept.tolist()) == ([-1], [-1])


# Equal bytes.


def test_equal_bytes_make_all_pairs_of_other_videos():
    sha256 = pa.chunked_array([["a", "b", "a"], ["a", None, "b", None]])
    video = np.array([0, 1, 2, 0, 3, 1, 4], np.int32)
    found = same_bytes(sha256, video, precedence=lambda clip: (clip,))
    assert [(match.clip, match.other) for match in found] == [(0, 2), (2, 3)], "no pair of one video, none of no hash"
    assert {(match.distance, match.shift_s, match.variant) for match in found} == {(0.0, 0.0, "same bytes")}


def test_of_very_many_equal_clips_the_same_ones_go():
    """One placeholder under thousands of names makes no millions of pairs, and nothing else is proposed."""
    count = 60
    rng = np.random.default_rng(0)
    sha256, video = pa.chunked_array([["placeholder"] * count]), np.arange(count, dtype=np.int32)
    for held_out in (0, 3):
        side = np.zeros(count, np.int8)
        side[:held_out] = 1
        clips = Clips(
            rng.permutation(side),
            rng.integers(0, 4, count).astype(np.int8),
            np.zeros(count, np.int32),
            [f"{n:02d}" for n in range(count)],
        )
        dropped = []
        for max_clips in (count, count - 1):
            found = same_bytes(sha256, video, precedence=clips.precedence, max_clips=max_clips)
            pairs = np.array([(match.clip, match.other) for match in found])
            dropped.append(set(proposals(clips, *pairs.T)[0].tolist()) - {-1})
        assert len(found) < 2 * count
        assert dropped[0] == dropped[1], "few pairs propose what all pairs propose"
        assert len(dropped[0]) == count - max(held_out, 1)

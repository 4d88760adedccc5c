"""Candidates: pairs of clips with frames whose hashes agree in a part of their bits and are near in all of them.

The 256 bits are divided into bands. Frames whose hashes agree in a whole band share a bucket, and only these frames are
compared. Hashes that differ in fewer bits than there are bands always agree in some band. With more differing bits they
agree by chance. A copy has many frames and needs one: at 31 bits, a frame is found with probability 0.6, one of twelve
frames with 0.9999.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from k710.near_duplicates.hashed_clips import HashedFrames, Ints32
from k710.near_duplicates.hashes import HASH_BITS, HASH_WORDS, Words, distance

NUM_BANDS = 12
# A bucket with more clips than this holds a title card, an intro or a test picture.
MAX_CLIPS_IN_BUCKET = 500
_MAX_KEY_BITS = 22
_PAIRS_AT_ONCE = 1 << 20
_ENTRIES_AT_ONCE = 1 << 19
_FACTORS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64
)  # odd numbers with well-mixed bits

Codes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def common_frames(frames: HashedFrames, *, max_clips: int = MAX_CLIPS_IN_BUCKET) -> Mask:
    """(n,) whether each frame is too common: more than `max_clips` clips share a third of its bands.

    Without this rule, a title card in ten thousand clips would give fifty million pairs.
    """
    crowded, key_bits = np.zeros(len(frames.clip), np.uint8), _key_bits(frames)
    for band in range(NUM_BANDS):
        codes = _sorted_codes(frames.words, band, key_bits)
        crowded[_frame(codes[_crowded_keys(codes, frames.clip, key_bits, max_clips)[_key(codes)]])] += 1
    return np.asarray(crowded >= NUM_BANDS / 3)


def candidates(
    queries: HashedFrames,
    index: HashedFrames,
    video: Ints32,
    *,
    max_bits: int,
    max_clips: int = MAX_CLIPS_IN_BUCKET,
    both_ways: bool = False,
) -> Ints:
    """Pairs (n, 2) of a query clip and an index clip with frames that differ in at most `max_bits`; sorted and unique.

    `video` (clips,): clips of one video are never a pair. The clip with the lower video is the query, unless
    `both_ways`. Buckets with more than `max_clips` clips are left out.
    """
    found: list[Ints] = [np.zeros(0, np.int64)]
    num_clips, key_bits = len(video), _key_bits(index)
    for band in range(NUM_BANDS):
        of_index, of_queries = (_sorted_codes(frames.words, band, key_bits) for frames in (index, queries))
        of_queries = of_queries[~_crowded_keys(of_index, index.clip, key_bits, max_clips)[_key(of_queries)]]
        for query, entry in _meetings(of_queries, of_index):
            one, other = queries.clip[query], index.clip[entry]
            wanted = video[one] != video[other] if both_ways else video[one] < video[other]
            near = _near(queries.words, index.words, query[wanted], entry[wanted], max_bits)
            pairs = one[wanted][near].astype(np.int64) * num_clips + other[wanted][near]
            found.append(np.unique(pairs))
        found = [np.unique(np.concatenate(found))]
    return np.stack(np.divmod(found[0], num_clips), axis=1)


def _key_bits(frames: HashedFrames) -> int:
    """The bits of a bucket's number: enough that unrelated frames seldom share a bucket, with a small table of
    buckets."""
    return int(np.clip(np.ceil(np.log2(max(len(frames.clip), 2))), 8, _MAX_KEY_BITS))


def _sorted_codes(words: Words, band: int, key_bits: int) -> Codes:
    """(n,) for every hash its bucket in the band (high bits) and the number of the hash (low bits), sorted."""
    mixed = np.zeros(len(words), np.uint64)
    for word, mask in enumerate(_masks(band)):
        mixed += (words[:, word] & mask) * _FACTORS[word]
    mixed ^= mixed >> np.uint64(29)
    mixed *= _FACTORS[0]
    codes: Codes = mixed >> np.uint64(64 - key_bits) << np.uint64(32)
    codes |= np.arange(len(words), dtype=np.uint64)
    codes.sort()
    return codes


def _masks(band: int) -> list[np.uint64]:
    """The bits of the band in each word: every NUM_BANDS-th bit, so that a band has low and high frequencies."""
    bits = [bit for bit in range(HASH_BITS) if bit % NUM_BANDS == band]
    return [np.uint64(sum(1 << bit % 64 for bit in bits if bit // 64 == word)) for word in range(HASH_WORDS)]


def _key(codes: Codes) -> Ints:
    return (codes >> np.uint64(32)).astype(np.int64)


def _frame(codes: Codes) -> Ints:
    return (codes & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _crowded_keys(codes: Codes, clip: Ints32, key_bits: int, max_clips: int) -> Mask:
    """(2^key_bits,) whether a bucket holds more than `max_clips` clips. The frames of a clip are adjacent in a
    bucket."""
    keys, clips = _key(codes), clip[_frame(codes)]
    new = np.ones(len(codes), bool)
    new[1:] = (keys[1:] != keys[:-1]) | (clips[1:] != clips[:-1])
    crowded: Mask = np.bincount(keys[new], minlength=1 << key_bits) > max_clips
    return crowded


def _meetings(queries: Codes, index: Codes) -> Iterator[tuple[Ints, Ints]]:
    """The pairs (query frame, index frame) of each bucket, in portions."""
    for begin in range(0, len(queries), _ENTRIES_AT_ONCE):
        part = queries[begin : begin + _ENTRIES_AT_ONCE]
        keys = part >> np.uint64(32) << np.uint64(32)
        first = np.searchsorted(index, keys)
        counts = np.searchsorted(index, keys | np.uint64(0xFFFFFFFF), side="right") - first
        frames = _frame(part)
        for some in _portions(counts):
            many = counts[some]
            ends = np.cumsum(many)
            place = np.arange(ends[-1]) + np.repeat(first[some] - (ends - many), many)
            yield np.repeat(frames[some], many), _frame(index[place])


def _portions(counts: Ints) -> Iterator[slice]:
    """Parts of the queries that have about _PAIRS_AT_ONCE meetings each; those without any are left out at the ends."""
    ends = np.cumsum(counts)
    begin, done = 0, 0
    while begin < len(counts) and ends[-1] > done:
        end = max(int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right")), begin + 1)
        if ends[end - 1] > done:
            yield slice(begin, end)
        begin, done = end, int(ends[end - 1])


def _near(one: Words, other: Words, query: Ints, entry: Ints, max_bits: int) -> Ints:
    """The pairs of rows of two tables of hashes that differ in at most `max_bits`."""
    # The first half of the words excludes nearly all unrelated pairs at half the cost.
    some = np.flatnonzero(distance(one[query, :2], other[entry, :2]) <= max_bits)
    near: Ints = some[distance(one[query[some]], other[entry[some]]) <= max_bits]
    return near

"""Clips whose stored bytes are equal. They certainly have the same footage, even if it shows little detail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k710.near_duplicates.align import Match
from k710.near_duplicates.hashed_clips import Ints32

SAME_BYTES = "same bytes"
# n equal clips make n * (n - 1) / 2 pairs. Above this number, each clip is paired with only two of them.
MAX_CLIPS_IN_ALL_PAIRS = 500


def same_bytes(
    sha256: pa.ChunkedArray,
    video: Ints32,
    *,
    precedence: Callable[[int], Any],
    max_clips: int = MAX_CLIPS_IN_ALL_PAIRS,
) -> list[Match]:
    """A Match at distance 0 for each pair of clips (by number) with equal bytes and different videos.

    `sha256` (clips,) of each clip's bytes. `video` (clips,) is equal for clips of one YouTube ID. `precedence`: the
    clip with the smallest value stays. If more than `max_clips` clips are equal, each is paired only with the first of
    them and with the first of another video; the proposals are the same.
    """
    found = [Match(*pair, 0.0, 0.0, 0, SAME_BYTES) for pair in _pairs(sha256, video, precedence, max_clips)]
    return sorted(found)


def same_bytes_across(sha256: pa.ChunkedArray, video: Ints32, num_first: int) -> list[Match]:
    """A Match for each of the first `num_first` clips whose bytes are those of a later clip of another video.

    Of several such clips, it is the first. `sha256` and `video` (clips,) as for `same_bytes`.
    """
    found = []
    for clips in _equal(sha256):
        later = [clip for clip in clips if clip >= num_first]
        for clip in (clip for clip in clips if clip < num_first):
            other = next((other for other in later if video[other] != video[clip]), None)
            if other is not None:
                found.append(Match(clip, other, 0.0, 0.0, 0, SAME_BYTES))
    return sorted(found)


def _pairs(
    sha256: pa.ChunkedArray, video: Ints32, precedence: Callable[[int], Any], max_clips: int
) -> Iterator[tuple[int, int]]:
    for clips in _equal(sha256):
        ordered = sorted(clips, key=precedence)
        firsts = ordered if len(ordered) <= max_clips else _two_videos(ordered, video)
        seen: set[int] = set()
        for first in firsts:
            seen.add(first)
            for clip in ordered:
                if clip not in seen and video[clip] != video[first]:
                    yield min(first, clip), max(first, clip)


def _two_videos(clips: Sequence[int], video: Ints32) -> list[int]:
    """The first clip, and the first clip of another video if there is one."""
    return [clips[0], *[clip for clip in clips if video[clip] != video[clips[0]]][:1]]


def _equal(sha256: pa.ChunkedArray) -> Iterator[list[int]]:
    """The clips of each hash that two or more clips have."""
    table = pa.table({"sha256": sha256, "clip": pa.array(range(len(sha256)), pa.int64())})
    groups = table.filter(pc.is_valid(table["sha256"])).group_by("sha256").aggregate([("clip", "list")])
    several = pc.greater(pc.list_value_length(groups["clip_list"]), 1)
    yield from groups.filter(several)["clip_list"].to_pylist()

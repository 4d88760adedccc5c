"""Pairs → groups of connected clips, and for each pair the clip to drop and the clip that stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from k710.near_duplicates.align import Match

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
TRAIN = 0  # the index of "train" in SPLITS


@dataclass(frozen=True)
class Clips:
    """The values that decide between clips, (clips,) each: the side (an index into SPLITS), the rank of the release (0
    is the newest), the start of the span, and the clip ID."""

    side: npt.NDArray[np.int8]
    rank: npt.NDArray[np.int8]
    time_start_s: npt.NDArray[np.int32] | npt.NDArray[np.float64]
    clip_id: Sequence[str]

    def precedence(self, clip: int) -> tuple[bool, int, float, str]:
        """A sort key; the first clip stays. Holdout comes before train, then newest release, earliest span, clip ID."""
        return self.side[clip] == TRAIN, int(self.rank[clip]), float(self.time_start_s[clip]), self.clip_id[clip]


def best_of_each(matches: Sequence[Match]) -> list[Match]:
    """One match per pair of clips, with `clip` < `other`: the one with the most agreeing frames, then the nearest."""
    best: dict[tuple[int, int], Match] = {}
    for match in matches:
        if match.clip > match.other:
            match = match._replace(clip=match.other, other=match.clip, shift_s=-match.shift_s)
        key = match.clip, match.other
        if key not in best or _quality(match) > _quality(best[key]):
            best[key] = match
    return [best[key] for key in sorted(best)]


def _quality(match: Match) -> tuple[int, float, str]:
    return match.agreeing, -match.distance, match.variant


def groups_of(num_clips: int, one: Ints, other: Ints) -> Ints:
    """(clips,) the lowest clip that is connected with each clip by pairs (one, other); the clip itself without a
    pair."""
    root = list(range(num_clips))

    def find(clip: int) -> int:
        while root[clip] != clip:
            root[clip] = root[root[clip]]
            clip = root[clip]
        return clip

    for a, b in zip(one.tolist(), other.tolist(), strict=True):
        low, high = sorted((find(a), find(b)))
        root[high] = low
    return np.array([find(clip) for clip in range(num_clips)], np.int64)


def proposals(clips: Clips, one: Ints, other: Ints) -> tuple[Ints, Ints]:
    """For each pair (one, other) the clip to drop and the clip that stays; -1 if nothing is proposed.

    A train clip is dropped if it repeats a holdout clip. Among the other train clips the precedence decides: newest
    release, earliest span, clip ID. From the best clip down, a clip stays unless it repeats a clip that stays. Holdout
    clips always stay, because a benchmark must stay as published.
    """
    drop, kept = np.full(len(one), -1, np.int64), np.full(len(one), -1, np.int64)
    one_train, other_train = clips.side[one] == TRAIN, clips.side[other] == TRAIN
    for is_loser, loser, winner in ((one_train & ~other_train, one, other), (other_train & ~one_train, other, one)):
        drop[is_loser], kept[is_loser] = loser[is_loser], winner[is_loser]
    leaks = np.zeros(len(clips.side), bool)
    leaks[drop[drop >= 0]] = True
    within = one_train & other_train & ~leaks[one] & ~leaks[other]
    stays = _staying(clips, one[within], other[within])
    for loser, winner in ((one, other), (other, one)):
        loses = within & ~stays[loser] & stays[winner]
        drop[loses], kept[loses] = loser[loses], winner[loses]
    return drop, kept


def _staying(clips: Clips, one: Ints, other: Ints) -> Mask:
    stays = np.ones(len(clips.side), bool)
    neighbours: dict[int, list[int]] = {}
    for a, b in zip(one.tolist(), other.tolist(), strict=True):
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)

    decided: set[int] = set()
    for clip in sorted(neighbours, key=clips.precedence):
        stays[clip] = not any(other in decided and stays[other] for other in neighbours[clip])
        decided.add(clip)
    return stays

"""Compare the frames of two clips at every shift in time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from k710.near_duplicates.candidates import Ints
from k710.near_duplicates.frames import STEP_S
from k710.near_duplicates.hashed_clips import HashedFrames
from k710.near_duplicates.hashes import distance

# The number of frames, half a second apart, that must agree: three seconds. In shorter clips, three fifths of the
# frames.
MIN_AGREEING = 6
MIN_OF_SHORT, _SHARE_OF_SHORT = 3, 0.6
# The share of the frames that overlap at that shift.
MIN_AGREEING_SHARE = 0.5


class Match(NamedTuple):
    """Two clips with the same footage: `other` shows the content of `clip` `shift_s` later.

    `distance`: the mean number of bits in which agreeing frames differ; `agreeing`: the number of these frames.
    """

    clip: int
    other: int
    distance: float
    shift_s: float
    agreeing: int
    variant: str


def matches(pairs: Ints, queries: HashedFrames, index: HashedFrames, *, variant: str, max_bits: int) -> Iterator[Match]:
    """The candidates (n, 2) that agree at some shift, each at its best shift."""
    for clip, other in pairs.tolist():
        if found := _best_shift(clip, other, queries, index, max_bits):
            yield Match(clip, other, *found, variant)


def _best_shift(
    clip: int, other: int, queries: HashedFrames, index: HashedFrames, max_bits: int
) -> tuple[float, float, int] | None:
    (words, steps), (other_words, other_steps) = queries.of(clip), index.of(other)
    bits = distance(words[:, None], other_words[None]).astype(np.int64).ravel()
    shifts = (other_steps[None].astype(np.int64) - steps[:, None]).ravel()
    lowest = int(shifts.min())
    agrees, place = bits <= max_bits, shifts - lowest
    compared = np.bincount(place)
    agreeing = np.bincount(place, agrees, len(compared))
    # Every agreeing frame adds to the score, a nearer frame more: one step off, frames still agree, but less.
    score = np.bincount(place, np.where(agrees, max_bits + 1 - bits, 0), len(compared))
    possible = min(len(steps), -(-len(other_steps) // 2))
    needed = max(MIN_OF_SHORT, min(MIN_AGREEING, int(np.ceil(_SHARE_OF_SHORT * possible))))
    score[(agreeing < needed) | (agreeing < MIN_AGREEING_SHARE * compared)] = 0
    # Of equal scores the smallest shift, as in a clip where nothing moves.
    order = np.lexsort((np.abs(np.arange(len(score)) + lowest), -score))
    best = int(order[0])
    if not score[best]:
        return None
    mean_bits = float(bits[agrees & (place == best)].mean())
    return mean_bits, (best + lowest) * STEP_S, int(agreeing[best])

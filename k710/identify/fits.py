"""Which published list some clips are: how many of them are in each, and whether that tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from k710.curation.overlap import List

Masks = Mapping[int, int]  # how many things are in exactly these lists

CLIP, VIDEO, MARK = "clip", "video", "mark"
# One list is believed before another when so many things speak for it, and this many times as many as for the other, as
# in a vote on the order of a head.
LEAST, TIMES = 5, 3
_WHOLE = 0.9  # of a list that is had nearly whole
_RIVAL = 0.5


@dataclass(frozen=True)
class Fit:
    """How some clips fit a list: `here` of the `size` things of the list are among `total` things. Things are clips,
    videos, or marks of videos."""

    list: List
    by: str
    size: int
    here: int
    total: int

    @property
    def missing(self) -> int:
        return self.size - self.here

    @property
    def share_of_list(self) -> float:
        return self.here / self.size if self.size else 0.0

    @property
    def share_of_copy(self) -> float:
        return self.here / self.total if self.total else 0.0

    @property
    def likeness(self) -> float:
        """Things in both over things in either: 1 for the list itself."""
        return self.here / (self.size + self.total - self.here) if self.size else 0.0


@dataclass(frozen=True)
class Verdict:
    """The list that the clips are of: `best`, None where the clips do not tell; then `tied` are those that it can be,
    and `why` says it."""

    best: Fit | None
    tied: tuple[Fit, ...] = ()
    why: str = ""


def fits_of(lists: Sequence[List], listed: Masks, found: Masks, total: int, by: str) -> list[Fit]:
    """The lists that have any of these things, the most alike first. `listed` counts all things of the lists, and
    `found` those that are here, by the lists that they are in: a bit for each of `lists`. `total` are all that are
    here."""
    fits = []
    for bit, name in enumerate(lists):
        size, here = (sum(count for mask, count in masks.items() if mask >> bit & 1) for masks in (listed, found))
        if here:
            fits.append(Fit(name, by, size, here, total))
    return sorted(fits, key=lambda fit: (-fit.likeness, lists.index(fit.list)))


def verdict_of(fits: Sequence[Fit], lists: Sequence[List], listed: Masks, found: Masks) -> Verdict:
    """Which list it is. Every rival that has half as many of the things must be told apart, see `_beats`; and half of
    the things must be in the list."""
    if not fits:
        return Verdict(None, (), "none of them is in a known list")
    rivals = [fit for fit in fits if fit.here >= _RIVAL * max(each.here for each in fits)]
    wins = {fit.list: sum(_beats(fit, other, lists, listed, found) for other in rivals) for fit in rivals}
    best = max(rivals, key=lambda fit: (wins[fit.list], fit.likeness))
    tied = [other for other in rivals if other is not best and not _beats(best, other, lists, listed, found)]
    if best.here < LEAST:
        return Verdict(None, (best, *tied), f"only {best.here} of them in a known list, which tells nothing")
    if tied:
        names = " or ".join(" ".join(fit.list) for fit in (best, *tied))
        return Verdict(None, (best, *tied), f"{names}: what is here does not tell them apart")
    if best.share_of_copy < _RIVAL:
        share = f"{100 * best.share_of_copy:.1f} %"
        return Verdict(None, (best,), f"most are in none of the lists; the most, {share}, are in {' '.join(best.list)}")
    return Verdict(best)


def _beats(one: Fit, other: Fit, lists: Sequence[List], listed: Masks, found: Masks) -> bool:
    """Whether things that are here tell one list from another.

    They do if more of them are in the one alone. They do too if they would be a strange choice from the other: hardly
    any is among those of its things that the one lacks. Last, one list may be here nearly whole and the other not.
    """
    if one is other:
        return False
    bits = [1 << lists.index(fit.list) for fit in (one, other)]
    here, there = ([_alone(masks, bits[k], bits[1 - k]) for k in (0, 1)] for masks in (found, listed))
    if here[0] >= max(LEAST, TIMES * here[1]):
        return True
    if here[1] >= max(LEAST, TIMES * here[0]):
        return False
    expected = [fit.here * alone / fit.size for fit, alone in zip((one, other), there, strict=True)]
    strange = [many >= LEAST and TIMES * few < many for many, few in zip(expected, here, strict=True)]
    if strange[0] != strange[1]:
        return strange[1]
    return one.share_of_list >= _WHOLE > other.share_of_list


def _alone(masks: Masks, bit: int, other: int) -> int:
    return sum(count for mask, count in masks.items() if mask & bit and not mask & other)


def counted_masks(counter: Counter[int], masks: npt.NDArray[np.uint64]) -> None:
    """Count things by their masks."""
    for mask, count in zip(*(part.tolist() for part in np.unique(masks, return_counts=True)), strict=True):
        counter[mask] += count

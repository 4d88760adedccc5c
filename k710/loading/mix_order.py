"""In which order the clips of a mix are seen: the law of EpochOrder, with a number of draws for each member.

An epoch has `num_draws` draws of each member, and one permutation of all of them. Like every order, it is a pure
function of (seed, epoch, samples consumed).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from k710.engine.part import Share
from k710.loading.order import EpochOrder, Sample
from k710.random_key import Ints, RandomKey


@dataclass(frozen=True)
class Part:
    """A member's part of an epoch: `num_draws` of its `num_clips` clips."""

    name: str
    num_clips: int
    num_draws: int

    def draws(self, seed: int, epoch: int) -> tuple[Ints, Ints]:
        """(num_draws,) the clips drawn in an epoch, from 0, and for how many times each has been drawn before in it.

        Each clip comes num_draws // num_clips times. The rest goes through one permutation after another, an epoch
        going on where the last one ended, so that no clip comes twice before all others have come once.
        """
        whole, rest = divmod(self.num_draws, self.num_clips)
        clips = [np.tile(np.arange(self.num_clips, dtype=np.int64), whole)]
        before = [np.repeat(np.arange(whole, dtype=np.int64), self.num_clips)]
        begin, end = epoch * rest, (epoch + 1) * rest
        first_round = begin // self.num_clips
        for number in range(first_round, -(-end // self.num_clips)):
            start = number * self.num_clips
            order = np.argsort(self._numbers(seed, number), kind="stable")
            piece = order[max(begin - start, 0) : end - start]
            clips.append(piece)
            before.append(np.full(len(piece), whole + number - first_round))
        return np.concatenate(clips), np.concatenate(before)

    def _numbers(self, seed: int, number: int) -> np.ndarray:
        return RandomKey(seed, number, f"mix:{self.name}").draws("order").raw(self.num_clips)


@dataclass(frozen=True)
class MixOrder(EpochOrder):
    """The order of a mix of `parts`; `num_clips` is the number of draws of an epoch. Samples count the clips of all
    members, one member after another.

    A clip that is drawn again in an epoch goes on counting its repeats, so that its frames and its crop are others.
    """

    parts: tuple[Part, ...] = ()

    @classmethod
    def of(cls, parts: Sequence[Part], seed: int, num_repeats: int) -> MixOrder:
        """The order of these parts. Raises UsageError for an epoch without a draw."""
        return cls(sum(part.num_draws for part in parts), seed, num_repeats, tuple(parts))

    def batches(self, epoch: int, batch_size: int, share: Share, *, consumed: int = 0) -> Iterator[list[Sample]]:
        """As EpochOrder's."""
        clips, before = _draws(self, epoch)
        for batch in super().batches(epoch, batch_size, share, consumed=consumed):
            yield [
                Sample(int(clips[draw.clip]), epoch, int(before[draw.clip]) * self.num_repeats + draw.repeat)
                for draw in batch
            ]

    def num_drawn(self, epoch: int, start: int, stop: int) -> dict[str, int]:
        """How many of the samples `start` to `stop` of an epoch are of each member."""
        places = np.arange(start, stop) // self.num_repeats
        counts = np.bincount(_members(self, epoch)[places], minlength=len(self.parts))
        return {part.name: int(count) for part, count in zip(self.parts, counts, strict=True)}


@functools.lru_cache(maxsize=2)
def _draws(order: MixOrder, epoch: int) -> tuple[Ints, Ints]:
    """The clip of each draw of an epoch, members one after another, and how often it was drawn before in the epoch."""
    drawn = [part.draws(order.seed, epoch) for part in order.parts]
    first = np.cumsum([0, *(part.num_clips for part in order.parts)])
    clips = [clips + start for (clips, _), start in zip(drawn, first[:-1], strict=True)]
    return np.concatenate(clips), np.concatenate([before for _, before in drawn])


@functools.lru_cache(maxsize=2)
def _members(order: MixOrder, epoch: int) -> Ints:
    """The number of the member of each draw, in the order of an epoch."""
    ends = np.cumsum([part.num_draws for part in order.parts])
    return np.asarray(np.searchsorted(ends, order.permutation(epoch), side="right"), np.int64)

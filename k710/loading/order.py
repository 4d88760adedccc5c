"""In which order clips are seen: a pure function of (seed, epoch, samples consumed).

The samples of an epoch have one global order, whatever the number of ranks and workers. A global batch is the next
piece of that order; ranks share it out between them. So a position is one number, the samples consumed, and a run
resumes exactly on another world size: nothing is repeated, nothing is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from k710.engine.part import Share
from k710.errors import UsageError
from k710.random_key import Ints, RandomKey


class Sample(NamedTuple):
    """One look at a clip: what a dataset loads. `clip` is the clip's position in the dataset.

    In training `epoch` and `repeat` complete the random key; in evaluation `view` is the number of the view.
    """

    clip: int
    epoch: int = 0
    repeat: int = 0
    view: int = 0


@dataclass(frozen=True)
class EpochOrder:
    """The order of one epoch's samples. The `num_repeats` samples of a clip are neighbours.

    Neighbours can be decoded once. The released trainers do the same with NUM_SAMPLE: the batch grows, and an epoch
    still reads each clip once.
    """

    num_clips: int
    seed: int
    num_repeats: int = 1

    def __post_init__(self) -> None:
        if self.num_clips < 1 or self.num_repeats < 1:
            raise UsageError(f"{self.num_clips} clips, {self.num_repeats} repeats; at least 1 of each is needed")

    @property
    def num_samples(self) -> int:
        return self.num_clips * self.num_repeats

    def permutation(self, epoch: int) -> Ints:
        """(num_clips,) positions in the dataset, in the order of the epoch. 8 bytes per clip is all that is held."""
        numbers = RandomKey(self.seed, epoch, 0).draws("order").raw(self.num_clips)
        return np.argsort(numbers, kind="stable")

    def num_batches(self, batch_size: int, *, consumed: int = 0) -> int:
        """Whole global batches from `consumed` to the end; an incomplete last one is dropped."""
        return max(self.num_samples - consumed, 0) // batch_size

    def batches(self, epoch: int, batch_size: int, share: Share, *, consumed: int = 0) -> Iterator[list[Sample]]:
        """This rank's part of each global batch of `batch_size` samples, from the position `consumed` on.

        Raises UsageError where ranks would get parts of different sizes: gradients are averaged over ranks.
        """
        _check_batch(batch_size, share)
        if not 0 <= consumed <= self.num_samples:
            raise UsageError(f"{consumed} samples consumed; an epoch has {self.num_samples}")
        order = self.permutation(epoch)
        for number in range(self.num_batches(batch_size, consumed=consumed)):
            start = consumed + number * batch_size
            positions = share.of(start, start + batch_size)
            yield [Sample(int(order[p // self.num_repeats]), epoch, p % self.num_repeats) for p in positions]


def evaluation_batches(
    num_clips: int, num_views: int, batch_size: int, share: Share, *, only: Ints | None = None
) -> Iterator[list[Sample]]:
    """This rank's batches of at most `batch_size` views: over all ranks every view exactly once, nothing padded.

    Ranks share out whole clips, so all views of a clip meet on one rank and can be averaged there. The last batch of a
    rank may be short, and ranks may have different numbers of batches: wrap no collective around a batch. `only`: the
    positions of so many clips in the dataset, where they are not all.
    """
    _check_views(num_clips, num_views, batch_size)
    clips = share.of(0, num_clips)
    positions = range(clips.start * num_views, clips.stop * num_views)
    for start in range(0, len(positions), batch_size):
        part = positions[start : start + batch_size]
        clips_of = [p // num_views if only is None else int(only[p // num_views]) for p in part]
        yield [Sample(clip, view=p % num_views) for clip, p in zip(clips_of, part, strict=True)]


class TrainBatches(Sampler[list[Sample]]):
    """A batch sampler for torch's DataLoader, with a position that can be saved.

    `batch_size` is the global one: all ranks, all pieces of a step that accumulates gradients. Iterating yields this
    rank's batches from the position to the end of the epoch. It does not move the position, since a loader reads ahead
    of the training; `step()`, after each optimiser step, moves it. `num_pieces` cuts a rank's part of a batch into that
    many batches of equal size. Raises UsageError for a batch size that ranks and pieces do not
    divide, and for a dataset smaller than one batch.
    """

    def __init__(self, order: EpochOrder, *, batch_size: int, share: Share | None = None, num_pieces: int = 1) -> None:
        share = share or Share()
        _check_batch(batch_size, share, num_pieces)
        if order.num_samples < batch_size:
            raise UsageError(
                f"an epoch of {order.num_samples} samples is smaller than one batch of {batch_size}; "
                f"a batch can have at most {order.num_samples}"
            )
        self.order, self.batch_size, self.share, self.num_pieces = order, batch_size, share, num_pieces
        self.epoch = self.consumed = 0

    def __iter__(self) -> Iterator[list[Sample]]:
        for batch in self.order.batches(self.epoch, self.batch_size, self.share, consumed=self.consumed):
            size = len(batch) // self.num_pieces
            yield from (batch[start : start + size] for start in range(0, len(batch), size))

    def __len__(self) -> int:
        return self.order.num_batches(self.batch_size, consumed=self.consumed) * self.num_pieces

    def step(self) -> None:
        """One global batch has been trained on. At the end of an epoch, the position is the start of the next."""
        self.consumed += self.batch_size
        if not self.order.num_batches(self.batch_size, consumed=self.consumed):
            self.epoch, self.consumed = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """The position, with the seed, clips and repeats of its order; the same on every rank."""
        order = self.order
        facts = {"seed": order.seed, "num_clips": order.num_clips, "num_repeats": order.num_repeats}
        return {"epoch": self.epoch, "consumed": self.consumed, **facts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position; batch size, ranks and pieces may differ from those it was saved with.

        Raises UsageError for a position in another order: other seed, clips or repeats.
        """
        for name in ("seed", "num_clips", "num_repeats"):
            if state[name] != getattr(self.order, name):
                raise UsageError(f"the saved position has {name} {state[name]}, this run {getattr(self.order, name)}")
        self.epoch, self.consumed = int(state["epoch"]), int(state["consumed"])
        # The rest of the epoch may be less than a batch of the new size.
        if not self.order.num_batches(self.batch_size, consumed=self.consumed):
            self.epoch, self.consumed = self.epoch + 1, 0


class EvaluationBatches(Sampler[list[Sample]]):
    """A batch sampler over every view of every clip, once over all ranks; see `evaluation_batches`."""

    def __init__(
        self, num_clips: int, *, num_views: int, batch_size: int, share: Share | None = None, only: Ints | None = None
    ) -> None:
        _check_views(num_clips, num_views, batch_size)
        self.num_clips, self.num_views, self.batch_size = num_clips, num_views, batch_size
        self.share, self.only = share or Share(), only

    def __iter__(self) -> Iterator[list[Sample]]:
        return evaluation_batches(self.num_clips, self.num_views, self.batch_size, self.share, only=self.only)

    def __len__(self) -> int:
        return -(-len(self.share.of(0, self.num_clips)) * self.num_views // self.batch_size)


def _check_views(num_clips: int, num_views: int, batch_size: int) -> None:
    if num_clips < 0 or num_views < 1 or batch_size < 1:
        raise UsageError(f"{num_clips} clips, {num_views} views, batches of {batch_size}; at least 0, 1 and 1")


def _check_batch(batch_size: int, share: Share, num_pieces: int = 1) -> None:
    if batch_size < 1 or num_pieces < 1 or batch_size % (share.world_size * num_pieces):
        raise UsageError(
            f"a global batch of {batch_size} does not divide into {share.world_size} ranks x {num_pieces} pieces; "
            f"allowed: multiples of {share.world_size * max(num_pieces, 1)}"
        )

"""Which epochs the loaders of this process have given out, to warn of one that is repeated by mistake.

A loader counts its epochs. Code that makes a new loader for each epoch gets epoch 0 every time: the same order, the
same frames, the same augmentation. Nobody would notice.
"""

from __future__ import annotations

import itertools
import warnings

from k710.errors import UsageError


class RepeatedEpochWarning(UserWarning):
    """A new loader gives out an epoch that an earlier loader of the same clips has given out."""


_given: dict[tuple[str, int], int] = {}  # by order and epoch, the number of the loader that gave it out
_numbers = itertools.count()


class EpochWatch:
    """Watches one training loader. `order` describes everything that its batches depend on, except the epoch.

    `wanted`: the user named the position at which the loader begins, so a repetition is no mistake.
    """

    def __init__(self, order: str, num_clips: int, *, wanted: bool) -> None:
        self._order, self._num_clips, self.wanted = order, num_clips, wanted
        self._number = next(_numbers)  # not id(): it is used again once a loader has gone

    def begin(self, epoch: int) -> None:
        """The loader is about to give out its first batch of `epoch`. Warns where another loader gave it out and the
        user did not ask for it."""
        repeated = _given.get((self._order, epoch), self._number) != self._number
        if repeated and not self.wanted:
            clips = f"{self._num_clips:,} {'clip' if self._num_clips == 1 else 'clips'}"
            warnings.warn(
                f"epoch {epoch} of these {clips} is given out again, with the same order, frames and augmentation: "
                f"this loader is new, and an earlier one has given out epoch {epoch}. Make the loader once, before "
                f"the loop over epochs; it counts its epochs. If epoch {epoch} is wanted again, pass epoch={epoch}",
                RepeatedEpochWarning,
                stacklevel=3,  # the loop of the user
            )
        self.wanted = True  # one warning a loader is enough

    def given(self, epoch: int, num_batches: int, *, is_whole: bool) -> None:
        """`num_batches` of `epoch` have been given out. One batch does not count: code often looks at a single one."""
        if is_whole or num_batches > 1:
            _given[(self._order, epoch)] = self._number


def warn_of_numbers() -> None:
    """Warns that training clips are loaded by number, which gives the frames of epoch 0 in every epoch."""
    warnings.warn(
        "the training clips are asked for by number, and dataset[number] is the clip as epoch 0 shows it: every epoch "
        "would show the same frames. k710.ClipLoader counts epochs; with a DataLoader of your own, let its sampler "
        "yield k710.loading.order.Sample(number, epoch)",
        RepeatedEpochWarning,
        stacklevel=3,
    )


def check_epoch(epoch: int | None, *, training: bool) -> int:
    """The epoch to begin at. Raises UsageError for one that cannot be."""
    if epoch is None:
        return 0
    if not training:
        raise UsageError("epoch belongs to training; this dataset is for evaluation, which shows the same views always")
    if epoch < 0:
        raise UsageError(f"epoch is {epoch}; epochs count from 0")
    return epoch

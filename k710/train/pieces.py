"""How a global batch is cut: over GPUs, and into pieces whose gradients are accumulated."""

from __future__ import annotations

from dataclasses import dataclass

from k710.errors import UsageError
from k710.text import counted


@dataclass(frozen=True)
class Pieces:
    """A global batch of `batch_size` clips: each of `world_size` GPUs takes `num_pieces` of `piece_size` clips."""

    batch_size: int
    world_size: int
    num_pieces: int

    @property
    def piece_size(self) -> int:
        return self.batch_size // (self.world_size * self.num_pieces)

    def __str__(self) -> str:
        accumulated = f", {self.num_pieces} times before each step" if self.num_pieces > 1 else ""
        gpus = f"{self.world_size} processes take" if self.world_size > 1 else "1 process takes"
        return f"a batch of {self.batch_size}: {gpus} {counted(self.piece_size, 'clip')} at once{accumulated}"


def cut(batch_size: int, *, gpu_batch_size: int, world_size: int) -> Pieces:
    """The fewest pieces of at most `gpu_batch_size` clips that make up the batch exactly.

    The batch, and with it the learning rate, is the recipe's on any number of GPUs. Raises UsageError where the GPUs do
    not divide it.
    """
    if batch_size % world_size:
        raise UsageError(
            f"a batch of {batch_size} does not divide into {world_size} processes; use a number of processes that "
            "divides it, or another batch: --set batch_size=N"
        )
    share = batch_size // world_size
    num_pieces = next(n for n in range(1, share + 1) if share % n == 0 and share // n <= gpu_batch_size)
    return Pieces(batch_size, world_size, num_pieces)
